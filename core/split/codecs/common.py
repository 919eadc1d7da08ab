"""What number formats share: their protocol, what they put on the wire, and range checks."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from core.errors import TrainingError

Floats = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]
Samples = NDArray[np.int64]  # names of the rows of a tensor

LARGEST = float(np.finfo(np.float32).max)
BLOCK = 1 << 16  # elements worked on at a time: the scratch buffer stays in the cache


class Field(NamedTuple):
    """An array on the wire."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size."""
        return math.prod(self.shape) * self.dtype.itemsize


Layout = Mapping[str, Field]


class Format(Protocol):
    """A number format. It has no state.

    lossless: decoded is what was encoded, bit for bit.
    """

    lossless: bool

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """The arrays on the wire of a tensor, exactly."""
        ...

    def encode(self, values: Floats, seed: int, step: int) -> Arrays:
        """values: C-contiguous. What is random depends on (seed, step) alone. Raises TrainingError
        for NaN and infinity."""
        ...

    def decode(self, arrays: Arrays, shape: tuple[int, ...]) -> Floats:
        """arrays: as `layout` says, but of any content. Raises ValueError that names an array of
        which no finite tensor can be made."""
        ...


class Lossless(Protocol):
    """A lossless stage: works on the bytes of each array."""

    def pack(self, arrays: Arrays) -> Arrays:
        """The same arrays, smaller."""
        ...

    def unpack(self, arrays: Arrays, layout: Layout) -> Arrays:
        """The arrays again. Raises ValueError for what does not give just what `layout` says; takes
        no more memory than that."""
        ...


def check_arrays(arrays: Arrays, layout: Layout) -> None:
    """Raises ValueError unless the arrays are as announced."""
    if set(arrays) != set(layout):
        raise ValueError(f"arrays: {_names(arrays)} in the place of {_names(layout)}")
    for name, (dtype, shape) in layout.items():
        array = arrays[name]
        if array.dtype != dtype or array.shape != shape:
            found = f"{array.dtype} {array.shape}"
            raise ValueError(f"arrays.{name}: {found} in the place of {dtype} {shape}")


def _names(arrays: Mapping[str, Any]) -> str:
    return ", ".join(sorted(arrays)[:6]) or "none"


def extent(values: Floats) -> tuple[float, float]:
    """Smallest and largest value, (0, 0) of none at all. NaN comes through."""
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def require_finite(low: Any, high: Any, step: int) -> None:
    """Raises TrainingError when a range, (low, high), shows NaN or infinity in a tensor."""
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise TrainingError(
            f"step {step}: the tensor to send holds NaN or infinity: training has diverged; lower "
            "training.optimiser.learning_rate, or look for such values in the data"
        )


def saturate(values: Floats) -> None:
    """What float32 cannot hold becomes its largest number, in place. NaN must not be there."""
    low, high = extent(values)
    if low < -LARGEST or high > LARGEST:
        np.clip(values, -LARGEST, LARGEST, out=values)


def blocks(rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """A matrix, cut into parts of at most BLOCK elements: runs of one row, or some whole rows."""
    if columns > BLOCK:
        for row in range(rows):
            for start in range(0, columns, BLOCK):
                yield slice(row, row + 1), slice(start, min(start + BLOCK, columns))
    elif columns:
        height = BLOCK // columns
        for row in range(0, rows, height):
            yield slice(row, min(row + height, rows)), slice(0, columns)


def scratch(buffer: NDArray[Any], at: tuple[slice, slice]) -> NDArray[Any]:
    """As much of a buffer of BLOCK elements as that part needs, in its shape."""
    rows, columns = (s.stop - s.start for s in at)
    return buffer[: rows * columns].reshape(rows, columns)
