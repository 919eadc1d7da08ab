"""EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation, ReLU6) in Keras, filled
from the published PyTorch weights. Layers are named as in that file, less its first underscore,
which TensorFlow does not allow."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from safetensors.numpy import load_file

layers = tf.keras.layers

# Repeats, kernel, stride, expansion, output channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def efficientnet_lite0(image_size: int) -> tf.keras.Model:
    """Images (batch, size, size, 3) to features (batch, 1280)."""
    images = layers.Input((image_size, image_size, 3))
    x = _conv(images, 32, 3, "conv_stem", "bn0", strides=2)
    block = 0
    for repeats, kernel, stride, expansion, channels in STAGES:
        for repeat in range(repeats):
            name = f"blocks.{block}."
            x = _block(x, name, kernel, stride if repeat == 0 else 1, expansion, channels)
            block += 1
    x = _conv(x, 1280, 1, "conv_head", "bn1")
    return tf.keras.Model(images, layers.GlobalAveragePooling2D()(x), name="efficientnet_lite0")


def load_efficientnet_lite0(model: tf.keras.Model, folder: Path) -> None:
    """Fill the model. Raises KeyError or ValueError where the file does not fit."""
    values = load_file(folder / "weights.safetensors")
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(list(_keras_weights(layer, values)))


def _block(
    x: tf.Tensor, name: str, kernel: int, stride: int, expansion: int, channels: int
) -> tf.Tensor:
    """Inverted residual: expand, depthwise, project; the input is added where shapes agree."""
    before = x
    if expansion != 1:
        x = _conv(x, x.shape[-1] * expansion, 1, name + "_expand_conv", name + "_bn0")
    x = layers.DepthwiseConv2D(
        kernel, stride, "same", use_bias=False, name=name + "_depthwise_conv"
    )(x)
    x = layers.ReLU(6.0)(_norm(name + "_bn1")(x))
    x = layers.Conv2D(channels, 1, use_bias=False, name=name + "_project_conv")(x)
    x = _norm(name + "_bn2")(x)
    return layers.Add()([before, x]) if stride == 1 and before.shape[-1] == channels else x


def _conv(
    x: tf.Tensor, channels: int, kernel: int, name: str, norm: str, strides: int = 1
) -> tf.Tensor:
    x = layers.Conv2D(channels, kernel, strides, "same", use_bias=False, name=name)(x)
    return layers.ReLU(6.0)(_norm(norm)(x))


def _norm(name: str) -> tf.keras.layers.Layer:
    return layers.BatchNormalization(epsilon=1e-3, name=name)


def _keras_weights(
    layer: tf.keras.layers.Layer, values: dict[str, np.ndarray]
) -> Iterator[np.ndarray]:
    """A layer's arrays in Keras' order: PyTorch keeps (out, in, h, w), Keras (h, w, in, out)."""
    if isinstance(layer, layers.BatchNormalization):
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield values[f"_{layer.name}.{part}"]
    else:
        # The depthwise kernel (c, 1, h, w) becomes (h, w, c, 1).
        order = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
        yield values[f"_{layer.name}.weight"].transpose(order)
