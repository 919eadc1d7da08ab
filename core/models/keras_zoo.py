"""Pretrained Keras networks without their prediction layer. A new one is one entry in NETWORKS.

Nothing else in `core` knows a network's layers: the profiler reads its graph, schemes read the
kinds of its tensors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tensorflow as tf
from safetensors import SafetensorError

from core.errors import ConfigError, DataError
from core.models.efficientnet_lite0_keras import efficientnet_lite0, load_efficientnet_lite0

Kind = Literal["kernel", "bias", "norm", "other"]


@dataclass(frozen=True)
class Network:
    """How to build a network, prepare its input and fill in published weights.

    build: image size to a model from (batch, size, size, 3) to (batch, features).
    preprocess: RGB in 0..255, float32, to what the network was trained on.
    load: fill a built model from a fetched weights folder.
    """

    build: Callable[[int], tf.keras.Model]
    preprocess: Callable[[tf.Tensor], tf.Tensor]
    load: Callable[[tf.keras.Model, Path], None]


def _resnet50(image_size: int) -> tf.keras.Model:
    return tf.keras.applications.ResNet50(
        weights=None, include_top=False, pooling="avg", input_shape=(image_size, image_size, 3)
    )


def _load_h5(model: tf.keras.Model, folder: Path) -> None:
    model.load_weights(str(folder / "weights.h5"))


NETWORKS: dict[str, Network] = {
    "efficientnet_lite0": Network(
        build=efficientnet_lite0,
        # Of the published TensorFlow weights, from which the PyTorch file was made.
        preprocess=lambda x: (x - 127.0) / 128.0,
        load=load_efficientnet_lite0,
    ),
    "resnet50": Network(
        build=_resnet50,
        preprocess=tf.keras.applications.resnet50.preprocess_input,
        load=_load_h5,
    ),
}


def build(name: str, image_size: int, weights: Path | None) -> tuple[tf.keras.Model, Network]:
    """A network with its published weights, or with random ones where `weights` is None.

    Raises ConfigError for an unknown name, DataError for weights that do not fit.
    """
    if name not in NETWORKS:
        raise ConfigError(f"model.name: unknown model {name!r}; known: {', '.join(NETWORKS)}")
    network = NETWORKS[name]
    model = network.build(image_size)
    if weights is not None:
        try:
            network.load(model, weights)
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise DataError(
                f"weights in {weights} do not fit {name} ({error}); delete the folder and fetch "
                f"them again: python -m core fetch {name} --out {weights}"
            ) from None
    return model, network


def kind(variable: Any) -> Kind:
    """What a trainable variable is: kernel, bias, norm (gamma, beta) or other."""
    last = variable.name.split(":")[0].rsplit("/", 1)[-1]
    if last.endswith("kernel"):
        return "kernel"
    if last == "bias":
        return "bias"
    return "norm" if last in ("gamma", "beta") else "other"
