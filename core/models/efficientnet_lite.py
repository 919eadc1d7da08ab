"""What EfficientNet-Lite is (Tan and Le 2019, without squeeze-and-excitation, ReLU6), for the zoos
of both frameworks."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

# Of Lite0: repeats, kernel, stride, expansion, output channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280  # channels, of every size of the family
EPSILON = 1e-3  # of batch normalisation


@dataclass(frozen=True)
class Block:
    """An inverted residual: expand, depthwise, project."""

    kernel: int
    stride: int
    expansion: int
    channels: int


def blocks(width: float, depth: float) -> Iterator[Block]:
    """The blocks from the input to the output.

    width, depth: compound scaling of Lite0's channels and repeats (section 3.3). The Lite family
    scales neither stem and head nor the repeats of the first and the last stage.
    """
    for stage, (repeats, kernel, stride, expansion, channels) in enumerate(_STAGES):
        scaled = 0 < stage < len(_STAGES) - 1
        for repeat in range(math.ceil(depth * repeats) if scaled else repeats):
            first = stride if repeat == 0 else 1
            yield Block(kernel, first, expansion, _scaled(channels * width))


def _scaled(channels: float) -> int:
    """To the nearest multiple of 8, but never more than 10 % fewer."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
