"""The optimiser of ARM boards is that of TensorFlow Addons."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from core.elastic import tf_optimisers

SETTINGS = {"learning_rate": 0.05, "momentum": 0.9, "weight_decay": 5e-2, "schedule": "cosine"}


def trained(optimiser: tf.keras.optimizers.legacy.Optimizer) -> list[np.ndarray]:
    """Two variables after twenty steps with random gradients."""
    random = np.random.default_rng(0)
    variables = [tf.Variable(random.normal(size=n).astype(np.float32)) for n in (7, 1)]
    for _ in range(20):
        gradients = [tf.constant(random.normal(size=v.shape).astype(np.float32)) for v in variables]
        optimiser.apply_gradients(zip(gradients, variables, strict=True))
    return [v.numpy() for v in variables]


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_without_addons_the_optimiser_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    settings = SETTINGS | {"name": "sgdw", "schedule": schedule}
    with_addons = tf_optimisers.optimiser(settings, 20)
    assert type(with_addons).__module__.startswith("tensorflow_addons")
    monkeypatch.setitem(sys.modules, "tensorflow_addons", None)  # as where it is not installed
    without = tf_optimisers.optimiser(settings, 20)
    assert type(without) is tf_optimisers.SGDW
    for one, other in zip(trained(with_addons), trained(without), strict=True):
        assert one.tobytes() == other.tobytes()


def test_adam_takes_its_own_settings_only() -> None:
    optimiser = tf_optimisers.optimiser(
        {"name": "adam", "learning_rate": 1e-4, "schedule": "constant"}, 9
    )
    assert isinstance(optimiser, tf.keras.optimizers.legacy.Adam)
    assert float(optimiser.learning_rate) == pytest.approx(1e-4)
