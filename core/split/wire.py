"""Frames (named arrays with a few facts) as messages of bounded size, and back.

A frame crosses the wire as chunks: at most 1 MiB each, so that small messages pass between them,
and several per frame, so that the receiver can see the rate of the link. Everything that arrives
is checked before memory is reserved for it. Nothing that is read is ever executed.
"""

import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from core.split.wire_pb2 import Array, Chunk, DType, Head, Message

CHUNK = 1 << 20  # bytes of a body at most
CHUNKS, SMALL = 8, 1 << 14  # a frame of more than SMALL bytes has at least CHUNKS of them
HEADER = 1 << 20  # bytes of a header at most
FACTS, DEPTH = 1 << 18, 16  # characters and levels of the facts
ARRAYS, NAME, DIMENSIONS = 4096, 256, 8
LENGTH = 4  # bytes that say how long the header is
MESSAGE = LENGTH + HEADER + CHUNK  # bytes of a message at most

KIND = re.compile(r"[a-z][a-z_]{0,31}")
DTYPES = {
    np.dtype(name).newbyteorder("<"): getattr(DType, name.upper())
    for name in (
        "uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 float32 float64".split()
    )
}
_BY_NUMBER = {number: dtype for dtype, number in DTYPES.items()}


def full_link(patience: float) -> tuple[str, int]:
    """An option of gRPC for both sides. By default it has the kernel end a connection whose sender
    could not empty its buffer for 20 s, and on a slow link that is full it never can. The silence
    of a dead peer is found by the channel itself."""
    return "grpc.keepalive_timeout_ms", int(1000 * max(patience, 60))


class WireError(ValueError):
    """What arrived is no message, or breaks a limit."""


@dataclass(frozen=True)
class Frame:
    """kind: one word of small letters. step: of the run. facts: what JSON can hold.

    The arrays are not copied when a frame is sent: leave them alone until it was acknowledged.
    """

    kind: str
    step: int
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Of the arrays."""
        return sum(array.nbytes for array in self.arrays.values())


def pack(message: Message, body: list[NDArray[np.uint8]] | None = None) -> bytes:
    """A message with the bytes that follow its header."""
    header = message.SerializeToString()
    return b"".join([len(header).to_bytes(LENGTH, "big"), header, *(body or ())])


def unpack(data: bytes) -> tuple[Message, memoryview]:
    """The header and, not copied, the body. Raises WireError."""
    length = int.from_bytes(data[:LENGTH], "big")
    if len(data) < LENGTH or length > min(HEADER, len(data) - LENGTH):
        raise WireError(f"a message of {len(data)} bytes announces a header of {length}")
    view = memoryview(data)
    try:
        message = Message.FromString(data[LENGTH : LENGTH + length])
    except DecodeError as error:
        raise WireError("the header of a message cannot be read") from error
    body = view[LENGTH + length :]
    if len(body) > (CHUNK if message.HasField("chunk") else 0):
        raise WireError(f"a message has a body of {len(body)} bytes")
    return message, body


def head_of(frame: Frame, limit: int) -> Head:
    """What a frame announces. Raises WireError where a receiver with that limit would refuse it."""
    facts = json.dumps(frame.facts, separators=(",", ":"))
    head = Head(kind=frame.kind, step=frame.step, facts=facts)
    for name, array in frame.arrays.items():
        number = DTYPES.get(array.dtype.newbyteorder("<"))
        if number is None:
            raise WireError(f"array {name!r} has dtype {array.dtype}, which cannot be sent")
        head.arrays.append(Array(name=name, dtype=number, shape=array.shape))
    check_head(head, limit)
    return head


def chunks(head: Head, frame: Frame, sequence: int) -> Iterator[bytes]:
    """The messages of a frame, made one at a time."""
    views = [_raw(array) for array in frame.arrays.values()]
    total = sum(map(len, views))
    size = CHUNK if total <= SMALL else min(CHUNK, math.ceil(total / CHUNKS))
    offset = 0
    for body in _cut(views, size):
        chunk = Chunk(sequence=sequence, offset=offset, head=None if offset else head)
        yield pack(Message(chunk=chunk), body)
        offset += sum(map(len, body))


def _raw(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes of an array as they are sent; a copy only if it is not laid out like that."""
    little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    return little.reshape(-1).view(np.uint8)


def _cut(views: list[NDArray[np.uint8]], size: int) -> Iterator[list[NDArray[np.uint8]]]:
    """Pieces of the views, `size` bytes at a time; one empty list when there are no bytes."""
    body: list[NDArray[np.uint8]] = []
    room = size
    for view in views:
        start = 0
        while start < len(view):
            piece = view[start : start + room]
            body.append(piece)
            start += len(piece)
            room -= len(piece)
            if not room:
                yield body
                body, room = [], size
    if body or not any(map(len, views)):
        yield body


def check_head(head: Head, limit: int) -> None:
    """Raises WireError when a frame announces what is not allowed, or more than `limit` bytes."""
    if not KIND.fullmatch(head.kind):
        raise WireError(f"{head.kind[:40]!r} is no kind of frame")
    if len(head.facts) > FACTS:
        raise WireError(f"{len(head.facts)} characters of facts; at most {FACTS} are allowed")
    if len(head.arrays) > ARRAYS:
        raise WireError(f"{len(head.arrays)} arrays in a frame; at most {ARRAYS} are allowed")
    if len({array.name for array in head.arrays}) < len(head.arrays):
        raise WireError("two arrays of a frame have the same name")
    total = 0
    for array in head.arrays:
        _check_array(array, limit)
        total += array_bytes(array)
    if total > limit:
        raise WireError(f"a frame of {total} bytes; at most {limit} are allowed")


def _check_array(array: Array, limit: int) -> None:
    if not 0 < len(array.name) <= NAME:
        raise WireError(f"a name of {len(array.name)} characters")
    if array.dtype not in _BY_NUMBER:
        raise WireError(f"array {array.name!r} has the unknown dtype {array.dtype}")
    if len(array.shape) > DIMENSIONS:
        raise WireError(f"array {array.name!r} has {len(array.shape)} dimensions")
    # An axis of length 0 hides the others from the product, not from NumPy.
    if math.prod(max(1, n) for n in array.shape) > max(limit, 1):
        raise WireError(f"array {array.name!r} has the shape {tuple(array.shape)}")


def array_bytes(array: Array) -> int:
    """That an array announces."""
    return math.prod(array.shape) * _BY_NUMBER[array.dtype].itemsize


def _facts(text: str) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError("the facts of a frame are not JSON") from error
    if not isinstance(facts, dict):
        raise WireError("the facts of a frame are no JSON object")
    if _deeper(facts, DEPTH):
        raise WireError(f"the facts of a frame are nested more than {DEPTH} deep")
    return facts


def _deeper(value: Any, levels: int) -> bool:
    """Whether there is something below that many levels."""
    if not isinstance(value, dict | list):
        return False
    below = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(v, levels - 1) for v in below)


@dataclass(frozen=True)
class Arrival:
    """A whole frame. size: bytes of its messages. later: of those, in messages after the first.
    seconds: from its first message to its last."""

    frame: Frame
    sequence: int
    size: int
    later: int
    seconds: float


class Assembler:
    """Makes frames of the chunks of one stream, which come in order.

    Holds the memory of one frame, at most `limit` bytes, reserved when the first chunk came.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._frame: Frame | None = None
        self._sequence = 0

    @property
    def busy(self) -> bool:
        """A frame has begun and is not whole."""
        return self._frame is not None

    def add(self, chunk: Chunk, body: memoryview, size: int) -> Arrival | None:
        """The frame, when this chunk was its last. Raises WireError for what does not fit.

        size: bytes of the message that brought the chunk.
        """
        now = time.perf_counter()
        if chunk.HasField("head"):
            self._begin(chunk, now)
        elif self._frame is None or chunk.sequence != self._sequence:
            raise WireError(f"a chunk of frame {chunk.sequence} without the first one")
        else:
            self._later += size
        self._size += size
        self._fill(chunk, body)
        if self._views:
            return None
        frame, self._frame = self._frame, None
        assert frame is not None
        return Arrival(frame, self._sequence, self._size, self._later, now - self._began)

    def _begin(self, chunk: Chunk, now: float) -> None:
        head = chunk.head
        if self._frame is not None:
            raise WireError(f"frame {chunk.sequence} begins before {self._sequence} is whole")
        check_head(head, self.limit)
        facts = _facts(head.facts)
        arrays = {a.name: np.empty(tuple(a.shape), _BY_NUMBER[a.dtype]) for a in head.arrays}
        self._frame = Frame(head.kind, head.step, arrays, facts)
        self._views = [v for v in map(_raw, arrays.values()) if len(v)][::-1]  # to be filled
        self._sequence, self._began = chunk.sequence, now
        self._filled = self._size = self._later = 0

    def _fill(self, chunk: Chunk, body: memoryview) -> None:
        if chunk.offset != self._filled or (self._views and not len(body)):
            raise WireError(f"a chunk of frame {chunk.sequence} is missing or empty")
        self._filled += len(body)
        new = np.frombuffer(body, np.uint8)
        while len(new):
            if not self._views:
                raise WireError(f"frame {chunk.sequence} is longer than it announced")
            view = self._views.pop()
            count = min(len(view), len(new))
            view[:count] = new[:count]
            if count < len(view):
                self._views.append(view[count:])
            new = new[count:]
