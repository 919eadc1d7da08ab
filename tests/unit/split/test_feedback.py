"""Error feedback: the published correction and the residual, against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from core.errors import ConfigError
from core.split.codec import make
from core.split.feedback import FEEDBACKS, Residual, corrected, feedback

SAMPLES = np.arange(4)
vectors = arrays(np.float32, (3, 4), elements=st.floats(-100, 100, width=32))


@given(gradient=vectors, lost=vectors)
def test_the_correction_is_the_published_formula(gradient, lost):
    before = gradient.copy(), lost.copy()
    found = corrected(gradient, lost)
    g, e = gradient.astype(np.float64), lost.astype(np.float64)
    assert np.allclose(found, g - e * g * g, rtol=1e-5, atol=1e-5 * (1 + np.abs(e * g * g).max()))
    assert np.array_equal(gradient, before[0])
    assert np.array_equal(lost, before[1])


def test_the_correction_is_exact_where_the_hessian_is_the_square_of_the_gradient():
    """Loss −ln x has g = −1/x and Hessian g²: the gradient at x, told from the one at x + E."""
    x = np.linspace(1, 2, 50, dtype=np.float32)[:, None]
    lost = np.full_like(x, 1e-3)
    biased = -1 / (x + lost)
    repaired = np.abs(corrected(biased, lost) + 1 / x)
    assert repaired.max() < 0.01 * np.abs(biased + 1 / x).max()


def test_a_gradient_of_another_shape_is_refused():
    with pytest.raises(
        ValueError, match=r"gradient: shape \(2, 3\) for features of shape \(3, 2\)"
    ):
        corrected(np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32))


@pytest.mark.parametrize("name", ["int8_released", "int8", "fp16"])
def test_with_the_residual_errors_do_not_add_up(name):
    """What all steps lost together is what the last one lost: the sum telescopes."""
    residual, codec, random = Residual(active=True), make(name), np.random.default_rng(0)
    sent, total = np.zeros((4, 50)), np.zeros((4, 50))
    for step in range(40):
        tensor = np.maximum(random.standard_normal((4, 50), np.float32), 0)
        wanted = residual.add(tensor)
        _, decoded = codec.encode_decoded(wanted, step, SAMPLES)
        residual.keep(wanted, decoded)
        sent, total = sent + decoded, total + tensor
    assert np.allclose(total - sent, residual.state()["lost"], atol=1e-4)


def test_the_residual_starts_anew_with_another_shape():
    residual = Residual(active=True)
    residual.keep(np.full((4, 2), 3, np.float32), np.ones((4, 2), np.float32))
    other, tensor = np.zeros((3, 2), np.float32), np.zeros((4, 2), np.float32)
    assert residual.add(other) is other
    assert np.array_equal(residual.add(tensor), np.full((4, 2), 2))
    assert not tensor.any()


def test_the_residual_is_not_changed_with_the_frame_that_was_sent():
    """A frame may wait in a queue while the next tensor is made."""
    residual, codec = Residual(active=True), make("delta")
    wanted = residual.add(np.ones((4, 3), np.float32))
    encoded, decoded = codec.encode_decoded(wanted, 0, SAMPLES)
    residual.keep(wanted, decoded)
    residual.add(np.ones((4, 3), np.float32))
    assert np.array_equal(encoded.arrays["whole.values"], np.ones((4, 3)))


def test_an_inactive_residual_lets_everything_pass():
    residual, tensor = Residual(active=False), np.ones((4, 2), np.float32)
    residual.keep(tensor, np.zeros((4, 2), np.float32))
    assert residual.add(tensor) is tensor
    assert residual.state() == {}


def test_the_residual_comes_back_with_the_same_bits():
    residual, loaded = Residual(active=True), Residual(active=True)
    loaded.load_state(residual.state())
    assert loaded.state() == {}
    residual.keep(np.full((2, 2), 0.1, np.float32), np.zeros((2, 2), np.float32))
    loaded.load_state(residual.state())
    assert loaded.state()["lost"].tobytes() == residual.state()["lost"].tobytes()
    loaded.reset()
    assert loaded.state() == {}


def test_one_form_never_corrects_the_same_error_twice():
    assert not any(f.corrects and f.carries for f in FEEDBACKS.values())


def test_an_unknown_form_is_refused():
    assert feedback("published").corrects
    with pytest.raises(
        ConfigError, match=r"scheme\.feedback = 'residul': .*did you mean 'residual'"
    ):
        feedback("residul")
