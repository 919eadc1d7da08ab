"""Delta coding: the difference to what was last decoded of the same sample.

Encoder and decoder keep equal memories, so nothing about them travels but a checksum of what they
have seen. Both sides give the codec the same tensors in the same order. The samples of a batch that
are in memory (`change`) and those that are not (`whole`) are encoded apart, since their ranges
differ. It pays where a sample's features change little from epoch to epoch: late in training, and
without augmentation.
"""

import zlib
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.split.codecs.common import (
    Arrays,
    Floats,
    Format,
    Layout,
    Samples,
    extent,
    require_finite,
    saturate,
)

ENTRY = 200  # bytes that Python needs for one sample beside its features
CHANGE, WHOLE = "change.", "whole."


class Memory:
    """What was last decoded of each sample: float32 rows of one shape, the oldest out first."""

    def __init__(self, mib: float) -> None:
        """mib: how much it may take."""
        self._limit = int(mib * 2**20)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._places: OrderedDict[int, int] = OrderedDict()  # of samples, the oldest first
        self._rows: Floats = np.empty((0, 0), np.float32)

    def __len__(self) -> int:
        return len(self._places)

    def known(self, samples: Samples, row: tuple[int, ...]) -> NDArray[np.bool_]:
        """Which of the samples are there, in this shape."""
        if self._rows.shape[1:] != row:
            return np.zeros(len(samples), bool)
        return np.array([s in self._places for s in samples.tolist()], bool)

    def row(self, sample: int) -> Floats:
        """What was last decoded of it."""
        row: Floats = self._rows[self._places[sample]]
        return row

    def update(self, samples: Samples, decoded: Floats) -> None:
        """Keep these rows. Rows of another shape (the cut has moved) push out all the others."""
        if self._rows.shape[1:] != decoded.shape[1:]:
            self.clear()
            room = self._limit // (ENTRY + 4 * int(np.prod(decoded.shape[1:])))
            self._rows = np.empty((room, *decoded.shape[1:]), np.float32)
        if not len(self._rows):
            return
        for sample, row in zip(samples.tolist(), decoded, strict=True):
            place = self._places.pop(sample, None)
            if place is None:
                full = len(self._places) == len(self._rows)
                place = self._places.popitem(last=False)[1] if full else len(self._places)
            self._places[sample] = place
            self._rows[place] = row

    def state(self) -> Arrays:
        """samples: int64 (M,), the oldest first. rows: float32 (M, …)."""
        samples = np.array(list(self._places), np.int64)
        return {"samples": samples, "rows": self._rows[list(self._places.values())]}

    def load_state(self, state: Arrays) -> None:
        """Go on from `state`."""
        self.clear()
        self.update(state["samples"], state["rows"])


class Delta:
    """Delta coding around a number format."""

    def __init__(self, numbers: Format, memory_mib: float) -> None:
        """numbers: how differences, and rows that are not in memory, are encoded."""
        self.lossless = False  # a difference is rounded
        self._numbers, self._memory = numbers, Memory(memory_mib)
        self._history = 0

    def facts(self) -> dict[str, Any]:
        """history: checksum of all steps, samples and shapes so far."""
        return {"history": self._history}

    def layout(self, shape: tuple[int, ...], samples: Samples) -> Layout:
        """Raises ValueError unless there is one sample for each row."""
        if samples.dtype != np.int64 or samples.shape != shape[:1]:
            raise ValueError(
                f"samples: {samples.dtype} {samples.shape} for a tensor of {shape[0]} samples"
            )
        known = int(self._memory.known(samples, shape[1:]).sum())
        parts = {CHANGE: known, WHOLE: shape[0] - known}
        return {
            prefix + name: field
            for prefix, number in parts.items()
            for name, field in self._numbers.layout((number, *shape[1:])).items()
        }

    def encode(
        self, values: Floats, samples: Samples, seed: int, step: int
    ) -> tuple[Arrays, Floats]:
        """The arrays, and what the other side decodes."""
        require_finite(*extent(values), step)
        self.layout(values.shape, samples)
        known = self._memory.known(samples, values.shape[1:])
        change = np.empty((int(known.sum()), *values.shape[1:]), np.float32)
        with np.errstate(over="ignore"):
            for i, place in enumerate(np.flatnonzero(known)):
                np.subtract(values[place], self._memory.row(int(samples[place])), out=change[i])
        saturate(change)
        whole = values[~known] if known.any() else values
        parts = {CHANGE: change, WHOLE: whole}
        arrays = {
            prefix + name: array
            for prefix, part in parts.items()
            for name, array in self._numbers.encode(part, seed, step).items()
        }
        return arrays, self.decode(arrays, values.shape, samples, step)

    def decode(self, arrays: Arrays, shape: tuple[int, ...], samples: Samples, step: int) -> Floats:
        """The tensor, which goes into memory. Raises ValueError and leaves memory as it was."""
        known = self._memory.known(samples, shape[1:])
        change, whole = (
            self._numbers.decode(
                {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)},
                (int(rows.sum()), *shape[1:]),
            )
            for prefix, rows in ((CHANGE, known), (WHOLE, ~known))
        )
        decoded = whole
        if known.any():
            decoded = np.empty(shape, np.float32)
            decoded[~known] = whole
            with np.errstate(over="ignore"):
                for i, place in enumerate(np.flatnonzero(known)):
                    row = self._memory.row(int(samples[place]))
                    np.add(change[i], row, out=decoded[place])
            saturate(decoded)
        self._memory.update(samples, decoded)
        seen = np.array([step, *shape, *samples], np.int64).astype("<i8")
        self._history = zlib.crc32(seen.tobytes(), self._history)
        return decoded

    def state(self) -> Arrays:
        """Of the memory, and history: int64 (1,)."""
        return self._memory.state() | {"history": np.array([self._history], np.int64)}

    def load_state(self, state: Arrays) -> None:
        self._memory.load_state(state)
        self._history = int(state["history"][0])
