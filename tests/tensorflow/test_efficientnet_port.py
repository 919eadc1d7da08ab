"""The Keras network with the published weights against the published PyTorch network."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

from core.errors import DataError
from core.models import keras_zoo

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SIZES = (96, 224)
ALLOWED = 1e-4


class Published(NamedTuple):
    """Fetched weights, images that were shown and what PyTorch made of them, by image size."""

    weights: Path
    images: dict[str, np.ndarray]
    features: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = tmp_path_factory.mktemp("port")
    draw = np.random.default_rng(0)
    images = {str(n): draw.uniform(-1, 1, (4, n, n, 3)).astype(np.float32) for n in SIZES}
    np.savez(folder / "images.npz", **images)
    command = [ROOT / "envs" / "run", "main", "python", "tests/tensorflow/reference_features.py"]
    command += [folder / "images.npz", folder / "features.npz"]
    command += ["--weights", folder / "weights", "--downloads", ROOT / "results" / "downloads"]
    subprocess.run(command, cwd=ROOT, check=True)
    with np.load(folder / "features.npz") as features:
        return Published(folder / "weights", images, dict(features))


@pytest.mark.parametrize("size", SIZES)
def test_the_same_images_give_the_same_features(published: Published, size: int) -> None:
    model, _ = keras_zoo.build("efficientnet_lite0", size, published.weights)
    found = model(published.images[str(size)], training=False).numpy()
    expected = published.features[str(size)]
    assert found.shape == expected.shape == (4, 1280)
    assert np.abs(expected).max() > 0.1
    # Relative for each image, and for every single feature to the size of the largest.
    assert (
        np.linalg.norm(found - expected, axis=1) < ALLOWED * np.linalg.norm(expected, axis=1)
    ).all()
    assert np.abs(found - expected).max() < ALLOWED * np.abs(expected).max()


def test_every_published_array_but_the_prediction_layer_is_used(published: Published) -> None:
    arrays = load_file(published.weights / "weights.safetensors")
    used = {k for k in arrays if not k.startswith("_fc.") and not k.endswith("num_batches_tracked")}
    model, _ = keras_zoo.build("efficientnet_lite0", 96, published.weights)
    assert len(model.weights) == len(used)
    total = sum(arrays[k].astype(np.float64).sum() for k in used)
    assert sum(np.float64(w.numpy()).sum() for w in model.weights) == pytest.approx(total, rel=1e-6)


def test_images_are_prepared_as_for_the_published_weights() -> None:
    prepare = keras_zoo.NETWORKS["efficientnet_lite0"].preprocess
    pixels = tf.constant([0.0, 127.0, 255.0])
    assert prepare(pixels).numpy() == pytest.approx([-127 / 128, 0, 1])


@pytest.mark.parametrize("damage", ["missing", "short", "without an array", "of another shape"])
def test_weights_that_do_not_fit_are_refused_with_what_to_do(
    published: Published, damage: str, tmp_path: Path
) -> None:
    content = (published.weights / "weights.safetensors").read_bytes()
    path = tmp_path / "weights.safetensors"
    if damage == "short":
        path.write_bytes(content[: len(content) // 2])
    elif damage != "missing":
        arrays = load_file(published.weights / "weights.safetensors")
        stem = arrays.pop("_conv_stem.weight")
        if damage == "of another shape":
            arrays["_conv_stem.weight"] = np.ascontiguousarray(stem[:, :2])
        save_file(arrays, path)
    with pytest.raises(DataError) as refused:
        keras_zoo.build("efficientnet_lite0", 96, tmp_path)
    text = str(refused.value)
    assert text.startswith(f"weights in {tmp_path} do not fit efficientnet_lite0 (")
    assert f"python -m core fetch efficientnet_lite0 --out {tmp_path}" in text


def test_torch_stays_out_of_this_process() -> None:
    assert "torch" not in sys.modules
