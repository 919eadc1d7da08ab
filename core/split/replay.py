"""Feature replay: batches whose gradient has not come back yet, and how late it may come."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from core.split.batches import Batch


@dataclass
class Pending:
    """A step whose features were sent and whose gradient was not applied yet.

    batch: its raw inputs, of which the features are made again with the weights of the day.
    features: with their graph where nothing can change meanwhile (K = 0), else None.
    lost: decoded − original of the features, where error feedback wants it. sent: bytes of them.
    front_s: seconds that its forward pass and encoding took.
    """

    step: int
    batch: Batch
    features: Tensor | None = None
    lost: NDArray[np.float32] | None = None
    sent: int = 0
    front_s: float = 0.0


def staleness(schedule: Sequence[Mapping[str, int]], epoch: int) -> int:
    """K in this epoch (from 1): that of the last entry that has begun.

    schedule: entries {from_epoch, steps}, the first from epoch 1 (IMWUT 2021: constant, but one
    step more from epoch 3 on for Tiny ImageNet).
    """
    begun = [entry for entry in schedule if entry["from_epoch"] <= epoch]
    return max(begun, key=lambda entry: entry["from_epoch"])["steps"]
