"""EfficientNet-Lite (Tan and Le 2019, without squeeze-and-excitation, ReLU6) in PyTorch. Modules
are named as in the published weights, and convolutions pad as TensorFlow does, where the networks
were trained."""

import math

from torch import Tensor, nn

# Repeats, kernel, stride, expansion, output channels of EfficientNet-B0.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280  # channels, the same for every member of the family


class EfficientNetLite(nn.Module):
    """Images (batch, 3, size, size) to features (batch, 1280)."""

    def __init__(self, image_size: int, width: float, depth: float) -> None:
        """width, depth: factors of channels and of repeats (compound scaling)."""
        super().__init__()
        self._pad, size = _padding(image_size, 3, 2)
        self._conv_stem = nn.Conv2d(3, STEM, 3, 2, bias=False)
        self._bn0 = _norm(STEM)
        blocks, channels = [], STEM
        for stage, (repeats, kernel, stride, expansion, out) in enumerate(STAGES):
            if stage not in (0, len(STAGES) - 1):
                repeats = math.ceil(repeats * depth)
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                block = Block(size, channels, _rounded(out * width), kernel, step, expansion)
                blocks.append(block)
                channels, size = _rounded(out * width), block.size
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(channels, HEAD, 1, bias=False)
        self._bn1 = _norm(HEAD)
        self._relu = nn.ReLU6(inplace=True)
        self._pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        x = self._relu(self._bn0(self._conv_stem(self._pad(images))))
        for block in self._blocks:
            x = block(x)
        x = self._relu(self._bn1(self._conv_head(x)))
        features: Tensor = self._pool(x).flatten(1)
        return features


class Block(nn.Module):
    """Inverted residual: expand, depthwise, project; the input is added where shapes agree."""

    def __init__(
        self, size: int, channels: int, out: int, kernel: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        inner = channels * expansion
        self._expands = expansion != 1
        if self._expands:
            self._expand_conv = nn.Conv2d(channels, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._pad, self.size = _padding(size, kernel, stride)
        self._depthwise_conv = nn.Conv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv = nn.Conv2d(inner, out, 1, bias=False)
        self._bn2 = _norm(out)
        self._relu = nn.ReLU6(inplace=True)
        self._adds = stride == 1 and channels == out

    def forward(self, before: Tensor) -> Tensor:
        x = before
        if self._expands:
            x = self._relu(self._bn0(self._expand_conv(x)))
        x = self._relu(self._bn1(self._depthwise_conv(self._pad(x))))
        x = self._bn2(self._project_conv(x))
        out: Tensor = x + before if self._adds else x
        return out


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _padding(size: int, kernel: int, stride: int) -> tuple[nn.Module, int]:
    """TensorFlow's `same` padding, more at the end where it is odd; and the size after it."""
    out = -(-size // stride)
    missing = max((out - 1) * stride + kernel - size, 0)
    before, after = missing // 2, missing - missing // 2
    return nn.ZeroPad2d((before, after, before, after)), out


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, but not less than nine tenths of the channels."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
