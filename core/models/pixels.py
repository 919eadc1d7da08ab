"""Normalising images as the authors of a network did."""

from typing import NamedTuple

from torch import Tensor


class Pixels(NamedTuple):
    """Mean and standard deviation of each channel of RGB in 0..1, over a training part."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


IMAGENET = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # torchvision's networks
CIFAR10 = Pixels((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


def normalised(x: Tensor, pixels: Pixels) -> Tensor:
    """RGB in 0..255, float32, (..., 3, height, width), with mean 0 and deviation 1."""
    mean, deviation = (x.new_tensor(values)[:, None, None] for values in pixels)
    return (x / 255 - mean) / deviation
