"""EfficientNet-Lite (Tan and Le 2019, without squeeze-and-excitation, ReLU6) in Keras, filled
from the published PyTorch weights. Layers are named as in those files, less their first
underscore, which TensorFlow does not allow."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from safetensors.numpy import load_file

layers = tf.keras.layers

# Of Lite0: repeats, kernel, stride, expansion, output channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280  # channels, of every size of the family


def efficientnet_lite(image_size: int, width: float, depth: float) -> tf.keras.Model:
    """Images (batch, size, size, 3) to features (batch, 1280).

    width, depth: compound scaling of Lite0's channels and repeats (section 3.3). The Lite family
    scales neither stem and head nor the repeats of the first and the last stage.
    """
    images = layers.Input((image_size, image_size, 3))
    x = _conv(images, STEM, 3, "conv_stem", "bn0", strides=2)
    block = 0
    for stage, (repeats, kernel, stride, expansion, channels) in enumerate(STAGES):
        if 0 < stage < len(STAGES) - 1:
            repeats = math.ceil(depth * repeats)
        for repeat in range(repeats):
            name = f"blocks.{block}."
            first = stride if repeat == 0 else 1
            x = _block(x, name, kernel, first, expansion, _scaled(channels, width))
            block += 1
    x = _conv(x, HEAD, 1, "conv_head", "bn1")
    return tf.keras.Model(images, layers.GlobalAveragePooling2D()(x))


def load_efficientnet_lite(model: tf.keras.Model, folder: Path) -> None:
    """Fill the model. Raises KeyError or ValueError where the file does not fit."""
    values = load_file(folder / "weights.safetensors")
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(list(_keras_weights(layer, values)))


def _scaled(channels: int, width: float) -> int:
    """Channels times width, to the nearest multiple of 8, but never more than 10 % fewer."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


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
