"""Number formats against slow definitions in double precision, and their error bounds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from core.split.codec import Encoded, make
from core.split.codecs import common

TINY = float(np.finfo(np.float32).tiny)
ROUNDING = 2.0**-22  # of some operations in float32, relative to the largest number there

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
narrow = st.floats(1000, 1001, width=32)
shapes = array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=7)
tensors = st.sampled_from([finite, narrow, st.floats(-1, 1, width=32), st.just(-3.25)]).flatmap(
    lambda elements: shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=elements))
)


def encode(name: str, tensor: np.ndarray, step: int = 0, seed: int = 0) -> Encoded:
    return make(name, seed).encode(tensor, step, np.arange(len(tensor)))


def decode(name: str, encoded: Encoded) -> np.ndarray:
    return make(name).decode(encoded, 0, np.arange(encoded.facts["shape"][0]))


def round_trip(name: str, tensor: np.ndarray) -> np.ndarray:
    return decode(name, encode(name, tensor))


def relative(decoded: np.ndarray, tensor: np.ndarray) -> float:
    lost = decoded.astype(np.float64) - tensor
    return float(np.linalg.norm(lost) / np.linalg.norm(tensor.astype(np.float64)))


def features(seed: int = 0) -> np.ndarray:
    """After batch normalisation and a ReLU: the shape of a batch of 32 behind the first block of
    ResNet50 for CIFAR."""
    normal = np.random.default_rng(seed).standard_normal((32, 64, 32, 32), np.float32)
    return np.maximum(normal, 0)


def slow_affine(values: list[float]) -> list[float]:
    """Quantised values before rounding, by the definition, in double precision."""
    low, high = min(values), max(values)
    scale = max((high - low) / 255, TINY)
    base, zero = (0.0, round(-low / scale)) if low <= 0 <= high else (low, 0)
    return [min(max((x - base) / scale + zero, 0), 255) for x in values]


@given(tensor=tensors)
def test_int8_is_the_nearest_number_of_the_grid(tensor):
    exact = slow_affine([float(x) for x in tensor.ravel()])
    quantised = encode("int8", tensor).arrays["quantised"].ravel()
    for found, wanted in zip(quantised.tolist(), exact, strict=True):
        assert abs(found - wanted) <= 0.5 + 1e-3


@given(tensor=tensors)
def test_int8_loses_at_most_half_a_step(tensor):
    low, high = float(tensor.min()), float(tensor.max())
    scale = max((high - low) / 255, TINY)
    lost = np.abs(round_trip("int8", tensor).astype(np.float64) - tensor)
    assert lost.max() <= scale * (0.5 + 1e-4) + ROUNDING * max(-low, high)


@pytest.mark.parametrize("name", ["int8", "int8_channel", "int4"])
@pytest.mark.parametrize("value", [0, 1, -7.3, 3e38, -3e38, 1e-40, 1e-45])
def test_a_constant_comes_back_exactly(name, value):
    tensor = np.full((3, 5, 7), value, np.float32)
    assert np.array_equal(round_trip(name, tensor), tensor)


@pytest.mark.parametrize("name", ["int8", "int8_channel", "int8_released"])
@given(tensor=arrays(np.float32, (2, 3, 4), elements=st.floats(-100, 100, width=32)))
def test_zeros_come_back_as_zeros(name, tensor):
    tensor[0, :, :2] = 0
    assert not round_trip(name, tensor)[0, :, :2].any()


@pytest.mark.parametrize("name", ["int8", "int8_channel", "int4"])
def test_the_widest_range_comes_back_within_a_step(name):
    most = float(np.finfo(np.float32).max)
    tensor = np.linspace(-most, most, 32, dtype=np.float64).astype(np.float32)[:, None]
    lost = round_trip(name, tensor).astype(np.float64) - tensor
    steps = 15 if name == "int4" else 255
    assert np.abs(lost).max() <= 2 * most / steps * (1.001 if name == "int4" else 0.501)


@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 6, 3), (3, 4, 5, 2), (2, 3, 2, 2, 2)])
def test_a_channel_is_quantised_as_if_it_were_alone(shape):
    axis = 0 if len(shape) == 1 else 1 if len(shape) > 3 else -1
    random = np.random.default_rng(0)
    tensor = random.standard_normal(shape, np.float32)
    channels = [tensor] if len(shape) == 1 else np.moveaxis(tensor, axis, 0)
    if len(shape) > 1:
        channels *= np.exp(random.standard_normal(len(channels)))[(..., *[None] * (len(shape) - 1))]
        tensor = np.ascontiguousarray(np.moveaxis(channels, 0, axis))
    decoded = round_trip("int8_channel", tensor)
    decoded = [decoded] if len(shape) == 1 else np.moveaxis(decoded, axis, 0)
    for found, channel in zip(decoded, channels, strict=True):
        assert np.array_equal(found, round_trip("int8", np.ascontiguousarray(channel)))


@pytest.mark.parametrize("name", ["int8", "int8_channel", "int8_released", "int4"])
@pytest.mark.parametrize("shape", [(3, common.BLOCK + 3), (5, 3, 211, 211), (70001, 2), (7, 40000)])
def test_large_tensors_are_worked_on_in_parts_without_a_seam(name, shape):
    tensor = np.random.default_rng(0).standard_normal(shape, np.float32)
    lost = np.abs(round_trip(name, tensor) - tensor)
    scale = float(np.ptp(tensor)) / {"int4": 15}.get(name, 255)
    inside = np.abs(tensor) < np.ptp(tensor) * 0.4 if name == "int8_released" else tensor == tensor
    assert lost[inside].max() <= scale * (1.001 if name == "int4" else 0.51)


def slow_released(values: list[float]) -> tuple[float, int, list[float]]:
    low, high = min(values), max(values)
    scale, zero = max((high - low) / 256, TINY), min(max(int(low), -128), 127)
    return scale, zero, [min(max(x / scale + zero, -128), 127) for x in values]


@given(tensor=tensors)
def test_int8_released_is_the_published_quantiser(tensor):
    scale, zero, exact = slow_released([float(x) for x in tensor.ravel()])
    encoded = encode("int8_released", tensor)
    for found, wanted in zip(encoded.arrays["quantised"].ravel().tolist(), exact, strict=True):
        assert abs(found - wanted) <= 0.5 + 1e-3
    decoded = decode("int8_released", encoded).astype(np.float64)
    expected = (encoded.arrays["quantised"].astype(np.float64) - zero) * scale
    limit = np.finfo(np.float32).max
    assert np.allclose(decoded, np.clip(expected, -limit, limit), rtol=1e-6, atol=1e-44)


def test_int8_released_clips_features_at_half_their_range():
    tensor = features()
    decoded = round_trip("int8_released", tensor)
    assert decoded.max() == pytest.approx(tensor.max() * 127 / 256, rel=1e-6)


def test_relative_errors_on_features_are_the_known_ones():
    tensor = features()
    affine, released = (relative(round_trip(n, tensor), tensor) for n in ("int8", "int8_released"))
    assert affine == pytest.approx(0.0059, rel=0.4)
    assert released == pytest.approx(0.059, rel=0.4)
    assert affine <= 0.01


def test_a_grid_per_channel_loses_less_where_channels_differ():
    tensor = features() * np.exp(np.random.default_rng(1).standard_normal((64, 1, 1)))
    tensor = tensor.astype(np.float32)
    whole, channel = (np.abs(round_trip(n, tensor) - tensor).mean(axis=(0, 2, 3))
                      for n in ("int8", "int8_channel"))  # fmt: skip
    assert channel.mean() < 0.5 * whole.mean()


@given(tensor=arrays(np.float32, shapes, elements=finite))
def test_fp16_is_that_of_numpy_but_saturates(tensor):
    expected = np.clip(tensor, -65504, 65504).astype(np.float16)
    encoded = encode("fp16", tensor)
    assert encoded.arrays["halves"].tobytes() == expected.tobytes()
    assert np.array_equal(decode("fp16", encoded), expected.astype(np.float32))


def unpacked(packed: np.ndarray, size: int) -> list[int]:
    return [int(packed[i // 2]) >> 4 * (i % 2) & 15 for i in range(size)]


@given(tensor=tensors, step=st.integers(0, 2**40))
def test_int4_is_one_of_the_two_neighbours(tensor, step):
    encoded = encode("int4", tensor, step)
    low, high = float(tensor.min()), float(tensor.max())
    scale = max((high - low) / 15, TINY)
    quantised = unpacked(encoded.arrays["packed"], tensor.size)
    for found, x in zip(quantised, tensor.ravel().tolist(), strict=True):
        assert abs(found - (x - low) / scale) < 1 + 1e-3
    decoded = decode("int4", encoded).astype(np.float64).ravel()
    slack = scale * 1e-3 + ROUNDING * max(abs(low), abs(high))
    assert np.abs(decoded - [low + q * scale for q in quantised]).max() <= slack


@pytest.mark.parametrize("low", [0.0, -0.7, 5.0])
def test_the_mean_of_many_int4_roundings_is_the_value(low):
    steps = 3000
    tensor = (low + np.linspace(0, 1, 61, dtype=np.float32) ** 2)[None]
    total = sum(round_trip_at(tensor, step).astype(np.float64) for step in range(steps))
    scale = float(np.ptp(tensor)) / 15
    # A rounding has a standard deviation of half a step at most.
    assert np.abs(total / steps - tensor).max() < 5 * scale / 2 / math.sqrt(steps)
    assert abs((total / steps - tensor).mean()) < 5 * scale / 2 / math.sqrt(steps * tensor.size)


def round_trip_at(tensor: np.ndarray, step: int, seed: int = 0) -> np.ndarray:
    return decode("int4", encode("int4", tensor, step, seed))


@settings(deadline=None)
@given(seed=st.integers(0, 99), step=st.integers(0, 10**9))
def test_int4_depends_on_seed_and_step_alone(seed, step):
    tensor = np.linspace(0, 1, 40, dtype=np.float32)[None]
    used = make("int4", seed)
    used.encode(tensor, step + 5, np.arange(1))  # an encoder that went on elsewhere
    again = used.encode(tensor, step, np.arange(1)).arrays["packed"]
    first = encode("int4", tensor, step, seed).arrays["packed"]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, encode("int4", tensor, step + 1, seed).arrays["packed"])
    assert not np.array_equal(first, encode("int4", tensor, step, seed + 1).arrays["packed"])


def test_the_bits_of_int4_stay_the_same_between_releases():
    """Runs of an older release go on with the same bits."""
    tensor = np.linspace(0, 1, 8, dtype=np.float32)[None]
    assert encode("int4", tensor, step=3, seed=7).arrays["packed"].tolist() == BITS


BITS = [32, 100, 184, 253]
