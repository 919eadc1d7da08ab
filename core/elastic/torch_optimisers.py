"""The published optimisers in PyTorch, in the form that Keras gives them.

Keras accumulates velocity with the learning rate in it and counts steps once for all tensors;
`torch.optim` does neither, so under a falling learning rate, or for a tensor that is selected late,
it would train something else.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

Schedule = Callable[[int], float]


class Optimiser(ABC):
    """slots: what it keeps for each tensor, by name. rate: learning rate of a step, by the number
    of steps before it."""

    slots: ClassVar[tuple[str, ...]]
    rate: Schedule

    @abstractmethod
    def update(
        self,
        weights: list[Tensor],
        gradients: list[Tensor],
        slots: dict[str, list[Tensor]],
        done: int,
    ) -> None:
        """One step in place. slots: one tensor for each weight. done: steps before this one."""


class SGDW(Optimiser):
    """SGD with momentum and decoupled weight decay (Loshchilov and Hutter 2019); the decay
    follows the schedule of the learning rate."""

    slots = ("momentum",)

    def __init__(self, rate: Schedule, decay: float, momentum: float) -> None:
        """decay: as a multiple of the learning rate."""
        self.rate, self._decay, self._momentum = rate, decay, momentum

    def update(
        self,
        weights: list[Tensor],
        gradients: list[Tensor],
        slots: dict[str, list[Tensor]],
        done: int,
    ) -> None:
        rate, velocity = self.rate(done), slots["momentum"]
        torch._foreach_mul_(velocity, self._momentum)
        torch._foreach_add_(velocity, gradients, alpha=-rate)
        torch._foreach_mul_(weights, 1 - rate * self._decay)
        torch._foreach_add_(weights, velocity)


class Adam(Optimiser):
    """Adam (Kingma and Ba 2015) with the constants and the place of ε of Keras."""

    slots = ("m", "v")
    BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7

    def __init__(self, rate: Schedule) -> None:
        self.rate = rate

    def update(
        self,
        weights: list[Tensor],
        gradients: list[Tensor],
        slots: dict[str, list[Tensor]],
        done: int,
    ) -> None:
        step, m, v = done + 1, slots["m"], slots["v"]
        torch._foreach_lerp_(m, gradients, 1 - self.BETA_1)
        torch._foreach_mul_(v, self.BETA_2)
        torch._foreach_addcmul_(v, gradients, gradients, 1 - self.BETA_2)
        rate = self.rate(done) * math.sqrt(1 - self.BETA_2**step) / (1 - self.BETA_1**step)
        below = torch._foreach_sqrt(v)
        torch._foreach_add_(below, self.EPSILON)
        torch._foreach_addcdiv_(weights, m, below, -rate)


def optimiser(settings: dict[str, Any], steps: int) -> Optimiser:
    """An optimiser from that section of a run spec; `steps` is the length of the schedule."""
    rate = _schedule(settings["learning_rate"], settings["schedule"], steps)
    if settings["name"] == "adam":
        return Adam(rate)
    return SGDW(rate, settings["weight_decay"], settings["momentum"])


def _schedule(start: float, name: str, steps: int) -> Schedule:
    if name == "constant":
        return lambda done: start
    return lambda done: start * 0.5 * (1 + math.cos(math.pi * min(done, steps) / steps))
