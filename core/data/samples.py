"""What every reader gives: class names and two parts, of images each a stream of samples."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.errors import DataError


class Sample(NamedTuple):
    """One image with its label (0 to classes - 1) and an id that is stable between fetches."""

    id: str
    label: int
    image: Image.Image


@dataclass(frozen=True)
class Part:
    """The training or the test part: how many samples, and the samples one by one."""

    number: int
    samples: Iterator[Sample]


@dataclass(frozen=True)
class Images:
    """A data set on its way to arrays."""

    classes: tuple[str, ...]
    train: Part
    test: Part


class Text(NamedTuple):
    """One text with its label (0 to classes - 1) and an id that is stable between fetches."""

    id: str
    label: int
    text: str


@dataclass(frozen=True)
class Texts:
    """A data set of texts, small enough for memory, on its way to arrays."""

    classes: tuple[str, ...]
    train: list[Text]
    test: list[Text]


@dataclass(frozen=True)
class Ratings:
    """R ratings of M movies on their way to arrays.

    movies: names, as in the source. genres: names. kinds: for each movie, positions in `genres`.
    users: R numbers above 0, as in the source. items: R positions in `movies`. values: R ratings
    from 1 to 5. times: R, in seconds.
    """

    movies: tuple[str, ...]
    genres: tuple[str, ...]
    kinds: tuple[tuple[int, ...], ...]
    users: NDArray[np.int64]
    items: NDArray[np.int64]
    values: NDArray[np.float32]
    times: NDArray[np.int64]


def decode(file: Path | IO[bytes], name: str) -> Image.Image:
    """The whole image in memory, so that damage shows here. Raises DataError that names it."""
    try:
        with Image.open(file) as image:
            image.load()
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name}: not an image, or a damaged one ({error})") from None


def stratified(
    ids: Sequence[str], labels: Sequence[int], test: float, seed: int
) -> tuple[list[int], list[int]]:
    """Positions of the training and the test samples, both in the given order.

    Every class gives the share `test` of its samples, rounded to the nearest number. Who is
    chosen depends on a hash of seed and id: the same on every machine and with every version of
    every library, which no random generator promises.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for position, label in enumerate(labels):
        members[label].append(position)
    chosen: set[int] = set()
    for positions in members.values():
        positions.sort(key=lambda position: _rank(seed, ids[position]))
        chosen.update(positions[: round(test * len(positions))])
    everyone = range(len(ids))
    return [p for p in everyone if p not in chosen], [p for p in everyone if p in chosen]


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()
