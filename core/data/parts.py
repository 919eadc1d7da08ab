"""What both parts of every prepared data set have: samples as many as promised, labels, ids."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.data.catalog import Entry, Published
from core.errors import DataError
from core.files import writing

PARTS: tuple[Literal["train", "test"], ...] = ("train", "test")


def check(entry: Entry, classes: Sequence[str], numbers: Mapping[str, int]) -> None:
    """Raises DataError unless classes and numbers of samples by part are those of the catalog."""
    if len(classes) != entry.classes:
        raise DataError(
            f"{entry.name}: {len(classes)} classes, the catalog expects {entry.classes}"
        )
    for part, number in numbers.items():
        expected = getattr(entry.splits, part) if isinstance(entry.splits, Published) else None
        if expected not in (None, number) or number == 0:
            raise DataError(
                f"{entry.name}: {number} {part} samples, the catalog expects "
                f"{expected or 'at least one'}"
            )


def write_labels(
    path: Path, labels: NDArray[np.int64], ids: Sequence[str], classes: int
) -> dict[str, Any]:
    """Write the labels; what the manifest says of the part. Raises StorageError."""
    save(path, labels)
    counts = np.bincount(labels, minlength=classes).tolist()
    return {"number": len(labels), "class_counts": counts, "ids": list(ids)}


def save(path: Path, array: NDArray[Any]) -> None:
    """Write an array. Raises StorageError, also when the disk is full."""
    with writing(path):
        buffer = io.BytesIO()  # np.save to a file hides that the disk is full
        np.save(buffer, array)
        path.write_bytes(buffer.getvalue())


def difference(
    labels: NDArray[Any], ids: Sequence[str], classes: int, expected: Mapping[str, Any]
) -> str | None:
    """The first thing that is not as the manifest says of the part."""
    number = expected["number"]
    if labels.dtype != np.int64 or labels.shape != (number,):
        return f"labels are {labels.dtype} {labels.shape}, expected {(number,)} int64"
    if len(ids) != number:
        return f"{len(ids)} ids for {number} samples"
    if labels.min() < 0 or labels.max() >= classes:
        return f"a label is outside 0 to {classes - 1}"
    if np.bincount(labels, minlength=classes).tolist() != expected["class_counts"]:
        return "the labels do not add up to the class counts of the manifest"
    return None
