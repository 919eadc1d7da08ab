"""Which samples are in which step: a function of spec and step, which every side has for itself."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError
from core.training.order import epoch_order


class Schedule:
    """Positions in the aligned order. Whole training batches only."""

    def __init__(self, spec: Any, sizes: Mapping[str, int]) -> None:
        """sizes: number of samples, by part. Raises ConfigError for too few."""
        training = spec["training"]
        self._seed, self._sizes = spec["seed"], sizes
        self._order = lru_cache(2)(epoch_order)  # steps of two epochs may be under way
        self._batch, self._test_batch = training["batch"], training["test_batch"]
        whole = sizes["train"] // self._batch
        if not whole:
            raise ConfigError(
                f"training.batch = {self._batch}: there are only {sizes['train']} training samples"
            )
        self.epochs: int = training["epochs"]
        self.steps_per_epoch: int = min(whole, training["steps"] or whole)
        self.total: int = self.epochs * self.steps_per_epoch

    def at(self, step: int) -> NDArray[np.int64]:
        """The batch of a step, counted over the whole run."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self._order(self._seed, epoch, self._sizes["train"])
        return order[place * self._batch : (place + 1) * self._batch]

    def tests(self) -> Iterator[NDArray[np.int64]]:
        """Every test sample, in order."""
        number = self._sizes["test"]
        for start in range(0, number, self._test_batch):
            yield np.arange(start, min(start + self._test_batch, number))
