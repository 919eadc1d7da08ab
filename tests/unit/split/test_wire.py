"""core.split.wire: what is sent comes back with the same bits; what is no frame is refused."""

import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from core.split import wire
from core.split.wire import CHUNK, DTYPES, Arrival, Assembler, Frame, WireError
from core.split.wire_pb2 import Array, Chunk, DType, Head, Message

LIMIT = 1 << 24
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
frames = st.builds(
    Frame,
    kind=st.from_regex(wire.KIND, fullmatch=True),
    step=st.integers(-(2**63), 2**63 - 1),
    arrays=st.dictionaries(
        st.text(min_size=1, max_size=20),
        st.sampled_from(list(DTYPES)).flatmap(
            lambda dtype: arrays(dtype, array_shapes(min_dims=0, min_side=0, max_side=5))
        ),
        max_size=5,
    ),
    facts=st.dictionaries(st.text(), json_values, max_size=4),
)


def messages(frame: Frame, sequence: int = 1) -> list[bytes]:
    return list(wire.chunks(wire.head_of(frame, LIMIT), frame, sequence))


def assemble(data: list[bytes], limit: int = LIMIT) -> Arrival | None:
    assembler = Assembler(limit)
    arrival = None
    for one in data:
        assert arrival is None
        message, body = wire.unpack(one)
        arrival = assembler.add(message.chunk, body, len(one))
    assert assembler.busy == (arrival is None)
    return arrival


def same(a: Frame, b: Frame) -> bool:
    def key(frame: Frame) -> Any:
        described = {k: (v.dtype, v.shape, v.tobytes()) for k, v in frame.arrays.items()}
        return frame.kind, frame.step, frame.facts, list(described.items())

    return bool(key(a) == key(b))


@given(frame=frames)
@settings(deadline=None)
def test_a_frame_comes_back_with_the_same_bits(frame: Frame) -> None:
    arrival = assemble(messages(frame))
    assert arrival is not None
    assert same(arrival.frame, frame)


@pytest.mark.parametrize("nbytes", [0, 1, 16384, 16385, 10**5, 8 << 20, (8 << 20) + 5, 11 << 20])
def test_chunks_are_small_enough_to_interleave_and_many_enough_to_measure(nbytes: int) -> None:
    draw = np.random.default_rng(nbytes)
    parts = np.array_split(draw.integers(0, 256, nbytes, np.uint8), 3)
    frame = Frame("features", 4, {str(i): part for i, part in enumerate(parts)})
    data = messages(frame)
    bodies = [len(wire.unpack(one)[1]) for one in data]
    assert sum(bodies) == nbytes
    assert max(bodies) <= CHUNK
    assert len(data) == max(1 if nbytes <= 16384 else 8, math.ceil(nbytes / CHUNK))
    assert max(map(len, data)) <= wire.MESSAGE
    arrival = assemble(data)
    assert arrival is not None
    assert same(arrival.frame, frame)
    assert (arrival.size, arrival.later) == (sum(map(len, data)), sum(map(len, data[1:])))
    assert arrival.seconds >= 0


def test_arrays_in_another_layout_arrive_as_they_look() -> None:
    array = np.arange(24, dtype=">f4").reshape(2, 3, 4)
    frame = Frame("move", 0, {"turned": array.T, "part": array[:, ::2], "one": array[1, 1, 1:2]})
    arrival = assemble(messages(frame))
    assert arrival is not None
    for name, sent in frame.arrays.items():
        got = arrival.frame.arrays[name]
        assert got.tolist() == sent.tolist()
        assert got.flags.c_contiguous
        assert got.dtype == np.dtype("<f4")


def test_arrays_that_arrived_are_aligned_and_can_be_written() -> None:
    frame = Frame("x", 0, {"odd": np.ones(3, np.uint8), "next": np.ones(3)})
    arrival = assemble(messages(frame))
    assert arrival is not None
    assert all(a.flags.aligned and a.flags.writeable for a in arrival.frame.arrays.values())


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (Frame("x", 0, {"a": np.ones(2, bool)}), "array 'a' has dtype bool, which cannot be sent"),
        (Frame("x", 0, {"a": np.ones(2, object)}), "has dtype object, which cannot be sent"),
        (Frame("x", 0, {"a": np.ones(2, complex)}), "has dtype complex128, which cannot be sent"),
        (Frame("x", 0, {"a": np.ones(LIMIT // 8 + 1)}), r"has the shape|at most 16777216 are"),
        (Frame("x", 0, {"": np.ones(1)}), "a name of 0 characters"),
        (Frame("x", 0, {"a" * 257: np.ones(1)}), "a name of 257 characters"),
        (Frame("x", 0, {str(i): np.ones(0) for i in range(4097)}), "4097 arrays in a frame"),
        (Frame("x", 0, {"a": np.ones((1,) * 9)}), "array 'a' has 9 dimensions"),
        (Frame("Two words", 0), "'Two words' is no kind of frame"),
        (Frame("", 0), "'' is no kind of frame"),
        (Frame("x", 0, {}, {"a": "b" * 2**18}), "characters of facts; at most 262144 are allowed"),
    ],
)
def test_a_frame_that_no_receiver_would_take_is_not_sent(frame: Frame, text: str) -> None:
    with pytest.raises(WireError, match=text):
        wire.head_of(frame, LIMIT)


def head(**changes: Any) -> Head:
    array = Array(name="a", dtype=DType.FLOAT32, shape=[2, 3])
    return Head(**({"kind": "x", "step": 0, "arrays": [array], "facts": "{}"} | changes))


def shaped(*shape: int) -> list[Array]:
    return [Array(name="a", dtype=DType.UINT8, shape=shape)]


@pytest.mark.parametrize(
    ("announced", "text"),
    [
        (head(arrays=shaped(LIMIT + 1)), "has the shape"),
        (head(arrays=shaped(2**63, 2**63)), "has the shape"),
        (head(arrays=shaped(0, 2**63, 2**63)), "has the shape"),
        (head(arrays=shaped(2**32, 2**32)), "has the shape"),
        (head(arrays=shaped(*[1] * 9)), "has 9 dimensions"),
        (head(arrays=[Array(name=str(i), dtype=1, shape=[LIMIT]) for i in range(3)]), "at most"),
        (head(arrays=[Array(name="a", dtype=DType.FLOAT64, shape=[LIMIT])]), "at most"),
        (head(arrays=shaped(1) * 2), "two arrays of a frame have the same name"),
        (head(arrays=[Array(name="a", shape=[1])]), "unknown dtype 0"),
        (head(arrays=[Array(name="a", dtype=99, shape=[1])]), "unknown dtype 99"),
        (head(arrays=[Array(dtype=1)]), "a name of 0 characters"),
        (head(kind="x" * 33), "no kind of frame"),
        (head(kind="../x"), "no kind of frame"),
        (head(facts="{"), "are not JSON"),
        (head(facts="[" * 10**5), "are not JSON"),
        (head(facts='{"a":' * 20000 + "1" + "}" * 20000), "are not JSON"),
        (head(facts='{"a":' + "[" * 16 + "]" * 16 + "}"), "nested more than 16 deep"),
        (head(facts='{"a":' + "9" * 5000 + "}"), "are not JSON"),
        (head(facts="[]"), "no JSON object"),
        (head(facts="7"), "no JSON object"),
    ],
)
def test_a_head_that_breaks_a_limit_is_refused(announced: Head, text: str) -> None:
    data = wire.pack(Message(chunk=Chunk(sequence=1, head=announced)))
    with pytest.raises(WireError, match=text):
        assemble([data])


def test_what_is_announced_is_checked_before_memory_is_reserved(monkeypatch) -> None:
    def reserve(*_: Any) -> None:
        raise AssertionError("memory was reserved")

    monkeypatch.setattr(np, "empty", reserve)
    data = wire.pack(Message(chunk=Chunk(sequence=1, head=head(arrays=shaped(LIMIT + 1)))))
    with pytest.raises(WireError):
        assemble([data])


def chunk(offset: int, size: int, sequence: int = 1, begins: bool = False) -> bytes:
    made = Chunk(sequence=sequence, offset=offset, head=head() if begins else None)
    return wire.pack(Message(chunk=made), [np.zeros(size, np.uint8)])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([chunk(0, 25, begins=True)], "frame 1 is longer than it announced"),
        ([chunk(0, 20, begins=True), chunk(20, 5)], "frame 1 is longer than it announced"),
        ([chunk(0, 20, begins=True), chunk(21, 3)], "a chunk of frame 1 is missing or empty"),
        ([chunk(0, 20, begins=True), chunk(0, 4)], "a chunk of frame 1 is missing or empty"),
        ([chunk(0, 20, begins=True), chunk(20, 0)], "a chunk of frame 1 is missing or empty"),
        ([chunk(0, 0, begins=True)], "a chunk of frame 1 is missing or empty"),
        ([chunk(0, 9)], "a chunk of frame 1 without the first one"),
        ([chunk(0, 9, begins=True), chunk(9, 9, 2)], "a chunk of frame 2 without the first one"),
        ([chunk(0, 9, begins=True)] * 2, "frame 1 begins before 1 is whole"),
    ],
)
def test_chunks_that_do_not_fit_are_refused(data: list[bytes], text: str) -> None:
    with pytest.raises(WireError, match=text):
        assemble(data)


def test_a_truncated_frame_is_not_whole() -> None:
    data = messages(Frame("x", 0, {"a": np.ones(10**5)}))
    assert assemble(data[:-1]) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "a message of 0 bytes"),
        (b"\0\0\0", "a message of 3 bytes"),
        (b"\xff\xff\xff\xff", "announces a header of 4294967295"),
        (b"\0\0\0\5abc", "a message of 7 bytes announces a header of 5"),
        (b"\0\0\0\3\xff\xff\xff", "the header of a message cannot be read"),
        (wire.pack(Message(ping=1)) + b"x", "has a body of 1 bytes"),
        (wire.pack(Message(chunk=Chunk())) + bytes(CHUNK + 1), "has a body of 1048577 bytes"),
        ((wire.HEADER + 1).to_bytes(4, "big") + bytes(wire.HEADER + 1), "announces a header of"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(WireError, match=text):
        wire.unpack(data)


def garbled(data: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, cut off or put in."""
    new = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(new) + 1)
        what = draw.choice(["change", "cut", "insert"])
        if what == "change" and place < len(new):
            new[place] = draw.randrange(256)
        elif what == "cut":
            del new[place : place + draw.randint(1, 9)]
        else:
            new[place:place] = draw.randbytes(draw.randint(1, 9))
    return bytes(new)


def test_ten_thousand_random_and_garbled_messages_end_in_no_other_error() -> None:
    draw = random.Random(0)
    frame = Frame("features", 7, {"a": np.ones((3, 4)), "b": np.zeros(5, np.int8)}, {"k": [1]})
    good = messages(frame)[0]
    outcomes = {"refused": 0, "begun or taken": 0}
    for i in range(10_000):
        data = garbled(good, draw) if i % 2 else draw.randbytes(draw.randrange(200))
        try:
            message, body = wire.unpack(data)
            if message.HasField("chunk"):
                Assembler(1 << 20).add(message.chunk, body, len(data))
            outcomes["begun or taken"] += 1
        except WireError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 5000  # a change inside the numbers is no error, TLS finds it


def test_the_made_code_is_that_of_the_description(tmp_path: Path) -> None:
    project = Path(wire.__file__).parents[2]
    make = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "core/split/wire.proto"]
    outs = [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([*make, *outs], cwd=project, check=True)
    for name in ("wire_pb2.py", "wire_pb2.pyi"):
        made = (tmp_path / "core" / "split" / name).read_text()
        kept = (project / "core" / "split" / name).read_text()
        assert kept == made, "type: make proto"
