"""The contract between ElasticTrainer and a framework.

Selector, schemes, budget, trainer, snapshots and figures are shared and know no framework.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.elastic.selector import Floats, Mask
from core.elastic.timing import Parts, Tensor

Images = NDArray[np.uint8]  # (batch, height, width, 3)
Labels = NDArray[np.int64]  # (batch,)
State = dict[str, NDArray]  # type: ignore[type-arg]


class Backend(Protocol):
    """One network with its optimiser, on one device."""

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

    def probe(self, images: Images, labels: Labels, step: int) -> Floats:
        """Importance of every tensor, −Σ g·Δw of one optimiser step on this batch (section 4.2
        of the paper). Leaves no trace: weights, optimiser, counters and RNG are as before."""

    def time_step(
        self, images: Images, labels: Labels, repeats: int
    ) -> tuple[list[float], list[float]]:
        """Seconds of `repeats` steps under the selection, and of a forward pass in training mode
        beside each, which tells a slow step from a machine that slowed down. After warm-up.
        Leaves no trace."""

    def time_parts(self, images: Images, labels: Labels, repeats: int) -> Parts:
        """The full step taken apart. Leaves no trace, but the selection is all tensors after."""

    def state(self) -> State:
        """Everything that changes in training, as arrays by name."""

    def load_state(self, state: State) -> None:
        """Put a state back. Raises ValueError when names, shapes or types differ."""

    def versions(self) -> dict[str, str]:
        """Versions of the packages that computed."""
