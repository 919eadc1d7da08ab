"""The networks of the zoo: what can be named can be built, and takes published weights."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.errors import ConfigError, DataError
from core.models import MODELS, keras_zoo


def test_every_model_that_can_be_named_can_be_built() -> None:
    assert set(MODELS) == set(keras_zoo.NETWORKS)


def test_an_unknown_model_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown model 'resnet51'; known: efficientnet_lite0"):
        keras_zoo.build("resnet51", 32, None)


def test_resnet50_takes_weights_in_the_format_that_keras_publishes(tmp_path: Path) -> None:
    """The published file is what `save_weights` of the same network without its top writes."""
    published = tf.keras.applications.ResNet50(weights=None, include_top=False)
    published.save_weights(str(tmp_path / "weights.h5"))
    model, network = keras_zoo.build("resnet50", 32, tmp_path)
    for mine, theirs in zip(model.get_weights(), published.get_weights(), strict=True):
        assert mine.tobytes() == theirs.tobytes()
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    expected = published(tf.keras.applications.resnet50.preprocess_input(images.copy()))
    features = model(network.preprocess(images.copy()), training=False)
    np.testing.assert_allclose(features, tf.reduce_mean(expected, [1, 2]), rtol=1e-4, atol=1e-5)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = tf.keras.Sequential([tf.keras.layers.Dense(3, input_shape=(2,))])
    other.save_weights(str(tmp_path / "weights.h5"))
    with pytest.raises(DataError, match=r"do not fit resnet50 .*core fetch resnet50"):
        keras_zoo.build("resnet50", 32, tmp_path)
