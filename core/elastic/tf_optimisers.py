"""The published optimisers, with their schedules over the whole run."""

import warnings
from typing import Any

import tensorflow as tf


def optimiser(settings: dict[str, Any], steps: int) -> tf.keras.optimizers.legacy.Optimizer:
    """An optimiser from that section of a run spec; `steps` is the length of the schedule.

    `sgdw`: SGD with decoupled weight decay (Loshchilov and Hutter 2019) of TensorFlow Addons.
    Its decay follows the same schedule as the learning rate.
    """
    rate = settings["learning_rate"]
    if settings["name"] == "adam":
        return tf.keras.optimizers.legacy.Adam(_schedule(rate, settings, steps))
    return _sgdw_class()(
        learning_rate=_schedule(rate, settings, steps),
        weight_decay=_schedule(rate * settings["weight_decay"], settings, steps),
        momentum=settings["momentum"],
    )


class SGDW(tf.keras.optimizers.legacy.SGD):
    """What TensorFlow Addons calls SGDW, for ARM boards: Addons was never built for them. A test
    holds both to the same bits."""

    def __init__(self, learning_rate: Any, weight_decay: Any, momentum: float) -> None:
        super().__init__(learning_rate, momentum, name="SGDW")
        self._weight_decay = weight_decay

    def _resource_apply_dense(self, grad: Any, var: Any, apply_state: Any = None) -> Any:
        decay = self._weight_decay
        if callable(decay):
            decay = decay(self.iterations)
        with tf.control_dependencies([var.assign_sub(decay * var)]):
            return super()._resource_apply_dense(grad, var, apply_state)


def _sgdw_class() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Addons announces its end of life at every import
            import tensorflow_addons as tfa
    except ModuleNotFoundError:
        return SGDW
    return tfa.optimizers.SGDW


def _schedule(start: float, settings: dict[str, Any], steps: int) -> Any:
    if settings["schedule"] == "constant":
        return start
    return tf.keras.optimizers.schedules.CosineDecay(start, steps)
