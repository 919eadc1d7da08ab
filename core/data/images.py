"""Prepared images: written once as arrays that any framework can map, opened by the trainers."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.data import manifest
from core.data.catalog import Entry
from core.data.parts import PARTS, check, difference, write_labels
from core.data.progress import count_bar
from core.data.samples import Images, Part, Sample
from core.errors import DataError
from core.files import require_room, writing

FILES = [f"{part}_{what}.npy" for part in PARTS for what in ("images", "labels")]


@dataclass(frozen=True)
class Split:
    """One part of a prepared data set of N samples.

    images: N x size x size x 3, uint8 RGB, mapped read-only.
    labels: N, int64, from 0 to the number of classes minus one.
    ids: N names, the same for the same sample in every fetch.
    classes: name of each class, in the order of the labels.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    ids: tuple[str, ...]
    classes: tuple[str, ...]


def prepare(entry: Entry, images: Images, size: int, folder: Path) -> dict[str, Any]:
    """Write the arrays of both parts into `folder`, images resized to `size` pixels square.

    Returns what the manifest says about them. Raises DataError when the samples are not what the
    catalog promises, StorageError when the disk is full.
    """
    parts = {"train": images.train, "test": images.test}
    check(entry, images.classes, {name: part.number for name, part in parts.items()})
    splits = {
        name: _write_part(f"{entry.name} {name}", part, len(images.classes), size, folder / name)
        for name, part in parts.items()
    }
    return {"image_size": size, "classes": list(images.classes), "splits": splits}


def open_split(folder: Path, part: Literal["train", "test"]) -> Split:
    """The training or the test part of a prepared folder, mapped rather than read.

    Everything is held against the manifest except the pixels themselves (see `verify`). Raises
    DataError that says how to fetch again.
    """
    content = manifest.read(folder, "images")
    try:
        expected, size = content["splits"][part], content["image_size"]
        split = Split(
            images=np.load(folder / f"{part}_images.npy", mmap_mode="r", allow_pickle=False),
            labels=np.load(folder / f"{part}_labels.npy", allow_pickle=False),
            ids=tuple(expected["ids"]),
            classes=tuple(content["classes"]),
        )
        problem = _difference(split, expected, size)
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise DataError(
            f"{folder}: the {part} part is damaged ({problem}); {manifest.refetch(folder, content)}"
        )
    return split


def _difference(split: Split, expected: dict[str, Any], size: int) -> str | None:
    """The first thing that is not as the manifest says."""
    number, images = expected["number"], split.images
    if images.dtype != np.uint8 or images.shape != (number, size, size, 3):
        return f"images are {images.dtype} {images.shape}, expected {(number, size, size, 3)} uint8"
    return difference(split.labels, split.ids, len(split.classes), expected)


def _write_part(title: str, part: Part, classes: int, size: int, stem: Path) -> dict[str, Any]:
    ids: list[str] = []
    labels = np.empty(part.number, np.int64)
    path = stem.with_name(f"{stem.name}_images.npy")
    require_room(path.parent, part.number * size * size * 3, path.name)
    with writing(path):
        pixels = _reserved(path, (part.number, size, size, 3))
    with count_bar(title, part.number, "image") as bar:
        for position, sample in enumerate(_exactly(title, part)):
            if not 0 <= sample.label < classes:
                raise DataError(f"{title}: {sample.id} has label {sample.label} of {classes}")
            pixels[position] = _resized(sample.image, size)
            labels[position] = sample.label
            ids.append(sample.id)
            bar.update()
    with writing(path):
        pixels.flush()
    return write_labels(stem.with_name(f"{stem.name}_labels.npy"), labels, ids, classes)


def _exactly(title: str, part: Part) -> Iterator[Sample]:
    """The samples, which must be as many as were announced."""
    count = 0
    for count, sample in enumerate(part.samples, start=1):
        if count > part.number:
            raise DataError(f"{title}: more than the {part.number} samples announced")
        yield sample
    if count < part.number:
        raise DataError(f"{title}: {count} samples, {part.number} were announced")


def _reserved(path: Path, shape: tuple[int, ...]) -> "np.memmap[Any, np.dtype[np.uint8]]":
    """A mapped array whose place on the disk is taken now.

    Without that, a disk that fills up later would end the process with SIGBUS and no word.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _resized(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """size x size x 3, uint8. Pillow's bilinear filter widens when it shrinks: no aliasing."""
    if image.mode not in ("L", "RGB"):  # palettes and transparency cannot be interpolated
        image = image.convert("RGB")
    resized = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized.convert("RGB"), dtype=np.uint8)
