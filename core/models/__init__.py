"""Networks. This table is what can be named in a config; builders are in the zoos, one per
framework, so that reading a config needs no framework."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """title: name on figures. weights: entry of the data catalog with its published weights, by
    framework. size_multiple: image sizes must be multiples of this many pixels. convolutional:
    built of convolutions, whose channels PruneTrain can cut out."""

    title: str
    weights: Mapping[str, str]
    size_multiple: int = 1
    convolutional: bool = True


def _same(weights: str) -> dict[str, str]:
    """Both frameworks read the same file."""
    return {"tensorflow": weights, "torch": weights}


def _own(name: str) -> dict[str, str]:
    """Each framework has weights of its own, trained apart."""
    return {"tensorflow": name, "torch": f"{name}_torch"}


MODELS = {
    "efficientnet_lite0": Model("EfficientNet-Lite0", _same("efficientnet_lite0")),
    "efficientnet_lite1": Model("EfficientNet-Lite1", _same("efficientnet_lite1")),
    "efficientnet_lite2": Model("EfficientNet-Lite2", _same("efficientnet_lite2")),
    "resnet50": Model("ResNet50", _own("resnet50")),
    "vgg16": Model("VGG16", _own("vgg16")),
    "mobilenet_v2": Model("MobileNetV2", _own("mobilenet_v2")),
    "vit_b16": Model("ViT-B/16", _own("vit_b16"), size_multiple=16, convolutional=False),
}
