"""Pretrained Keras networks without their prediction layer. A new one is one entry in NETWORKS.

Nothing else in `core` knows a network's layers: the profiler reads its graph, schemes read the
kinds of its tensors.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import BadZipFile

import tensorflow as tf
from safetensors import SafetensorError

from core.elastic.timing import Kind
from core.errors import ConfigError, DataError, MissingPackageError
from core.models.efficientnet_lite_keras import efficientnet_lite, load_efficientnet_lite


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


def _application(
    make: Callable[..., tf.keras.Model], preprocess: Callable[[tf.Tensor], tf.Tensor]
) -> Network:
    """A network of tf.keras.applications, whose published weights are an h5 file."""

    def build(image_size: int) -> tf.keras.Model:
        shape = (image_size, image_size, 3)
        return make(weights=None, include_top=False, pooling="avg", input_shape=shape)

    return Network(build, preprocess, _load_h5)


def _load_h5(model: tf.keras.Model, folder: Path) -> None:
    model.load_weights(str(folder / "weights.h5"))


def _efficientnet_lite(width: float, depth: float) -> Network:
    return Network(
        build=lambda image_size: efficientnet_lite(image_size, width, depth),
        # Of the published TensorFlow weights, from which the PyTorch files were made.
        preprocess=lambda x: (x - 127.0) / 128.0,
        load=load_efficientnet_lite,
    )


def _vit_b16(image_size: int) -> tf.keras.Model:
    vit = _vit_keras("vit")
    # Both, or it looks for the published prediction layer.
    return vit.vit_b16(image_size, include_top=False, pretrained=False, pretrained_top=False)


def _load_vit_b16(model: tf.keras.Model, folder: Path) -> None:
    """Position embeddings, published for 384 pixels, are interpolated to the model's size."""
    utils = _vit_keras("utils")
    patches = model.input_shape[1] // 16
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # arrays of the file or of the model left out
        warnings.filterwarnings("ignore", "Resizing position embeddings", UserWarning)
        try:
            utils.load_weights_numpy(model, folder / "weights.npz", False, patches, patches)
        except (AssertionError, BadZipFile, UserWarning) as error:
            raise ValueError(str(error)) from None


def _vit_keras(module: str) -> ModuleType:
    """A module of vit-keras. Imported late: it brings Addons and OpenCV along."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Addons announces its end of life at every import
            return import_module(f"vit_keras.{module}")
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"model.name: vit_b16 needs vit-keras with TensorFlow Addons, and {error.name} is not "
            "installed here. Addons was never built for ARM boards: there, choose "
            "framework: torch or another model"
        ) from None


_APPLICATIONS = tf.keras.applications

NETWORKS: dict[str, Network] = {
    "efficientnet_lite0": _efficientnet_lite(width=1.0, depth=1.0),
    "efficientnet_lite1": _efficientnet_lite(width=1.0, depth=1.1),
    "efficientnet_lite2": _efficientnet_lite(width=1.1, depth=1.2),
    "resnet50": _application(_APPLICATIONS.ResNet50, _APPLICATIONS.resnet50.preprocess_input),
    "vgg16": _application(_APPLICATIONS.VGG16, _APPLICATIONS.vgg16.preprocess_input),
    "mobilenet_v2": _application(
        _APPLICATIONS.MobileNetV2, _APPLICATIONS.mobilenet_v2.preprocess_input
    ),
    "vit_b16": Network(
        build=_vit_b16,
        # What vit-keras does, said here so that naming this network imports nothing.
        preprocess=lambda x: x / 127.5 - 1.0,
        load=_load_vit_b16,
    ),
}


def build(name: str, image_size: int, weights: Path | None) -> tuple[tf.keras.Model, Network]:
    """A network with its published weights, or with random ones where `weights` is None.

    Raises ConfigError for an unknown name, DataError for weights that do not fit,
    MissingPackageError for a network that cannot be built on this machine.
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
                f"them again: python -m core fetch {weights.name} --out {weights}"
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
