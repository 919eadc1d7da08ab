"""4 bit, two values a byte, rounded at random so that the mean of many roundings is the value.

A value between two numbers of the grid becomes the upper one with the probability that its distance
to the lower one says, in steps of 2⁻¹⁶. The random bits are a function of (seed, step) alone: a
resumed run has the same ones. |decoded − original| < scale with scale = (max − min)/15.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from core.split.codecs.common import (
    BLOCK,
    LARGEST,
    Arrays,
    Field,
    Floats,
    Layout,
    extent,
    require_finite,
)
from core.split.codecs.grid import check_grid, exceeds, grid_field, make_grid

LEVELS = 16
_PAIRS = np.dtype("<u2")  # the even value in the low byte, on every machine


class Int4:
    """Stochastic quantisation to 4 bit. The even value of a pair has the low half of the byte;
    behind the last of an odd number is 0."""

    lossless = False

    def layout(self, shape: tuple[int, ...]) -> Layout:
        packed = (math.prod(shape) + 1) // 2
        return {"packed": Field(np.dtype(np.uint8), (packed,)), "grid": grid_field(1)}

    def encode(self, values: Floats, seed: int, step: int) -> Arrays:
        low, high = extent(values)
        require_finite(low, high, step)
        # Its ends are low and high themselves: a clipped value could not be rounded up and down.
        grid = make_grid(np.array([low]), np.array([high]), LEVELS - 1, whole_zero=False)
        base, scale, zero = grid[:, 0]
        inverse, flat = np.float32(1 / float(scale)), values.reshape(-1)
        packed = np.empty((flat.size + 1) // 2, np.uint8)
        part, quantised = np.empty(BLOCK, np.float32), np.zeros(BLOCK, np.uint8)
        for start, uniform in zip(range(0, flat.size, BLOCK), _uniform(seed, step), strict=False):
            source = flat[start : start + BLOCK]
            n = len(source)
            np.multiply(np.subtract(source, base, out=part[:n]), inverse, out=part[:n])
            np.add(part[:n], zero, out=part[:n])
            np.add(part[:n], uniform[:n], out=part[:n])
            np.clip(part[:n], 0, LEVELS - 1, out=part[:n])
            np.copyto(quantised[:n], part[:n], casting="unsafe")  # towards 0: down
            quantised[n:] = 0
            pairs = quantised[: n + n % 2].view(_PAIRS)
            half = start // 2
            np.copyto(packed[half : half + len(pairs)], pairs | pairs >> 4, casting="unsafe")
        return {"packed": packed, "grid": grid}

    def decode(self, arrays: Arrays, shape: tuple[int, ...]) -> Floats:
        grid, packed, size = arrays["grid"], arrays["packed"], math.prod(shape)
        check_grid(grid, 0, LEVELS - 1)
        if size % 2 and packed[-1] >> 4:
            raise ValueError("arrays.packed: something behind the last value")
        base, scale, zero = grid[:, 0]
        wide = exceeds(grid, 0, LEVELS - 1)
        values = np.empty(size, np.float32)
        with np.errstate(over="ignore"):
            for start in range(0, size, BLOCK):
                part = values[start : start + BLOCK]
                pairs = packed[start // 2 : (start + BLOCK) // 2].astype(_PAIRS)
                pairs |= pairs << 4
                pairs &= 0x0F0F
                np.copyto(part, pairs.view(np.uint8)[: len(part)])
                np.subtract(part, zero, out=part)
                np.multiply(part, scale, out=part)
                np.add(part, base, out=part)
                if wide:
                    np.clip(part, -LARGEST, LARGEST, out=part)
        return values.reshape(shape)


def _uniform(seed: int, step: int) -> Iterator[Floats]:
    """Numbers in [0, 1), BLOCK at a time. The buffer is the same each time."""
    bits = np.random.SFC64([seed, step])
    buffer = np.empty(BLOCK, np.float32)
    while True:
        words: NDArray[np.uint64] = bits.random_raw(BLOCK // 4)
        yield np.multiply(words.astype("<u8").view("<u2"), np.float32(2**-16), out=buffer)


INT4 = Int4()
