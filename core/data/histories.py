"""Prepared ratings: for each one, the movies that the user had liked before, as arrays."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.data import manifest
from core.data.catalog import Entry, Latest
from core.data.parts import PARTS, save
from core.data.samples import Ratings
from core.errors import DataError
from core.files import require_room

LIKED = 3  # a rating above it is positive
NONE = 0  # in the place of a movie: the history is shorter
_ARRAYS = {"history": np.int32, "candidates": np.int32, "labels": np.int64, "samples": np.int64}
FILES = [*(f"{part}_{what}.npy" for part in PARTS for what in _ARRAYS), "genres.npy"]


@dataclass(frozen=True)
class Rows:
    """One part of N samples.

    history: N x columns, int32: the movies that the user liked before, the last one first; 0 where
    there were fewer. candidates: N, int32, the movie that is rated. labels: N, int64, 1 where the
    rating is above 3. samples: N x 2, int64: number of the user, and of the rating among the
    user's own in the order of time.
    """

    history: NDArray[np.int32]
    candidates: NDArray[np.int32]
    labels: NDArray[np.int64]
    samples: NDArray[np.int64]


@dataclass(frozen=True)
class Histories:
    """A prepared data set. genres: (movies + 1) x genres, uint8: 1 where a movie is of a genre; row
    0 stands for no movie."""

    train: Rows
    test: Rows
    genres: NDArray[np.uint8]


def prepare(entry: Entry, ratings: Ratings, columns: int, folder: Path) -> dict[str, Any]:
    """Write the arrays of both parts into `folder`, with histories of `columns` movies.

    The first rating of a user has no history, and neither have those before the first movie that
    is liked: they are no samples. Returns what the manifest says. Raises DataError for another
    number of ratings than the catalog has, StorageError when the disk is full.
    """
    assert isinstance(entry.splits, Latest)  # by the schema
    number = len(ratings.users)
    if number != entry.splits.ratings:
        raise DataError(
            f"{entry.name}: {number} ratings, the catalog expects {entry.splits.ratings}"
        )
    require_room(folder, number * (4 * columns + 28), "histories")
    parts = dict(zip(PARTS, _parts(ratings, columns, entry.splits.test), strict=True))
    genres = np.zeros((len(ratings.movies) + 1, len(ratings.genres)), np.uint8)
    for row, kinds in zip(genres[1:], ratings.kinds, strict=True):
        row[list(kinds)] = 1
    save(folder / "genres.npy", genres)
    for part, rows in parts.items():
        for what in _ARRAYS:
            save(folder / f"{part}_{what}.npy", getattr(rows, what))
    return {
        "history": columns,
        "classes": list(entry.class_names or ()),
        "movies": len(ratings.movies),
        "genres": list(ratings.genres),
        "splits": {part: {"number": len(rows.labels)} for part, rows in parts.items()},
    }


def _parts(ratings: Ratings, columns: int, test: float) -> tuple[Rows, Rows]:
    """Training and test samples, users in the order of their numbers. Of ratings in the same
    second, the movie that comes first in the list is the earlier one."""
    order = np.lexsort((ratings.items, ratings.times, ratings.users))
    users = ratings.users[order]
    found: tuple[list[Any], list[Any]] = ([], [])
    for own in np.split(order, np.flatnonzero(np.diff(users)) + 1):
        samples = list(_samples(ratings, own, columns))
        first = len(samples) - round(test * len(samples))
        found[0].extend(samples[:first])
        found[1].extend(samples[first:])
    if not all(found):
        raise DataError("there are too few ratings for a training and a test part")
    parts = []
    for part in found:
        columns_of = zip(*part, strict=True)
        types = _ARRAYS.values()
        parts.append(Rows(*(np.array(a, t) for a, t in zip(columns_of, types, strict=True))))
    return parts[0], parts[1]


def _samples(ratings: Ratings, own: NDArray[np.int64], columns: int) -> Any:
    """(history, candidate, label, sample) of one user's ratings, which are in the order of time."""
    liked: list[int] = []
    for number, index in enumerate(own):
        movie, label = int(ratings.items[index]) + 1, int(ratings.values[index] > LIKED)
        if liked:
            history = liked[: -columns - 1 : -1]
            history += [NONE] * (columns - len(history))
            yield history, movie, label, (int(ratings.users[index]), number)
        if label:
            liked.append(movie)


def open_histories(folder: Path) -> Histories:
    """The prepared data set in a folder. Everything is held against the manifest, and every movie
    against the list of movies. Raises DataError that says how to fetch again."""
    content = manifest.read(folder, "ratings")
    try:
        genres = np.load(folder / "genres.npy", allow_pickle=False)
        parts = [
            Rows(*(np.load(folder / f"{part}_{what}.npy", allow_pickle=False) for what in _ARRAYS))
            for part in PARTS
        ]
        problem = None
        if genres.shape != (content["movies"] + 1, len(content["genres"])):
            problem = f"the table of genres is {genres.shape}"
        for part, rows in zip(PARTS, parts, strict=True):
            number = content["splits"][part]["number"]
            problem = problem or difference(rows, number, content["history"], content["movies"])
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise DataError(f"{folder} is damaged ({problem}); {manifest.refetch(folder, content)}")
    return Histories(parts[0], parts[1], genres)


def difference(rows: Rows, number: int, columns: int, movies: int) -> str | None:
    """The first thing that is not as it should be."""
    shapes = {"history": (number, columns), "candidates": (number,)}
    shapes |= {"labels": (number,), "samples": (number, 2)}
    for what, dtype in _ARRAYS.items():
        array = getattr(rows, what)
        if array.dtype != dtype or array.shape != shapes[what]:
            return f"{what} are {array.dtype} {array.shape}, expected {shapes[what]}"
    for what, lowest in (("history", NONE), ("candidates", 1)):
        array = getattr(rows, what)
        if array.size and (array.min() < lowest or array.max() > movies):
            return f"{what}: a movie is outside {lowest} to {movies}"
    if rows.labels.min() < 0 or rows.labels.max() > 1:
        return "a label is neither 0 nor 1"
    return None
