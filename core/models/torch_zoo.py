"""Pretrained PyTorch networks without their prediction layer. A new one is one entry in NETWORKS.

Nothing else in `core` knows a network's layers: the profiler reads its autograd graph, schemes
read the kinds of its tensors.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from core.elastic.timing import Kind
from core.errors import ConfigError
from core.models.efficientnet_lite_torch import EfficientNetLite
from core.models.pixels import IMAGENET, normalised
from core.models.published import published_weights
from core.vision import torchvision


@dataclass(frozen=True)
class Network:
    """How to build a network and prepare its input.

    build: image size to a module from (batch, 3, size, size) to (batch, features).
    features: how many.
    preprocess: RGB in 0..255, float32, to what the network was trained on.
    head: what the published file has of the old prediction layer, by prefix.
    """

    build: Callable[[int], nn.Module]
    features: int
    preprocess: Callable[[Tensor], Tensor]
    head: str


def _lite(width: float, depth: float) -> Network:
    return Network(
        build=lambda size: EfficientNetLite(size, width, depth),
        features=1280,
        # Of the published TensorFlow weights, from which the PyTorch file was made.
        preprocess=lambda x: (x - 127.0) / 128.0,
        head="_fc.",
    )


def _imagenet(x: Tensor) -> Tensor:
    return normalised(x, IMAGENET)


def _resnet50(image_size: int) -> nn.Module:
    network: nn.Module = torchvision("models").resnet50()
    network.fc = nn.Identity()
    return network


def _vgg16(image_size: int) -> nn.Module:
    """Without the three dense layers, as Keras' VGG16 without its top: their 120 million weights
    belong to the old prediction."""
    vgg = torchvision("models.vgg")
    features = vgg.make_layers(vgg.cfgs["D"])
    parts = {"features": features, "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return nn.Sequential(OrderedDict(parts))


def _mobilenet_v2(image_size: int) -> nn.Module:
    network: nn.Module = torchvision("models").mobilenet_v2()
    network.classifier = nn.Identity()
    return network


def _vit_b16(image_size: int) -> nn.Module:
    network: nn.Module = torchvision("models").vit_b_16(image_size=image_size)
    network.heads = nn.Identity()
    return network


NETWORKS: dict[str, Network] = {
    "efficientnet_lite0": _lite(1.0, 1.0),
    "efficientnet_lite1": _lite(1.0, 1.1),
    "efficientnet_lite2": _lite(1.1, 1.2),
    "resnet50": Network(_resnet50, 2048, _imagenet, "fc."),
    "vgg16": Network(_vgg16, 512, _imagenet, "classifier."),
    "mobilenet_v2": Network(_mobilenet_v2, 1280, _imagenet, "classifier."),
    "vit_b16": Network(_vit_b16, 768, _imagenet, "heads."),
}


def build(name: str, image_size: int, weights: Path | None) -> tuple[nn.Module, Network]:
    """A network with its published weights, or with random ones where `weights` is None. It is
    in inference mode: statistics of batch normalisation are frozen, as in the paper.

    Raises ConfigError for an unknown name, DataError for weights that do not fit.
    """
    if name not in NETWORKS:
        raise ConfigError(f"model.name: unknown model {name!r}; known: {', '.join(NETWORKS)}")
    network = NETWORKS[name]
    module = network.build(image_size).eval()
    if weights is not None:
        with published_weights(name, weights) as file:
            _load(module, network, load_file(file))
    return module, network


def _load(module: nn.Module, network: Network, values: dict[str, Tensor]) -> None:
    """Fill a module. Raises RuntimeError or ValueError where names or shapes differ."""
    values = {name: v for name, v in values.items() if not name.startswith(network.head)}
    positions: Any = getattr(getattr(module, "encoder", None), "pos_embedding", None)
    name = "encoder.pos_embedding"
    if positions is not None and name in values and values[name].shape != positions.shape:
        values[name] = _resized_positions(values[name], positions.shape[1])
    module.load_state_dict(values)


def _resized_positions(published: Tensor, length: int) -> Tensor:
    """Position embeddings (1, 1 + side², width) of another image size, the class token's kept."""
    token, grid = published[:, :1], published[:, 1:]
    old, new = (round((n - 1) ** 0.5) for n in (published.shape[1], length))
    grid = grid.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = nn.functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=True)
    return torch.cat([token, grid.permute(0, 2, 3, 1).reshape(1, new * new, -1)], dim=1)


_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm)


def kind(module: nn.Module, name: str) -> Kind:
    """What a parameter of a module is: kernel, bias, norm (gamma, beta) or other."""
    if isinstance(module, _NORMS):
        return "norm"
    if name.endswith("bias"):
        return "bias"
    return "kernel" if name.endswith("weight") else "other"
