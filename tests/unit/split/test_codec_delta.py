"""Delta coding: both memories stay equal, within their limit, whatever comes."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.split.codec import Encoded, make
from core.split.codecs import delta

ROW = (3, 2)
FOUR = 4 * (delta.ENTRY + 4 * 6) / 2**20  # MiB for four samples of that shape

batches = st.lists(
    st.tuples(st.lists(st.integers(0, 8), min_size=0, max_size=5), st.integers(0, 2**16)),
    min_size=1,
    max_size=8,
)


def tensor_of(number: int, seed: int, row: tuple[int, ...] = ROW) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((number, *row), np.float32)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].tobytes() == b[k].tobytes() and a[k].shape == b[k].shape for k in a
    )


@pytest.mark.parametrize("name", ["delta", "delta+fp16", "delta+int8", "delta+int4+zstd"])
@given(sequence=batches)
@settings(max_examples=40)
def test_memories_of_both_sides_stay_equal(name, sequence):
    encoder, decoder = make(name, 1, FOUR), make(name, 1, FOUR)
    for step, (ids, seed) in enumerate(sequence):
        samples, row = np.array(ids, np.int64), (5,) if seed % 7 == 0 else ROW
        encoded, known = encoder.encode_decoded(tensor_of(len(ids), seed, row), step, samples)
        decoded = decoder.decode(encoded, step, samples)
        assert decoded.tobytes() == known.tobytes()
        assert same(encoder.state(), decoder.state())
        assert len(encoder.state()["samples"]) <= 4 or row == (5,)


@given(sequence=batches)
def test_delta_follows_the_definition(sequence):
    """Against a dictionary: a sample in memory is coded by its difference, the oldest go out."""
    encoder = make("delta", memory_mib=FOUR)
    memory: OrderedDict[int, np.ndarray] = OrderedDict()
    for step, (ids, seed) in enumerate(sequence):
        tensor, old = tensor_of(len(ids), seed), dict(memory)
        encoded = encoder.encode(tensor, step, np.array(ids, np.int64))
        change = [x - old[i] for i, x in zip(ids, tensor, strict=True) if i in old]
        whole = [x for i, x in zip(ids, tensor, strict=True) if i not in old]
        for part, rows in (("change.values", change), ("whole.values", whole)):
            assert encoded.arrays[part].tobytes() == b"".join(r.tobytes() for r in rows)
        for i, x in zip(ids, tensor, strict=True):
            memory.pop(i, None)
            memory[i] = old[i] + (x - old[i]) if i in old else x
            if len(memory) > 4:
                memory.popitem(last=False)
        state = encoder.state()
        assert state["samples"].tolist() == list(memory)
        assert state["rows"].tobytes() == b"".join(r.tobytes() for r in memory.values())


def test_the_error_does_not_grow_over_the_steps():
    """Differences are taken to what was decoded, so that a step's error is that of its own."""
    encoder, decoder = make("delta+int8"), make("delta+int8")
    features, samples = tensor_of(4, 0, (100,)), np.arange(4)
    for step in range(50):
        features = features + 0.01 * tensor_of(4, step + 1, (100,))
        decoded = decoder.decode(encoder.encode(features, step, samples), step, samples)
        lost = np.abs(decoded - features).max()
    assert lost < 0.01 * 9 / 255  # the range of a change, in which one step of 255 is a ninth


def test_small_changes_compress_well():
    features, samples = tensor_of(8, 0, (1000,)), np.arange(8)
    sizes = {}
    for name in ("int8+zstd", "delta+int8+zstd"):
        codec = make(name)
        for step in range(2):  # the second one sends what the first one's rounding lost
            codec.encode(features, step, samples)
        changed = features.copy()
        changed[:, ::50] += 0.1
        sizes[name] = codec.encode(changed, 2, samples).nbytes
    assert sizes["delta+int8+zstd"] < 0.2 * sizes["int8+zstd"]


def test_what_fits_into_no_memory_is_coded_whole():
    encoder, decoder = make("delta+int8", memory_mib=1e-4), make("delta+int8", memory_mib=1e-4)
    samples = np.arange(2)
    for step in range(2):
        encoded = encoder.encode(tensor_of(2, step), step, samples)
        assert encoded.arrays["whole.quantised"].shape == (2, *ROW)
        decoder.decode(encoded, step, samples)
    assert len(encoder.state()["samples"]) == 0


def test_another_shape_pushes_out_all_the_others():
    codec, samples = make("delta+int8"), np.arange(2)
    codec.encode(tensor_of(2, 0), 0, samples)
    encoded = codec.encode(tensor_of(2, 1, (5,)), 1, samples)
    assert encoded.arrays["change.quantised"].shape == (0, 5)
    assert codec.state()["rows"].shape == (2, 5)


@given(sequence=batches, cut=st.integers(0, 8))
def test_a_loaded_state_goes_on_with_the_same_bits(sequence, cut):
    unbroken, resumed = make("delta+int4", 5, FOUR), make("delta+int4", 5, FOUR)
    for step, (ids, seed) in enumerate(sequence):
        if step == cut:
            state = resumed.state()
            resumed = make("delta+int4", 5, FOUR)
            resumed.load_state(state)
            assert same(resumed.state(), state)
        samples, tensor = np.array(ids, np.int64), tensor_of(len(ids), seed)
        a, b = (codec.encode(tensor, step, samples) for codec in (unbroken, resumed))
        assert a.facts == b.facts
        assert same(a.arrays, b.arrays)


def test_a_state_does_not_change_afterwards():
    codec, samples = make("delta"), np.arange(2)
    codec.encode(tensor_of(2, 0), 0, samples)
    state = codec.state()
    rows = state["rows"].copy()
    codec.encode(tensor_of(2, 1), 1, samples)
    assert np.array_equal(state["rows"], rows)


def test_memories_that_differ_are_noticed():
    encoder, decoder, samples = make("delta+int8"), make("delta+int8"), np.arange(2)
    first = encoder.encode(tensor_of(2, 0), 0, samples)
    second = encoder.encode(tensor_of(2, 1), 1, samples)
    with pytest.raises(ValueError, match=r"facts\.history: the encoder remembers other samples"):
        decoder.decode(second, 1, samples)
    decoder.decode(first, 0, samples)
    decoder.decode(second, 1, samples)
    with pytest.raises(ValueError, match=r"facts\.history"):
        decoder.decode(second, 1, samples)  # twice
    with pytest.raises(ValueError, match=r"facts\.history"):
        encoder.decode(second, 1, samples)  # its own


def test_a_refused_frame_leaves_the_memory_as_it_was():
    encoder, decoder, samples = make("delta+int8"), make("delta+int8"), np.arange(2)
    decoder.decode(encoder.encode(tensor_of(2, 0), 0, samples), 0, samples)
    before, frame = decoder.state(), encoder.encode(tensor_of(2, 1), 1, samples)
    bad = frame.arrays | {"whole.grid": np.full((3, 1), np.nan, np.float32)}
    with pytest.raises(ValueError, match=r"arrays\.grid"):
        decoder.decode(Encoded(bad, frame.facts), 1, samples)
    assert same(decoder.state(), before)


@pytest.mark.parametrize("samples", [np.arange(3), np.arange(2, dtype=np.int32), np.zeros((2, 1))])
def test_samples_must_name_the_rows(samples):
    encoded = make("delta").encode(tensor_of(2, 0), 0, np.arange(2))
    for ask in (
        lambda: make("delta").encode(tensor_of(2, 0), 0, samples),
        lambda: make("delta").decode(encoded, 0, samples),
    ):
        with pytest.raises(ValueError, match=r"samples: .* for a tensor of 2 samples"):
            ask()


def test_changes_beyond_float32_are_saturated_on_both_sides():
    encoder, decoder, samples = make("delta"), make("delta"), np.arange(1)
    for step, value in enumerate([3e38, -3e38, 3e38]):
        tensor = np.full((1, 2), value, np.float32)
        decoded = decoder.decode(encoder.encode(tensor, step, samples), step, samples)
        assert np.isfinite(decoded).all()
        assert same(encoder.state(), decoder.state())
