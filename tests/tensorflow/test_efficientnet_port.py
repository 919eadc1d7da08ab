"""The Keras networks with the published weights against the published PyTorch networks."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from core.errors import DataError
from core.models import keras_zoo

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
# Each network's own image size, and another.
SIZES = {
    "efficientnet_lite0": (96, 224),
    "efficientnet_lite1": (96, 240),
    "efficientnet_lite2": (96, 260),
}
ALLOWED = 1e-4


class Published(NamedTuple):
    """Fetched weights, images that were shown and what PyTorch made of them, by image size."""

    name: str
    weights: Path
    images: dict[str, np.ndarray]
    features: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=SIZES)
def published(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Published:
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    draw = np.random.default_rng(0)
    images = {str(n): draw.uniform(-1, 1, (4, n, n, 3)).astype(np.float32) for n in SIZES[name]}
    np.savez(folder / "images.npz", **images)
    command = [ROOT / "envs" / "run", "main", "python", "tests/tensorflow/reference_features.py"]
    command += [name, folder / "images.npz", folder / "features.npz"]
    command += ["--weights", folder / "weights", "--downloads", ROOT / "results" / "downloads"]
    subprocess.run(command, cwd=ROOT, check=True)
    with np.load(folder / "features.npz") as features:
        return Published(name, folder / "weights", images, dict(features))


def test_the_same_images_give_the_same_features(published: Published) -> None:
    for size in SIZES[published.name]:
        model, _ = keras_zoo.build(published.name, size, published.weights)
        found = model(published.images[str(size)], training=False).numpy()
        compare(found, published.features[str(size)])


def compare(found: np.ndarray, expected: np.ndarray) -> None:
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
    model, _ = keras_zoo.build(published.name, 96, published.weights)
    assert len(model.weights) == len(used)
    total = sum(arrays[k].astype(np.float64).sum() for k in used)
    assert sum(np.float64(w.numpy()).sum() for w in model.weights) == pytest.approx(total, rel=1e-6)


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
        keras_zoo.build(published.name, 96, tmp_path)
    text = str(refused.value)
    assert text.startswith(f"weights in {tmp_path} do not fit {published.name} (")
    assert f"python -m core fetch {tmp_path.name} --out {tmp_path}" in text


def test_weights_of_another_size_of_the_family_are_refused(published: Published) -> None:
    other = {"efficientnet_lite1": "efficientnet_lite2"}.get(published.name, "efficientnet_lite1")
    with pytest.raises(DataError, match=f"do not fit {other} "):
        keras_zoo.build(other, 96, published.weights)


def test_torch_stays_out_of_this_process() -> None:
    assert "torch" not in sys.modules
