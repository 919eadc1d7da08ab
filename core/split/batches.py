"""Batches as a function of seed and step, so that a step can be repeated after any death."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.data.arrays import Arrays
from core.training.order import epoch_order

_AUGMENTATION = 2  # tells this stream of random numbers from those of core.training.order


@dataclass(frozen=True)
class Batch:
    """inputs: uint8 (batch, height, width, 3), or int32 tokens (batch, length). labels: int64.
    samples: positions in the training part, int64, which name a sample to the codecs."""

    inputs: NDArray[Any]
    labels: NDArray[np.int64]
    samples: NDArray[np.int64]


class Batches:
    """The training part in the order of each epoch; whole batches only."""

    def __init__(
        self, arrays: Arrays, batch: int, seed: int, flip: bool, crop: int, steps: int | None
    ) -> None:
        """flip: mirror half of the images. crop: pixels of black border of which a window of the
        old size is cut out. steps: of an epoch, at most; None for all."""
        self._arrays, self._batch, self._seed = arrays, batch, seed
        self._flip, self._crop = flip, crop
        whole = len(arrays.labels) // batch
        self.steps_per_epoch = min(whole, steps or whole)

    def at(self, step: int) -> Batch:
        """The batch of a step, counted over the whole run."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = epoch_order(self._seed, epoch, len(self._arrays.labels))
        chosen = order[position * self._batch : (position + 1) * self._batch]
        inputs = np.ascontiguousarray(self._arrays.inputs[chosen])
        if inputs.ndim == 4:
            inputs = self._augmented(inputs, step)
        return Batch(inputs, self._arrays.labels[chosen], chosen)

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
        self._arrays, self._batch = arrays, batch
        self.samples = len(arrays.labels) if samples is None else min(samples, len(arrays.labels))

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.samples, self._batch):
            places = np.arange(start, min(start + self._batch, self.samples))
            yield Batch(
                np.asarray(self._arrays.inputs[places]), self._arrays.labels[places], places
            )
