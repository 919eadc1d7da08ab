"""Evenly spaced numbers that stand for a range: decoded = (quantised − zero) · scale + low.

On the wire a grid is float32 (3, channels): low, scale, zero. Where the range holds 0, low is 0
and zero does the shifting, so that nothing overflows however large the range is, and whole zeros
come back as exact zeros (features after a ReLU are mostly zeros). Elsewhere low is the smallest
value and zero is 0, so that a constant comes back exactly, and a narrow range far from 0 keeps its
resolution. No two operations are fused here: every IEEE 754 machine decodes the same bits, as delta
coding needs.
"""

import numpy as np
from numpy.typing import NDArray

from core.split.codecs.common import BLOCK, LARGEST, Field, Floats, blocks, scratch

Doubles = NDArray[np.float64]

# A finer scale would be a denormal number, which some processors take for 0.
SMALLEST = float(np.finfo(np.float32).tiny)


def grid_field(channels: int) -> Field:
    """As it is on the wire."""
    return Field(np.dtype(np.float32), (3, channels))


def make_grid(low: Doubles, high: Doubles, steps: int, whole_zero: bool) -> Floats:
    """The grid of `steps` + 1 numbers over each range, scale = (high − low)/steps.

    low, high: (channels,). whole_zero: 0 lies on the grid, which so may end half a step before low
    or high: no value is farther than scale/2 from the grid all the same.
    """
    scale = np.maximum((high - low) / steps, SMALLEST).astype(np.float32)
    around = (low <= 0) & (high >= 0)
    zero = np.where(around, -low / scale, 0.0).clip(0, steps)
    zero = np.rint(zero) if whole_zero else zero
    return np.stack([np.where(around, 0.0, low), scale, zero]).astype(np.float32)


def check_grid(grid: Floats, lowest: int, highest: int) -> None:
    """Raises ValueError for a grid that no encoder makes. lowest, highest: of its zero."""
    low, scale, zero = grid
    if not np.isfinite(low).all():
        raise ValueError("arrays.grid: low is not a finite number")
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise ValueError("arrays.grid: scale is not a positive number")
    if not ((zero >= lowest) & (zero <= highest)).all():
        raise ValueError(f"arrays.grid: zero is not {lowest} to {highest}")


def quantise(values: Floats, grid: Floats, quantised: NDArray[np.integer]) -> None:
    """Into `quantised`: the nearest number of the grid, ties to the even one.

    values, quantised: (rows, columns). grid: (3, columns), or (3, 1) for all of them.
    """
    low, inverse, zero = grid[0], (1 / grid[1].astype(np.float64)).astype(np.float32), grid[2]
    limits, shifted = np.iinfo(quantised.dtype), bool(low.any())
    buffer = np.empty(BLOCK, np.float32)
    rows, columns = values.shape
    with np.errstate(over="ignore"):  # the published zero point may lie far from the values
        for at in blocks(rows, columns):
            part = scratch(buffer, at)
            source = np.subtract(values[at], _of(low, at), out=part) if shifted else values[at]
            np.multiply(source, _of(inverse, at), out=part)
            np.rint(part, out=part)
            np.add(part, _of(zero, at), out=part)
            np.clip(part, limits.min, limits.max, out=part)
            np.copyto(quantised[at], part, casting="unsafe")


def dequantise(quantised: NDArray[np.integer], grid: Floats) -> Floats:
    """The numbers of the grid, finite whatever the grid is. Shapes as in `quantise`."""
    low, scale, zero = grid
    limits, shifted = np.iinfo(quantised.dtype), bool(low.any())
    wide = exceeds(grid, limits.min, limits.max)
    values = np.empty(quantised.shape, np.float32)
    rows, columns = quantised.shape
    with np.errstate(over="ignore"):
        for at in blocks(rows, columns):
            part = values[at]
            np.copyto(part, quantised[at])
            np.subtract(part, _of(zero, at), out=part)
            np.multiply(part, _of(scale, at), out=part)
            if shifted:
                np.add(part, _of(low, at), out=part)
            if wide:
                np.clip(part, -LARGEST, LARGEST, out=part)
    return values


def exceeds(grid: Floats, first: int, last: int) -> bool:
    """Whether an end of the grid may be more than float32 holds."""
    low, scale, zero = grid.astype(np.float64)
    ends = np.abs(np.stack([first - zero, last - zero])) * scale + np.abs(low)
    return bool((ends >= LARGEST).any())


def _of(vector: Floats, at: tuple[slice, slice]) -> Floats:
    return vector if vector.size == 1 else vector[at[1]]
