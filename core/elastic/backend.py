"""The contract between ElasticTrainer and a framework.

Selector, schemes, budget, trainer, snapshots and figures are shared and know no framework.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.elastic.schemes import Metric, Penalty
from core.elastic.selector import Floats, Mask
from core.elastic.timing import Counts, Parts, Tensor

Images = NDArray[np.uint8]  # (batch, height, width, 3)
Labels = NDArray[np.int64]  # (batch,)
State = dict[str, NDArray]  # type: ignore[type-arg]


class Backend(Protocol):
    """One network with its optimiser, on one device."""

    def __init__(
        self,
        model: dict[str, Any],
        training: dict[str, Any],
        classes: int,
        steps: int,
        seed: int,
        threads: dict[str, int],
        penalty: Penalty | None = None,
    ) -> None:
        """model, training: those sections of a run spec. steps: of the whole run, for schedules.
        penalty: what `set_penalty` gives a coefficient to."""

    @property
    def tensors(self) -> Sequence[Tensor]:
        """Trainable tensors in order of use, from the input to the output."""

    def select(self, mask: Mask) -> None:
        """Train exactly these tensors from now on. The step is compiled at its next call; what
        was compiled for the selection before is freed."""

    def train_step(self, images: Images, labels: Labels, step: int) -> tuple[float, int]:
        """One step on one batch under the selection: (mean loss, number of right answers).
        `step` counts from the start of the run and decides augmentation and dropout; the
        learning rate follows the optimiser's own count of steps."""

    def evaluate(self, images: Images, labels: Labels) -> tuple[float, int]:
        """(Summed loss, number of right answers) of a batch, nothing changed."""

    def probe(self, images: Images, labels: Labels, step: int, metric: Metric = "update") -> Floats:
        """Importance of every tensor on this batch: −Σ g·Δw of one optimiser step (`update`,
        section 4.2 of the paper), Σ|g| (`gradient`) or Σ|w| (`weight`). Leaves no trace: weights,
        optimiser, counters and RNG are as before."""

    def time_step(
        self, images: Images, labels: Labels, repeats: int
    ) -> tuple[list[float], list[float]]:
        """Seconds of `repeats` steps under the selection, and of a forward pass in training mode
        beside each, which tells a slow step from a machine that slowed down. After warm-up.
        Leaves no trace."""

    def count_parts(self) -> Counts:
        """Multiply-adds of a full step on one batch, taken apart. Raises ConfigError for an
        operation that the counter does not know. Leaves no trace."""

    def set_penalty(self, coefficient: float) -> None:
        """Weight of the penalty in the loss that is trained, from the next step on."""

    def penalty(self) -> float:
        """The penalty of the weights as they are, without its coefficient."""

    def prune(self, threshold: float, multiple: int = 1) -> int:
        """Cut out the channels whose weights are all below `threshold` in absolute value, as far
        as a multiple of `multiple` channels stays, and rebuild the network smaller; the number of
        channels cut. `tensors` keep their names and order and change their shapes; optimiser
        slots and later states follow. What the network computes is as if what was cut were zero.
        """

    def time_parts(self, images: Images, labels: Labels, repeats: int) -> Parts:
        """The full step taken apart. Leaves no trace, but the selection is all tensors after."""

    def state(self) -> State:
        """Everything that changes in training, as arrays by name."""

    def load_state(self, state: State) -> None:
        """Put a state back, that of a pruned network too. Raises ValueError when names, shapes or
        types differ."""

    def versions(self) -> dict[str, str]:
        """Versions of the packages that computed."""
