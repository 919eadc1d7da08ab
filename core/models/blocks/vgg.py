"""VGG19 with BatchNorm (Simonyan and Zisserman, ICLR 2015) in 19 blocks, for images of 32 pixels:
16 convolutions, each with the pooling that follows it, and 3 dense layers."""

from functools import partial
from itertools import pairwise

from torch import nn

from core.models.blocks.making import Block, initialised
from core.vision import torchvision

DENSE, DROPOUT = 4096, 0.5


def vgg19_bn(classes: int) -> list[Block]:
    """The 512 maps that are left are averaged to one value each: at 32 pixels they have no more,
    so that nothing is averaged, and larger images are taken as well."""
    blocks = []
    inputs = 3
    layers = [*torchvision("models.vgg").cfgs["E"], "end"]  # channels, or M for pooling
    for outputs, following in pairwise(layers):
        if outputs != "M":
            blocks.append(Block(partial(_convolution, inputs, outputs, following == "M")))
            inputs = outputs
    last = blocks.pop().make
    blocks.append(Block(lambda: nn.Sequential(last(), nn.AdaptiveAvgPool2d(1), nn.Flatten())))
    hidden = [Block(partial(_dense, width)) for width in (inputs, DENSE)]
    return [*blocks, *hidden, Block(lambda: initialised(nn.Linear(DENSE, classes), dense=0.01))]


def _convolution(inputs: int, outputs: int, pooling: bool) -> nn.Module:
    layers = torchvision("ops.misc").Conv2dNormActivation(inputs, outputs, 3, bias=True)
    if pooling:
        layers.append(nn.MaxPool2d(2))
    return initialised(layers)


def _dense(inputs: int) -> nn.Module:
    layers = nn.Linear(inputs, DENSE), nn.ReLU(inplace=True), nn.Dropout(DROPOUT)
    return initialised(nn.Sequential(*layers), dense=0.01)
