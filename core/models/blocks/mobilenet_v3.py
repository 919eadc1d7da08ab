"""MobileNetV3-Large (Howard et al., ICCV 2019) in 18 blocks, for images of 32 pixels: stem, 15
inverted residuals, the last features, prediction."""

from functools import partial
from typing import Any

from torch import nn

from core.models.blocks.making import Block, initialised
from core.vision import torchvision

DROPOUT = 0.2
# Of the five steps that halve the maps for ImageNet, the published feature sizes have the last
# three: neither the stem nor the second residual halves, and 4×4 pixels are left of 32×32.
NOT_HALVING = 1  # position of that residual

# As torchvision's network, but for the momentum of 0.01 of its long trainings on ImageNet: with it,
# running statistics lag by hundreds of steps, and evaluation in the first epochs means nothing.
_norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.1)


def mobilenet_v3_large(classes: int) -> list[Block]:
    """The last features are 1280: 960 maps, averaged, and a dense layer."""
    # Of torchvision, so that its 15 rows of numbers are not written a second time.
    residuals, width = torchvision("models.mobilenetv3")._mobilenet_v3_conf("mobilenet_v3_large")
    residuals[NOT_HALVING].stride = 1
    stem = Block(partial(_convolution, 3, residuals[0].input_channels, 3))
    last = Block(partial(_last, residuals[-1].out_channels, width))
    prediction = Block(lambda: initialised(nn.Linear(width, classes), dense=0.01))
    return [stem, *(Block(partial(_residual, row)) for row in residuals), last, prediction]


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Module:
    layer = torchvision("ops.misc").Conv2dNormActivation
    return initialised(
        layer(inputs, outputs, kernel, norm_layer=_norm, activation_layer=nn.Hardswish)
    )


def _residual(row: Any) -> nn.Module:
    return initialised(torchvision("models.mobilenetv3").InvertedResidual(row, _norm))


def _last(inputs: int, outputs: int) -> nn.Module:
    maps = 6 * inputs
    layers = (
        _convolution(inputs, maps, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(maps, outputs),
        nn.Hardswish(inplace=True),
        nn.Dropout(DROPOUT),
    )
    return initialised(nn.Sequential(*layers), dense=0.01)
