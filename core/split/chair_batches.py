"""Batches of chairs: style, view and transform as inputs, images with masks as targets. A side that
has the inputs alone, and one that has the images alone, go through the same samples and the same
transforms, of which both know by seed and step."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from core.data import chair_transforms
from core.data.chair_transforms import Changes
from core.data.chairs import ChairSplit
from core.split.batches import Batch, chosen, places

_TRANSFORMS = 3  # tells this stream of random numbers from others of the run


class ChairBatches:
    """The training part in the order of each epoch; whole batches only."""

    def __init__(
        self, split: ChairSplit, batch: int, seed: int, changes: Changes, steps: int | None
    ) -> None:
        """steps: of an epoch, at most; None for all."""
        self._split, self._batch, self._seed = split, batch, seed
        self._changes, self.ids = changes, split.ids
        whole = len(split.inputs) // batch
        self.steps_per_epoch = min(whole, steps or whole)

    def at(self, step: int) -> Batch:
        """The batch of a step, counted over the whole run."""
        number = len(self._split.inputs)
        rows = chosen(self._seed, step, number, self._batch, self.steps_per_epoch)
        if self._changes.none:
            return batch_of(self._split, rows)
        random = np.random.default_rng([self._seed, _TRANSFORMS, step])
        return batch_of(self._split, rows, chair_transforms.draw(random, len(rows), self._changes))


class ChairTests:
    """The test part in order, without transforms."""

    def __init__(self, split: ChairSplit, batch: int, samples: int | None) -> None:
        """samples: the first so many; None for all."""
        self.split, self._batch, self.ids = split, batch, split.ids
        number = len(split.inputs)
        self.samples = number if samples is None else min(samples, number)

    def __len__(self) -> int:
        return -(-self.samples // self._batch)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.at, range(len(self)))

    def at(self, number: int) -> Batch:
        """The batch of a number, from 0."""
        return batch_of(self.split, places(number, self.samples, self._batch))


def packed(
    inputs: NDArray[np.float32], transforms: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Style and view, (batch, 5), with a transform each: (batch, 17)."""
    if transforms is None:
        transforms = np.tile(chair_transforms.IDENTITY, (len(inputs), 1))
    return np.hstack([inputs, transforms])


def batch_of(
    split: ChairSplit, rows: NDArray[np.int64], transforms: NDArray[np.float32] | None = None
) -> Batch:
    """Some samples of a part, under a transform each."""
    targets = None
    if split.images is not None:
        targets = np.asarray(split.images[rows])
        if transforms is not None:
            pairs = zip(targets, transforms, strict=True)
            targets = np.stack([chair_transforms.transformed(*pair) for pair in pairs])
    return Batch(packed(split.inputs[rows], transforms), targets, rows)
