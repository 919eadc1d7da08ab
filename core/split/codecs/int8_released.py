"""The quantiser that was released with the paper (IMWUT 5(4), 2021), for comparison.

Signed 8 bit, scale = (max − min)/256, zero point int(min): quantised = round(x/scale) + int(min),
clipped to −128..127. After a ReLU the zero point is 0, and everything above 127/256 of the range is
clipped. Two things are said here that were not published: the zero point is kept within −128..127,
and a constant tensor has the smallest scale that float32 holds without denormals.
"""

import math

import numpy as np

from core.split.codecs.common import Arrays, Field, Floats, Layout, extent, require_finite
from core.split.codecs.grid import SMALLEST, check_grid, dequantise, grid_field, quantise

LOWEST, HIGHEST = -128, 127


class Released:
    """Signed 8 bit as published."""

    lossless = False

    def layout(self, shape: tuple[int, ...]) -> Layout:
        return {"quantised": Field(np.dtype(np.int8), shape), "grid": grid_field(1)}

    def encode(self, values: Floats, seed: int, step: int) -> Arrays:
        low, high = extent(values)
        require_finite(low, high, step)
        zero = min(max(int(low), LOWEST), HIGHEST)
        scale = max((high - low) / 256, SMALLEST)
        grid = np.array([[0], [scale], [zero]], np.float32)
        quantised = np.empty(values.shape, np.int8)
        quantise(values.reshape(1, -1), grid, quantised.reshape(1, -1))
        return {"quantised": quantised, "grid": grid}

    def decode(self, arrays: Arrays, shape: tuple[int, ...]) -> Floats:
        check_grid(arrays["grid"], LOWEST, HIGHEST)
        flat = arrays["quantised"].reshape(1, math.prod(shape))
        return dequantise(flat, arrays["grid"]).reshape(shape)


RELEASED = Released()
