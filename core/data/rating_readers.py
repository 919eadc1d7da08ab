"""Readers of ratings of movies, one per layout; RATING_READERS finds them by name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from core.data.archive import opened
from core.data.catalog import Download, Entry, Source
from core.data.samples import Ratings
from core.errors import DataError

LOWEST, HIGHEST = 1, 5  # ratings


def read_movielens(entry: Entry, source: Source, path: Path) -> Ratings:
    """ratings.dat (user::movie::rating::time) and movies.dat (movie::title::genre|genre), Latin-1.

    Raises DataError for a file that is missing, a line that is none, and a movie that
    movies.dat does not have.
    """
    assert isinstance(source, Download)  # by the schema
    *nested, folder = source.member
    with opened(path, nested) as archive:
        names = [f"{folder}/{name}.dat" for name in ("movies", "ratings")]
        movies, ratings = (archive.read(name).decode("latin-1") for name in names)
    label = str(path)
    genres = {
        movie: kinds.split("|")
        for movie, _, kinds in _rows(movies, "::", 3, f"{label}, {names[0]}")
    }
    return _ratings(genres, _rows(ratings, "::", 4, f"{label}, {names[1]}"), f"{label}, {names[1]}")


def read_atomic(entry: Entry, source: Source, path: Path) -> Ratings:
    """NAME.item (movie, title, year, genres with blanks between) and NAME.inter (user, movie,
    rating, time): a head line, then rows with tabs. Raises DataError as `read_movielens` does."""
    assert isinstance(source, Download)  # by the schema
    *nested, stem = source.member
    tables = {}
    with opened(path, nested) as archive:
        for ending, head in (
            ("item", "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"),
            ("inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float"),
        ):
            name = f"{stem}.{ending}"
            first, _, rest = archive.read(name).decode("latin-1").partition("\n")
            if first.strip() != head:
                raise DataError(f"{path}, {name}: its head is {first[:80]!r}, expected {head!r}")
            tables[ending] = rest
    label = f"{path}, {stem}"
    rows = _rows(tables["item"], "\t", 4, f"{label}.item", first=2)
    genres = {movie: kinds.split() for movie, _, _, kinds in rows}
    return _ratings(
        genres, _rows(tables["inter"], "\t", 4, f"{label}.inter", first=2), f"{label}.inter"
    )


def _rows(
    table: str, between: str, fields: int, label: str, first: int = 1
) -> Iterator[Sequence[str]]:
    # Not splitlines: titles in Latin-1 may hold what Unicode takes for the end of a line.
    for number, line in enumerate(table.replace("\r", "").split("\n"), start=first):
        if not line.strip():
            continue
        row = line.split(between)
        if len(row) != fields:
            raise DataError(
                f"{label}, line {number}: expected {fields} fields, found {line[:60]!r}"
            )
        yield row


def _ratings(
    genres: Mapping[str, Sequence[str]], rows: Iterator[Sequence[str]], label: str
) -> Ratings:
    """Movies in the order of their numbers; rows as they come."""
    movies = sorted(genres, key=lambda name: (len(name), name))
    place = {name: index for index, name in enumerate(movies)}
    found = []
    for user, movie, rating, seconds in rows:
        if movie not in place:
            raise DataError(f"{label}: movie {movie[:20]!r} is not in the list of movies")
        try:
            row = int(user), place[movie], float(rating), int(float(seconds))
        except (ValueError, OverflowError):
            row = 0, 0, 0.0, 0
        if not (row[0] > 0 and LOWEST <= row[2] <= HIGHEST and row[3] >= 0):
            raise DataError(
                f"{label}: {'::'.join((user, movie, rating, seconds))[:60]!r} is no user, movie, "
                f"rating from {LOWEST} to {HIGHEST}, and time"
            )
        found.append(row)
    if not found:
        raise DataError(f"{label}: no ratings")
    users, items, values, times = (np.array(column) for column in zip(*found, strict=True))
    known = sorted({kind for kinds in genres.values() for kind in kinds})
    return Ratings(
        movies=tuple(movies),
        genres=tuple(known),
        kinds=tuple(tuple(known.index(kind) for kind in genres[movie]) for movie in movies),
        users=users.astype(np.int64),
        items=items.astype(np.int64),
        values=values.astype(np.float32),
        times=times.astype(np.int64),
    )


RATING_READERS: dict[str, Callable[[Entry, Source, Path], Ratings]] = {
    "movielens": read_movielens,
    "atomic": read_atomic,
}
