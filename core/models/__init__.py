"""Networks. This table is what can be named in a config; builders are in the zoos, one per
framework, so that reading a config needs no framework."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """title: name on figures. weights: entry of the data catalog with its published weights."""

    title: str
    weights: str


MODELS = {
    "efficientnet_lite0": Model("EfficientNet-Lite0", "efficientnet_lite0"),
    "resnet50": Model("ResNet50", "resnet50"),
}
