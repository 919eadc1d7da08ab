"""Batches as a function of seed and step, so that a step can be repeated after any death."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.data.arrays import Arrays
from core.training.order import epoch_order

_AUGMENTATION = 2  # tells this stream of random numbers from those of core.training.order


@dataclass(frozen=True)
class Batch:
    """inputs: uint8 (batch, height, width, 3), int32 tokens (batch, length), or float32 (batch,
    numbers). targets: int64 classes (batch,), or uint8 images with masks (batch, height, width, 4);
    None on a side that does not have them. samples: positions in the part, int64, which name a
    sample to the codecs."""

    inputs: NDArray[Any]
    targets: NDArray[Any] | None
    samples: NDArray[np.int64]

    @property
    def wanted(self) -> NDArray[Any]:
        """The targets, on a side that has them."""
        assert self.targets is not None
        return self.targets


class Training(Protocol):
    """The training part, whole batches only. ids: names of all samples."""

    @property
    def steps_per_epoch(self) -> int: ...
    @property
    def ids(self) -> Sequence[str]: ...

    def at(self, step: int) -> Batch:
        """The batch of a step, counted over the whole run."""


class Testing(Protocol):
    """The test part in order, read when it is needed. samples: how many. ids: names of all."""

    @property
    def samples(self) -> int: ...
    @property
    def ids(self) -> Sequence[str]: ...
    def __iter__(self) -> Iterator[Batch]: ...
    def __len__(self) -> int:
        """How many batches."""

    def at(self, number: int) -> Batch:
        """The batch of a number, from 0."""


def chosen(seed: int, step: int, samples: int, batch: int, steps: int) -> NDArray[np.int64]:
    """Which samples a step trains on: the same on every side that knows their number. steps: of
    an epoch."""
    epoch, position = divmod(step, steps)
    return epoch_order(seed, epoch, samples)[position * batch : (position + 1) * batch]


def places(number: int, samples: int, batch: int) -> NDArray[np.int64]:
    """Which samples of the test part a batch has."""
    return np.arange(number * batch, min((number + 1) * batch, samples))


class Batches:
    """The training part in the order of each epoch; whole batches only."""

    def __init__(
        self, arrays: Arrays, batch: int, seed: int, flip: bool, crop: int, steps: int | None
    ) -> None:
        """flip: mirror half of the images. crop: pixels of black border of which a window of the
        old size is cut out. steps: of an epoch, at most; None for all."""
        self._arrays, self._batch, self._seed, self.ids = arrays, batch, seed, arrays.ids
        self._flip, self._crop = flip, crop
        whole = len(arrays.labels) // batch
        self.steps_per_epoch = min(whole, steps or whole)

    def at(self, step: int) -> Batch:
        """The batch of a step, counted over the whole run."""
        labels = self._arrays.labels
        rows = chosen(self._seed, step, len(labels), self._batch, self.steps_per_epoch)
        inputs = np.ascontiguousarray(self._arrays.inputs[rows])
        if inputs.ndim == 4:
            inputs = self._augmented(inputs, step)
        return Batch(inputs, labels[rows], rows)

    def _augmented(self, images: NDArray[Any], step: int) -> NDArray[Any]:
        """Mirrored and shifted as usual for CIFAR-10; padding is black."""
        random = np.random.default_rng([self._seed, _AUGMENTATION, step])
        mirrored = random.random(len(images)) < 0.5
        shifts = random.integers(0, 2 * self._crop + 1, (len(images), 2))
        if self._flip:
            images[mirrored] = images[mirrored, :, ::-1]
        if not self._crop:
            return images
        border = (self._crop, self._crop)
        padded = np.pad(images, ((0, 0), border, border, (0, 0)))
        height, width = images.shape[1:3]
        for image, whole, (down, right) in zip(images, padded, shifts, strict=True):
            image[:] = whole[down : down + height, right : right + width]
        return images


class Tests:
    """The test part in order, read when it is needed."""

    def __init__(self, arrays: Arrays, batch: int, samples: int | None) -> None:
        """samples: the first so many; None for all."""
        self._arrays, self._batch, self.ids = arrays, batch, arrays.ids
        self.samples = len(arrays.labels) if samples is None else min(samples, len(arrays.labels))

    def __len__(self) -> int:
        return -(-self.samples // self._batch)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.at, range(len(self)))

    def at(self, number: int) -> Batch:
        """The batch of a number, from 0."""
        rows = places(number, self.samples, self._batch)
        return Batch(np.asarray(self._arrays.inputs[rows]), self._arrays.labels[rows], rows)
