"""Prepared chairs: of each image its style and view, and the image with its mask.

A generator gets style and view, and has to make image and mask. The two lie in files of their own,
so that a side which may not have the images needs none of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.data import manifest
from core.data.catalog import Entry, Fraction
from core.data.parts import PARTS, check, save
from core.data.progress import count_bar
from core.data.samples import stratified
from core.errors import DataError
from core.files import require_room, writing

CHANNELS = 4  # of an image: red, green, blue, and the mask
VIEW = 4  # numbers of a view: sine and cosine of azimuth and elevation
INPUTS = [f"{part}_inputs.npy" for part in PARTS]
IMAGES = [f"{part}_images.npy" for part in PARTS]
FILES = [*INPUTS, *IMAGES]


class Seen(NamedTuple):
    """What an image shows. id: stable between fetches. style: number of the chair. azimuth,
    elevation: in degrees."""

    id: str
    style: int
    azimuth: float
    elevation: float


class Chairs(NamedTuple):
    """A data set on its way to arrays. styles: their names. seen: every image, in an order that is
    always the same. images: some of them by their places, uint8 (size, size, 4) of that size."""

    styles: tuple[str, ...]
    seen: Sequence[Seen]
    images: Callable[[Sequence[int], int], Iterator[NDArray[np.uint8]]]


@dataclass(frozen=True)
class ChairSplit:
    """One part of a prepared data set of N images.

    inputs: N x 5, float32: number of the style, sine and cosine of azimuth and elevation.
    images: N x size x size x 4, uint8: red, green, blue and mask, mapped read-only; None where
    they were not asked for.
    ids: N names. styles: name of each style.
    """

    inputs: NDArray[np.float32]
    images: NDArray[np.uint8] | None
    ids: tuple[str, ...]
    styles: tuple[str, ...]


def row_of(style: float, azimuth: float, elevation: float) -> list[float]:
    """A row of inputs; angles in degrees. A style between two numbers is a mixture of them."""
    a, e = np.radians([azimuth, elevation])
    return [style, np.sin(a), np.cos(a), np.sin(e), np.cos(e)]


def prepare(entry: Entry, found: Chairs, size: int, folder: Path) -> dict[str, Any]:
    """Write the arrays of both parts into `folder`; what the manifest says about them.

    Raises DataError when the images are not what the catalog promises, StorageError when the disk
    is full.
    """
    assert isinstance(entry.splits, Fraction)  # by the schema
    ids, styles = [each.id for each in found.seen], [each.style for each in found.seen]
    split = stratified(ids, styles, entry.splits.test, entry.splits.seed)
    chosen = dict(zip(PARTS, split, strict=True))
    check(entry, found.styles, {name: len(places) for name, places in chosen.items()})
    splits = {
        name: _write_part(f"{entry.name} {name}", found, places, size, folder / name)
        for name, places in chosen.items()
    }
    return {"image_size": size, "styles": list(found.styles), "splits": splits}


def open_chairs(folder: Path, part: Literal["train", "test"], images: bool = True) -> ChairSplit:
    """The training or the test part of a prepared folder.

    images: False needs no file of images to be there, and opens none. Everything is held against
    the manifest except the pixels themselves. Raises DataError that says how to fetch again.
    """
    content = manifest.read(folder, "chairs", without=() if images else IMAGES)
    try:
        expected, size = content["splits"][part], content["image_size"]
        split = ChairSplit(
            np.load(folder / f"{part}_inputs.npy", allow_pickle=False),
            np.load(folder / f"{part}_images.npy", mmap_mode="r", allow_pickle=False)
            if images
            else None,
            tuple(expected["ids"]),
            tuple(content["styles"]),
        )
        problem = _difference(split, expected["number"], size)
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise DataError(
            f"{folder}: the {part} part is damaged ({problem}); {manifest.refetch(folder, content)}"
        )
    return split


def _difference(split: ChairSplit, number: int, size: int) -> str | None:
    """The first thing that is not as the manifest says."""
    inputs, shape = split.inputs, (number, 1 + VIEW)
    if inputs.dtype != np.float32 or inputs.shape != shape:
        return f"inputs are {inputs.dtype} {inputs.shape}, expected {shape} float32"
    if not np.isin(inputs[:, 0], np.arange(len(split.styles))).all():
        return f"a style is outside 0 to {len(split.styles) - 1}"
    if len(split.ids) != number:
        return f"{len(split.ids)} ids for {number} images"
    if split.images is None:
        return None
    pixels = (number, size, size, CHANNELS)
    if split.images.dtype != np.uint8 or split.images.shape != pixels:
        return f"images are {split.images.dtype} {split.images.shape}, expected {pixels} uint8"
    return None


def _write_part(
    title: str, found: Chairs, places: Sequence[int], size: int, stem: Path
) -> dict[str, Any]:
    path = stem.with_name(f"{stem.name}_images.npy")
    shape = (len(places), size, size, CHANNELS)
    require_room(path.parent, int(np.prod(shape)), path.name)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with writing(path), path.open("wb") as file, count_bar(title, len(places), "image") as bar:
        np.lib.format.write_array_header_1_0(file, header)
        for image in found.images(places, size):
            file.write(np.ascontiguousarray(image, np.uint8).tobytes())
            bar.update()
    seen = [found.seen[place] for place in places]
    rows = [row_of(each.style, each.azimuth, each.elevation) for each in seen]
    save(stem.with_name(f"{stem.name}_inputs.npy"), np.array(rows, np.float32))
    return {"number": len(seen), "ids": [each.id for each in seen]}
