"""EfficientNet-Lite in PyTorch. Modules are named as in the published weights, and convolutions
pad as TensorFlow does, where the networks were trained."""

from torch import Tensor, nn

from core.models.efficientnet_lite import EPSILON, HEAD, STEM, Block, blocks


class EfficientNetLite(nn.Module):
    """Images (batch, 3, size, size) to features (batch, 1280)."""

    def __init__(self, image_size: int, width: float, depth: float) -> None:
        """width, depth: as in `blocks`."""
        super().__init__()
        self._pad, size = _padding(image_size, 3, 2)
        self._conv_stem = nn.Conv2d(3, STEM, 3, 2, bias=False)
        self._bn0 = _norm(STEM)
        residuals, channels = [], STEM
        for block in blocks(width, depth):
            residuals.append(InvertedResidual(size, channels, block))
            channels, size = block.channels, residuals[-1].size
        self._blocks = nn.ModuleList(residuals)
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


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; the input is added where shapes agree."""

    def __init__(self, size: int, channels: int, block: Block) -> None:
        """size, channels: of what comes in."""
        super().__init__()
        inner, out, kernel = channels * block.expansion, block.channels, block.kernel
        self._expands = block.expansion != 1
        if self._expands:
            self._expand_conv = nn.Conv2d(channels, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._pad, self.size = _padding(size, kernel, block.stride)
        self._depthwise_conv = nn.Conv2d(
            inner, inner, kernel, block.stride, groups=inner, bias=False
        )
        self._bn1 = _norm(inner)
        self._project_conv = nn.Conv2d(inner, out, 1, bias=False)
        self._bn2 = _norm(out)
        self._relu = nn.ReLU6(inplace=True)
        self._adds = block.stride == 1 and channels == out

    def forward(self, before: Tensor) -> Tensor:
        x = before
        if self._expands:
            x = self._relu(self._bn0(self._expand_conv(x)))
        x = self._relu(self._bn1(self._depthwise_conv(self._pad(x))))
        x = self._bn2(self._project_conv(x))
        out: Tensor = x + before if self._adds else x
        return out


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON)


def _padding(size: int, kernel: int, stride: int) -> tuple[nn.Module, int]:
    """TensorFlow's `same` padding, more at the end where it is odd; and the size after it."""
    out = -(-size // stride)
    missing = max((out - 1) * stride + kernel - size, 0)
    before, after = missing // 2, missing - missing // 2
    return nn.ZeroPad2d((before, after, before, after)), out
