"""PruneTrain's channels in Keras networks: reading them off the graph, the proximal step, and
building the network again with fewer. What it is about is in `core.elastic.channels`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import tensorflow as tf

from core.elastic.channels import Arrays, Group, Slice, Wiring, unknown
from core.errors import ConfigError

Config = dict[str, Any]


def groups(network: tf.keras.Model, head: tf.keras.layers.Dense) -> tuple[Group, ...]:
    """The groups of a functional network and its prediction layer; arrays are called as in
    `weights_of`. Images keep their channels, and the prediction layer its classes.

    Raises ConfigError for a type of layer that is not in LAYERS.
    """
    wiring = Wiring()
    after: dict[str, int] = {}
    config = network.get_config()
    for layer in config["layers"]:
        kind, name = layer["class_name"], layer["name"]
        if kind not in LAYERS:
            raise _unknown(name, kind)
        if len(layer["inbound_nodes"]) > 1:
            raise _unknown(name, f"{kind} and used more than once")
        before = [after[source] for node in layer["inbound_nodes"] for source, *_ in node]
        after[name] = LAYERS[kind](wiring, name, layer["config"], before)
    wiring.weigh(after[config["output_layers"][0][0]], f"{head.name}/kernel", 0)
    return wiring.groups()


def _unknown(layer: str, kind: str) -> ConfigError:
    return unknown(layer, kind, "core/elastic/tf_prune.py")


def _images(wiring: Wiring, name: str, config: Config, before: Sequence[int]) -> int:
    return wiring.new(name, config["batch_input_shape"][-1], cut=False)


def _convolution(wiring: Wiring, name: str, config: Config, before: Sequence[int]) -> int:
    """Kernel (height, width, in, out)."""
    if config["groups"] != 1:
        raise _unknown(name, "Conv2D in groups")
    after = wiring.new(name, config["filters"])
    wiring.weigh(before[0], f"{name}/kernel", 2)
    wiring.weigh(after, f"{name}/kernel", 3)
    if config["use_bias"]:
        wiring.follow(after, f"{name}/bias")
    return after


def _depthwise(wiring: Wiring, name: str, config: Config, before: Sequence[int]) -> int:
    """Kernel (height, width, in, 1)."""
    if config["depth_multiplier"] != 1:
        raise _unknown(name, "DepthwiseConv2D with a multiplier")
    wiring.weigh(before[0], f"{name}/depthwise_kernel", 2)
    if config["use_bias"]:
        wiring.follow(before[0], f"{name}/bias")
    return before[0]


def _normalisation(wiring: Wiring, name: str, config: Config, before: Sequence[int]) -> int:
    learnt = [part for part, has in (("gamma", "scale"), ("beta", "center")) if config[has]]
    parts = (*learnt, "moving_mean", "moving_variance")
    wiring.follow(before[0], *(f"{name}/{part}" for part in parts))
    return before[0]


def _each_alone(wiring: Wiring, name: str, config: Config, before: Sequence[int]) -> int:
    """A layer without weights that treats every channel alike and apart from the others."""
    if config.get("activation") == "softmax":
        raise _unknown(name, "Activation('softmax')")
    return before[0]


def _sum(wiring: Wiring, name: str, config: Config, before: Sequence[int]) -> int:
    return wiring.join(name, before)


# What a layer does to channels: takes the sets that come in, tells which arrays they run through,
# gives the set that goes out. A network with other layers needs them here.
LAYERS: dict[str, Callable[[Wiring, str, Config, Sequence[int]], int]] = {
    "InputLayer": _images,
    "Conv2D": _convolution,
    "DepthwiseConv2D": _depthwise,
    "BatchNormalization": _normalisation,
    "Add": _sum,
    "Activation": _each_alone,
    "ReLU": _each_alone,
    "Dropout": _each_alone,
    "ZeroPadding2D": _each_alone,
    "MaxPooling2D": _each_alone,
    "AveragePooling2D": _each_alone,
    "GlobalAveragePooling2D": _each_alone,
}


def weights_of(*layers: tf.keras.layers.Layer) -> dict[str, tf.Variable]:
    """Every array of these by name, the statistics of normalisation included."""
    return {v.name.split(":")[0]: v for layer in layers for v in layer.weights}


def rebuild(network: tf.keras.Model, arrays: Arrays) -> tf.keras.Model:
    """The same network as wide as these arrays, with their values."""
    config = network.get_config()
    for layer in config["layers"]:
        layer.pop("build_config", None)  # the shapes that it had
        if layer["class_name"] == "Conv2D":
            layer["config"]["filters"] = arrays[f"{layer['name']}/kernel"].shape[-1]
    smaller = tf.keras.Model.from_config(config)
    for name, variable in weights_of(smaller).items():
        variable.assign(arrays[name])
    return smaller


def shrink(
    groups: Sequence[Group],
    variables: Mapping[str, tf.Variable],
    amount: tf.Tensor,
    trained: Collection[str],
) -> None:
    """The proximal step of the group lasso on those arrays that are trained.

    amount: step times coefficient, by which the norm of every channel becomes smaller.
    """
    now = {s.array: variables[s.array].value() for group in groups for s in group.kernels}
    for group in groups:
        norm = tf.sqrt(tf.add_n([_squares(now[s.array], s) for s in group.kernels]))
        factor = tf.maximum(0.0, 1.0 - tf.math.divide_no_nan(amount, norm))
        for s in group.kernels:
            if s.array in trained:
                shape = [-1 if axis == s.axis else 1 for axis in range(now[s.array].shape.rank)]
                now[s.array] *= tf.reshape(factor, shape)
    for name in [name for name in now if name in trained]:
        variables[name].assign(now[name])


def _squares(value: tf.Tensor, s: Slice) -> tf.Tensor:
    return tf.reduce_sum(value**2, [a for a in range(value.shape.rank) if a != s.axis])
