"""core.split.codec: chains, what they refuse, and what a hostile peer cannot do."""

import json
import tracemalloc
from itertools import product
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from core.errors import ConfigError, TrainingError
from core.split.codec import CODECS, Encoded, encoded_bytes, make

FORMATS = [name for name, stage in CODECS.items() if stage.role == "format"]
CHAINS = [
    "+".join(filter(None, parts))
    for parts in product(["", "delta"], [*FORMATS, ""], ["", "zstd"])
    if any(parts)
]
INTEGERS = ["uint8", "int8", "int16", "int32", "int64"]

shapes = array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=5)
tensors = shapes.flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(width=32, allow_nan=False,
                                                               allow_infinity=False))
)  # fmt: skip


def samples_of(tensor: np.ndarray) -> np.ndarray:
    return np.arange(len(tensor))


def over_the_wire(encoded: Encoded) -> Encoded:
    """Facts as JSON, arrays as read-only bytes."""
    received = {
        k: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape) for k, a in encoded.arrays.items()
    }
    return Encoded(received, json.loads(json.dumps(encoded.facts)))


def round_trip(name: str, tensor: np.ndarray, step: int = 0) -> np.ndarray:
    encoded = make(name).encode(tensor, step, samples_of(tensor))
    return make(name).decode(over_the_wire(encoded), step, samples_of(tensor))


# What comes back.


@pytest.mark.parametrize("name", CHAINS)
@given(tensor=tensors)
@settings(max_examples=15)
def test_every_shape_and_range_comes_back_finite_and_writable(name, tensor):
    before = tensor.copy()
    decoded = round_trip(name, tensor)
    assert decoded.shape == tensor.shape
    assert decoded.dtype == np.float32
    assert np.isfinite(decoded).all()
    assert decoded.flags.writeable
    assert decoded.flags.c_contiguous
    assert tensor.tobytes() == before.tobytes()


@pytest.mark.parametrize("name", ["none", "zstd", "none+zstd"])
@given(tensor=tensors)
def test_lossless_chains_give_the_same_bits(name, tensor):
    assert make(name).lossless
    assert round_trip(name, tensor).tobytes() == tensor.tobytes()


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_pass_every_chain_unchanged(name, dtype):
    tensor = np.random.default_rng(0).integers(0, 100, (3, 700)).astype(dtype)
    decoded = round_trip(name, tensor)
    assert decoded.dtype == tensor.dtype
    assert np.array_equal(decoded, tensor)


@pytest.mark.parametrize("name", CHAINS)
def test_a_strided_tensor_is_encoded_like_a_contiguous_one(name):
    tensor = np.random.default_rng(0).standard_normal((4, 6, 5), np.float32).transpose(0, 2, 1)
    expected = round_trip(name, np.ascontiguousarray(tensor))
    assert np.array_equal(round_trip(name, tensor), expected)


@pytest.mark.parametrize("name", CHAINS)
def test_what_the_other_side_decodes_is_known_while_encoding(name):
    random = np.random.default_rng(0)
    encoder, decoder = make(name, seed=3), make(name, seed=3)
    for step in range(3):
        tensor, samples = random.standard_normal((4, 300), np.float32), random.permutation(6)[:4]
        encoded, known = encoder.encode_decoded(tensor, step, samples)
        decoded = decoder.decode(over_the_wire(encoded), step, samples)
        assert decoded.tobytes() == known.tobytes()


# Sizes.


@pytest.mark.parametrize("name", [c for c in CHAINS if "zstd" not in c])
@given(shape=shapes)
@settings(max_examples=20)
def test_bytes_on_the_wire_are_known_from_the_shape(name, shape):
    tensor = np.random.default_rng(0).standard_normal(shape, np.float32)
    assert make(name).encode(tensor, 0, samples_of(tensor)).nbytes == encoded_bytes(name, shape)


@pytest.mark.parametrize("name", [c for c in CHAINS if "delta" in c and "zstd" not in c])
@pytest.mark.parametrize("known", range(4))
def test_bytes_are_known_when_a_part_of_the_batch_is_in_memory(name, known):
    codec, tensor = make(name), np.ones((3, 5), np.float32)
    codec.encode(tensor[:known], 0, np.arange(known))
    more = codec.encode(tensor, 1, np.arange(3)).nbytes - encoded_bytes(name, (3, 5))
    assert more == 0 or ("int4" in name and more == 1)


def test_the_lossless_stage_makes_features_smaller():
    tensor = np.maximum(np.random.default_rng(0).standard_normal((8, 4000), np.float32), 0)
    samples = samples_of(tensor)
    packed, plain = (make(n).encode(tensor, 0, samples) for n in ("int8+zstd", "int8"))
    assert packed.nbytes < 0.8 * plain.nbytes
    assert encoded_bytes("int8+zstd", tensor.shape) == plain.nbytes


# Names.


@pytest.mark.parametrize("name", CHAINS)
def test_a_codec_has_the_name_it_was_asked_by(name):
    assert make(name).name == name


@pytest.mark.parametrize(
    "name", ["int8+delta", "int8+int4", "zstd+int8", "delta+delta", "none+fp16", "zstd+zstd"]
)
def test_stages_in_another_order_or_twice_are_refused(name):
    for ask in (make, lambda n: encoded_bytes(n, (1,))):
        with pytest.raises(ConfigError, match="do not follow each other so") as caught:
            ask(name)
        assert (
            "a codec is [delta+][none|fp16|int8|int8_channel|int8_released|int4][+zstd]"
            in str(caught.value)
        )  # fmt: skip


@pytest.mark.parametrize("name", ["", "int9", "int8+", "int8+gzip", "INT8", "int8 + zstd"])
def test_an_unknown_stage_is_refused(name):
    with pytest.raises(ConfigError, match=r"there is no '.*'; a codec is \[delta\+\]"):
        make(name)


# What cannot be sent.


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, -1])
def test_nan_and_infinity_end_the_training(name, value, place):
    tensor = np.ones((4, 3, 50, 50), np.float32)
    tensor.reshape(-1)[place] = value
    with pytest.raises(TrainingError, match=r"step 7: .* NaN or infinity.* lower training\."):
        make(name).encode(tensor, 7, samples_of(tensor))


def test_what_a_decoder_would_refuse_is_not_sent():
    codec = make("int8", limit_mib=1)
    for tensor, problem in [
        (np.zeros((2, 2)), "dtype: 'float64' is none of float32"),
        (np.zeros((), np.float32), "shape: 0 axes"),
        (np.zeros((2, 2**17 + 1), np.float32), "shape: 1048584 bytes; at most 1048576"),
    ]:
        with pytest.raises(TrainingError, match=f"step 2: the tensor to send: {problem}"):
            codec.encode(tensor, 2, np.arange(2))


# What comes from outside.

BATCH = np.maximum(np.random.default_rng(1).standard_normal((4, 3, 9, 11), np.float32), 0)


def sent(name: str) -> tuple[Any, Encoded]:
    """A decoder that has seen a step, and the next frame for it."""
    encoder, decoder = make(name, limit_mib=1), make(name, limit_mib=1)
    samples = np.arange(4)
    decoder.decode(encoder.encode(BATCH[:3], 0, samples[:3]), 0, samples[:3])
    return decoder, over_the_wire(encoder.encode(BATCH, 1, samples))


@pytest.mark.parametrize("name", ["none", "int8", "delta+int8_channel", "int4+zstd", "delta+zstd"])
@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"codec": "int7"}, r"facts\.codec: 'int7' in the place of"),
        ({"codec": None}, r"facts\.codec"),
        ({"dtype": "float64"}, "dtype: 'float64' is none of"),
        ({"dtype": ["float32"]}, "dtype: "),
        ({"dtype": "object"}, "dtype: "),
        ({"shape": None}, r"facts\.shape"),
        ({"shape": []}, "shape: 0 axes"),
        ({"shape": [1] * 9}, "shape: 9 axes"),
        ({"shape": [4, -3, 99]}, r"facts\.shape"),
        ({"shape": [4, True, 297]}, r"facts\.shape"),
        ({"shape": [4, 297.0]}, r"facts\.shape"),
        ({"shape": [4, 2**40]}, "shape: .* at most 1048576 are allowed"),
        ({"shape": [0, 2**40]}, "shape: .* at most 1048576 are allowed"),
        ({"shape": [4, 3, 9, 12]}, "arrays"),
        ({"more": 1}, "facts: "),
    ],
)
def test_facts_that_do_not_fit_are_refused(name, facts, problem):
    decoder, frame = sent(name)
    with pytest.raises(ValueError, match=problem):
        decoder.decode(Encoded(frame.arrays, frame.facts | facts), 1, np.arange(4))
    assert decoder.decode(frame, 1, np.arange(4)).shape == BATCH.shape  # it stayed as it was


@pytest.mark.parametrize("name", CHAINS)
def test_arrays_that_do_not_fit_are_refused(name):
    decoder, frame = sent(name)
    for key, array in frame.arrays.items():
        tampered = [array.astype(np.float64), array[:-1], array[None], array.reshape(-1)[:0]]
        changes = [frame.arrays | {key: a} for a in tampered]
        changes += [{k: a for k, a in frame.arrays.items() if k != key}]
        changes += [frame.arrays | {"more": array}, {}]
        for arrays_ in changes:
            with pytest.raises(ValueError, match="arrays"):
                decoder.decode(Encoded(arrays_, frame.facts), 1, np.arange(4))
    assert decoder.decode(frame, 1, np.arange(4)).shape == BATCH.shape


@pytest.mark.parametrize("name", CHAINS)
@given(data=st.data())
@settings(max_examples=20)
def test_random_bytes_give_a_finite_tensor_or_a_value_error(name, data):
    decoder, frame = sent(name)
    changed = {}
    for key, array in frame.arrays.items():
        raw = bytearray(array.tobytes())
        for _ in range(data.draw(st.integers(0, 4)) if raw else 0):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        changed[key] = np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)
    decoded, problem = BATCH, "arrays."
    try:
        decoded = decoder.decode(Encoded(changed, frame.facts), 1, np.arange(4))
    except ValueError as error:
        problem = str(error)
    assert problem.startswith("arrays.")
    assert decoded.shape == BATCH.shape
    assert np.isfinite(decoded).all()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@pytest.mark.parametrize("name", ["int8", "delta+int4+zstd"])
@given(data=st.data())
@settings(max_examples=40)
def test_random_facts_give_a_value_error(name, data):
    decoder, frame = sent(name)
    key = data.draw(st.sampled_from([*frame.facts, "more"]))
    value = data.draw(json_values.filter(lambda v: v != frame.facts.get(key)))
    with pytest.raises(ValueError, match=r"facts|dtype|shape|arrays"):
        decoder.decode(Encoded(frame.arrays, frame.facts | {key: value}), 1, np.arange(4))


@pytest.mark.parametrize(
    ("name", "grid", "problem"),
    [
        (name, grid, problem)
        for name in ("int8", "int8_released", "int4")
        for grid, problem in [
            ([np.nan, 1, 0], "low is not a finite number"),
            ([np.inf, 1, 0], "low is not a finite number"),
            ([0, np.nan, 0], "scale is not a positive number"),
            ([0, np.inf, 0], "scale is not a positive number"),
            ([0, 0, 0], "scale is not a positive number"),
            ([0, -1, 0], "scale is not a positive number"),
            ([0, 1, np.nan], "zero is not"),
            ([0, 1, 256], "zero is not"),
            ([0, 1, -129], "zero is not"),
        ]
    ],
)
def test_a_grid_that_no_encoder_makes_is_refused(name, grid, problem):
    _, frame = sent(name)
    bad = frame.arrays | {"grid": np.array(grid, np.float32)[:, None]}
    with pytest.raises(ValueError, match=rf"arrays\.grid: {problem}"):
        make(name).decode(Encoded(bad, frame.facts), 1, np.arange(4))


@pytest.mark.parametrize("name", ["int8", "int8_released", "int4", "delta+int8"])
def test_the_widest_grid_gives_finite_numbers(name):
    _, frame = sent(name)
    most = np.finfo(np.float32).max
    grid = np.array([[-most], [most], [0]], np.float32)
    wide = {k: grid if k.endswith("grid") else a for k, a in frame.arrays.items()}
    decoder, _ = sent(name)
    assert np.isfinite(decoder.decode(Encoded(wide, frame.facts), 1, np.arange(4))).all()


def test_nan_from_outside_is_refused():
    for name, key in (("none", "values"), ("fp16", "halves")):
        _, frame = sent(name)
        bad = frame.arrays[key].copy()
        bad[-1, -1, -1, -1] = np.nan
        with pytest.raises(ValueError, match=f"arrays.{key}: NaN or infinity"):
            make(name).decode(Encoded({key: bad}, frame.facts), 1, np.arange(4))


def test_something_behind_the_last_of_an_odd_number_is_refused():
    tensor = np.ones((1, 3), np.float32)
    frame = make("int4").encode(tensor, 0, np.arange(1))
    frame.arrays["packed"][-1] |= 0x10
    with pytest.raises(ValueError, match=r"arrays\.packed: something behind the last value"):
        make("int4").decode(frame, 0, np.arange(1))


# Frames of zstd.

ROWS = np.zeros((4, 1000), np.float32)


def bomb(size: int, announce: bool = True) -> bytes:
    compressor = zstandard.ZstdCompressor(write_content_size=announce)
    return compressor.compress(bytes(size))


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        (bomb(64 << 20), "announces 67108864 bytes in the place of 16000"),
        (bomb(ROWS.nbytes, announce=False), "announces"),
        (bomb(ROWS.nbytes - 1), "announces 15999 bytes"),
        (bomb(ROWS.nbytes) + b"more", "is no whole frame"),
        (bomb(ROWS.nbytes)[:-1], "is no whole frame"),
        (b"", "is no whole frame"),
        (b"no zstd at all", "is no whole frame"),
        (ROWS.tobytes(), "is no whole frame"),
    ],
)
def test_a_frame_of_zstd_is_opened_only_for_what_was_announced(frame, problem):
    encoded = make("zstd").encode(ROWS, 0, np.arange(4))
    bad = Encoded({"values": np.frombuffer(frame, np.uint8)}, encoded.facts)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"arrays\.values: {problem}"):
            make("zstd").decode(bad, 0, np.arange(4))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_codecs_without_delta_have_no_state():
    codec = make("int8+zstd")
    codec.encode(BATCH, 0, np.arange(4))
    assert codec.state() == {}
    codec.load_state({})
