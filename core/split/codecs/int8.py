"""8 bit, affine: a grid of 256 numbers over the range of the tensor, or of each channel.

|decoded − original| ≤ scale/2 with scale = (max − min)/255, but for the rounding of float32.
"""

import math

import numpy as np

from core.split.codecs.common import Arrays, Field, Floats, Layout, extent, require_finite
from core.split.codecs.grid import (
    Doubles,
    check_grid,
    dequantise,
    grid_field,
    make_grid,
    quantise,
)

LEVELS = 256


class Int8:
    """Affine quantisation to unsigned 8 bit."""

    lossless = False

    def __init__(self, per_channel: bool) -> None:
        """per_channel: a grid for each channel. Channels are axis 1 of images (N, C, H, W) and of
        anything with more axes, the last axis of sequences (N, T, C) and of vectors (N, C)."""
        self._per_channel = per_channel

    def layout(self, shape: tuple[int, ...]) -> Layout:
        channels = self._view(shape)[1]
        return {"quantised": Field(np.dtype(np.uint8), shape), "grid": grid_field(channels)}

    def encode(self, values: Floats, seed: int, step: int) -> Arrays:
        rows, channels, inner = self._view(values.shape)
        matrix = values.reshape(rows, channels * inner)
        low, high = _ranges(matrix, channels, inner)
        require_finite(low, high, step)
        grid = make_grid(low, high, LEVELS - 1, whole_zero=True)
        quantised = np.empty(values.shape, np.uint8)
        quantise(matrix, _spread(grid, inner), quantised.reshape(matrix.shape))
        return {"quantised": quantised, "grid": grid}

    def decode(self, arrays: Arrays, shape: tuple[int, ...]) -> Floats:
        rows, channels, inner = self._view(shape)
        check_grid(arrays["grid"], 0, LEVELS - 1)
        matrix = arrays["quantised"].reshape(rows, channels * inner)
        return dequantise(matrix, _spread(arrays["grid"], inner)).reshape(shape)

    def _view(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """The tensor as (rows, channels, elements of a channel that lie side by side)."""
        if not self._per_channel or len(shape) < 2:
            return 1, 1, math.prod(shape)
        if len(shape) < 4:
            return math.prod(shape[:-1]), shape[-1], 1
        return shape[0], shape[1], math.prod(shape[2:])


def _ranges(matrix: Floats, channels: int, inner: int) -> tuple[Doubles, Doubles]:
    """Smallest and largest value of each channel; (0, 0) where there is none."""
    if channels == 1:
        low, high = extent(matrix)
        return np.array([low]), np.array([high])
    if not matrix.size:
        return np.zeros(channels), np.zeros(channels)
    # Over the samples first, which reads whole rows however small a channel is.
    low_high = (matrix.min(axis=0), matrix.max(axis=0))
    shape = (channels, inner)
    low, high = low_high[0].reshape(shape).min(axis=1), low_high[1].reshape(shape).max(axis=1)
    return low.astype(np.float64), high.astype(np.float64)


def _spread(grid: Floats, inner: int) -> Floats:
    """One column of the grid for each column of the matrix, or one for all."""
    return grid if grid.shape[1] == 1 else np.repeat(grid, inner, axis=1)


INT8, INT8_CHANNEL = Int8(per_channel=False), Int8(per_channel=True)
