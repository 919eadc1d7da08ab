"""Codecs: tensors as they cross the link. `core.split.codecs` has the table of their stages.

An encoder is one object and its decoder, on the other side, another one of the same name and seed;
each direction has a pair of its own. All but delta coding are without state.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.errors import TrainingError
from core.split.codecs import CODECS, parse
from core.split.codecs.common import (
    Arrays,
    Floats,
    Format,
    Layout,
    Lossless,
    Samples,
    check_arrays,
)
from core.split.codecs.plain import Plain

__all__ = ["CODECS", "Codec", "Encoded", "encoded_bytes", "make"]

DIMENSIONS = 8
DTYPES = {n: np.dtype(n) for n in "float32 uint8 int8 int16 int32 int64".split()}


@dataclass(frozen=True)
class Encoded:
    """arrays: what crosses the wire; they may share the memory of the tensor. facts: small JSON:
    codec, shape, dtype, and history with delta coding."""

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]

    @property
    def nbytes(self) -> int:
        """Of the arrays."""
        return sum(array.nbytes for array in self.arrays.values())


class _Body(Protocol):
    """The part of a chain that knows values: a number format, perhaps under delta coding."""

    lossless: bool

    def facts(self) -> dict[str, Any]: ...
    def layout(self, shape: tuple[int, ...], samples: Samples) -> Layout: ...
    def encode(
        self, values: Floats, samples: Samples, seed: int, step: int
    ) -> tuple[Arrays, Floats | None]: ...
    def decode(
        self, arrays: Arrays, shape: tuple[int, ...], samples: Samples, step: int
    ) -> Floats: ...
    def state(self) -> Arrays: ...
    def load_state(self, state: Arrays) -> None: ...


class _Direct:
    """A number format alone; samples do not matter."""

    def __init__(self, numbers: Format) -> None:
        self._numbers = numbers
        self.lossless = numbers.lossless

    def facts(self) -> dict[str, Any]:
        return {}

    def layout(self, shape: tuple[int, ...], samples: Samples) -> Layout:
        return self._numbers.layout(shape)

    def encode(
        self, values: Floats, samples: Samples, seed: int, step: int
    ) -> tuple[Arrays, Floats | None]:
        return self._numbers.encode(values, seed, step), None

    def decode(self, arrays: Arrays, shape: tuple[int, ...], samples: Samples, step: int) -> Floats:
        return self._numbers.decode(arrays, shape)

    def state(self) -> Arrays:
        return {}

    def load_state(self, state: Arrays) -> None:
        pass


class Codec:
    """A chain: delta coding, a number format, a lossless stage."""

    def __init__(
        self, name: str, body: _Body, packer: Lossless | None, seed: int, limit: float
    ) -> None:
        """Use `make`. limit: bytes that a decoded tensor may take."""
        self.name = name
        self._body, self._packer, self._seed, self._limit = body, packer, seed, limit

    @property
    def lossless(self) -> bool:
        """What is decoded is what was encoded, bit for bit."""
        return self._body.lossless

    def encode(self, tensor: NDArray[Any], step: int, samples: Samples) -> Encoded:
        """tensor: float32 or integers (N, …), not changed. samples: int64 (N,), which names each
        row; only delta coding looks at them.

        Raises TrainingError for NaN, infinity, and tensors that the decoder would refuse.
        """
        return self._encode(tensor, step, samples, wanted=False)[0]

    def encode_decoded(
        self, tensor: NDArray[Any], step: int, samples: Samples
    ) -> tuple[Encoded, NDArray[Any]]:
        """As `encode`, with what the other side will decode of it, as error feedback needs. (Never
        ask an encoder to `decode`: with delta coding it has already seen the step.)"""
        encoded, decoded = self._encode(tensor, step, samples, wanted=True)
        assert decoded is not None  # it was wanted
        return encoded, decoded

    def decode(self, encoded: Encoded, step: int, samples: Samples) -> NDArray[Any]:
        """The tensor: finite, C-contiguous, writable. Everything is checked before it is used:
        it comes from outside. Memory stays within the announced shape, which has a limit.

        Raises ValueError that names what does not fit; the codec stays as it was.
        """
        body, shape = self._announced(encoded.facts)
        layout = body.layout(shape, samples)
        arrays = encoded.arrays
        if self._packer:
            arrays = self._packer.unpack(arrays, layout)
        check_arrays(arrays, layout)
        return body.decode(arrays, shape, samples, step)

    def state(self) -> Arrays:
        """What delta coding remembers, for a snapshot; nothing for other codecs."""
        return self._body.state()

    def load_state(self, state: Arrays) -> None:
        """Go on from `state`, on both sides alike."""
        self._body.load_state(state)

    def _encode(
        self, tensor: NDArray[Any], step: int, samples: Samples, wanted: bool
    ) -> tuple[Encoded, Floats | None]:
        name = str(tensor.dtype)
        try:
            self._check(name, tensor.shape)
        except ValueError as error:
            raise TrainingError(f"step {step}: the tensor to send: {error}") from error
        body = self._body_of(name)
        facts = {"codec": self.name, "dtype": name, "shape": list(tensor.shape)} | body.facts()
        values = np.ascontiguousarray(tensor)
        arrays, decoded = body.encode(values, samples, self._seed, step)
        if wanted and decoded is None:
            lossless = body.lossless
            decoded = values if lossless else body.decode(arrays, values.shape, samples, step)
        return Encoded(self._packer.pack(arrays) if self._packer else arrays, facts), decoded

    def _announced(self, facts: Mapping[str, Any]) -> tuple[_Body, tuple[int, ...]]:
        dtype, shape = facts.get("dtype"), facts.get("shape")
        if facts.get("codec") != self.name:
            raise ValueError(f"facts.codec: {facts.get('codec')!r} in the place of {self.name!r}")
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"facts.shape: {shape!r} is no list of whole numbers")
        self._check(dtype, tuple(shape))
        body = self._body_of(str(dtype))
        own = body.facts()
        if set(facts) != {"codec", "dtype", "shape", *own}:
            raise ValueError(f"facts: {', '.join(sorted(facts)[:6])}")
        if any(facts[key] != value for key, value in own.items()):
            raise ValueError(
                "facts.history: the encoder remembers other samples than this side; both must go "
                "on from the same snapshot"
            )
        return body, tuple(shape)

    def _check(self, dtype: object, shape: tuple[int, ...]) -> None:
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise ValueError(f"dtype: {dtype!r} is none of {', '.join(DTYPES)}")
        if not 1 <= len(shape) <= DIMENSIONS:
            raise ValueError(f"shape: {len(shape)} axes; 1 to {DIMENSIONS} are allowed")
        # An axis of length 0 hides the others from the product.
        nbytes = math.prod(max(n, 1) for n in shape) * DTYPES[dtype].itemsize
        if nbytes > self._limit:
            raise ValueError(f"shape: {nbytes} bytes; at most {int(self._limit)} are allowed")

    def _body_of(self, dtype: str) -> _Body:
        return self._body if dtype == "float32" else _Direct(Plain(DTYPES[dtype]))


LIMIT_MIB = 256.0  # of a tensor, encoded or decoded


def make(name: str, seed: int = 0, memory_mib: float = 64, limit_mib: float = LIMIT_MIB) -> Codec:
    """A codec of this name, as new.

    seed: of random rounding. memory_mib: what delta coding may remember, on either side.
    limit_mib: size of the largest tensor that is encoded or decoded.

    Raises ConfigError, which lists what is allowed, for an unknown name.
    """
    stages = parse(name)
    numbers: Format = _load(stages["format"])
    body: _Body = _Direct(numbers)
    if "delta" in stages:
        body = _load(stages["delta"])(numbers, memory_mib)
    packer: Lossless | None = _load(stages["lossless"]) if "lossless" in stages else None
    return Codec(name, body, packer, seed, limit_mib * 2**20)


def encoded_bytes(name: str, shape: tuple[int, ...]) -> int:
    """Bytes of the arrays of a float32 tensor on the wire, before the lossless stage. With delta
    coding of 4 bit it may be one byte more, where both parts of a batch have odd sizes.

    Raises ConfigError for an unknown name.
    """
    stages = parse(name)
    numbers: Format = _load(stages["format"])
    parts = [shape, (0, *shape[1:])] if "delta" in stages else [shape]  # both parts have a grid
    return sum(field.nbytes for part in parts for field in numbers.layout(part).values())


def _load(stage: str) -> Any:
    module, name = CODECS[stage].builder.split(":")
    return getattr(import_module(module), name)
