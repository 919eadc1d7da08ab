"""ResNet50 (He et al., CVPR 2016) in 19 blocks: stem, 16 bottlenecks, pooling, prediction."""

from collections import OrderedDict
from functools import partial

from torch import nn

from core.models.blocks.making import Block, initialised
from core.vision import torchvision

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, bottlenecks, first stride


def resnet50_cifar(classes: int) -> list[Block]:
    """The form for images of 32 pixels: its stem is one 3×3 convolution that keeps the size.

    Published ImageNet weights fit all 16 bottlenecks. The stem stays fresh, because theirs is of
    7×7, and so does its BatchNorm, whose statistics are those of that convolution.
    """
    return _resnet50(Block(_cifar_stem), classes)


def resnet50_imagenet(classes: int) -> list[Block]:
    """torchvision's network. Published weights fit everything but the prediction layer."""
    return _resnet50(Block(_imagenet_stem, published=""), classes)


def _resnet50(stem: Block, classes: int) -> list[Block]:
    bottlenecks = []
    inputs = 64
    for stage, (width, count, stride) in enumerate(STAGES, start=1):
        for i in range(count):
            make = partial(_bottleneck, inputs, width, stride if i == 0 else 1)
            bottlenecks.append(Block(make, published=f"layer{stage}.{i}."))
            inputs = 4 * width
    pooling = Block(lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    return [stem, *bottlenecks, pooling, Block(lambda: nn.Linear(inputs, classes))]


def _cifar_stem() -> nn.Module:
    convolution = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    return initialised(nn.Sequential(convolution, nn.BatchNorm2d(64), nn.ReLU(inplace=True)))


def _imagenet_stem() -> nn.Module:
    layers = {
        "conv1": nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        "bn1": nn.BatchNorm2d(64),
        "relu": nn.ReLU(inplace=True),
        "maxpool": nn.MaxPool2d(3, stride=2, padding=1),
    }
    return initialised(nn.Sequential(OrderedDict(layers)))


def _bottleneck(inputs: int, width: int, stride: int) -> nn.Module:
    outputs = 4 * width
    shortcut = None
    if stride != 1 or inputs != outputs:
        convolution = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
        shortcut = nn.Sequential(convolution, nn.BatchNorm2d(outputs))
    bottleneck = torchvision("models.resnet").Bottleneck
    return initialised(bottleneck(inputs, width, stride, shortcut))
