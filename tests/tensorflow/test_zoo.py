"""The networks of the zoo: what can be named can be built, trained and probed, is fed as its
authors fed it, and takes the weights that they published."""

import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from core.elastic.tf_backend import TensorFlowBackend
from core.errors import ConfigError, DataError, MissingPackageError
from core.models import MODELS, keras_zoo
from core.training import threads

pytestmark = pytest.mark.tensorflow

APPLICATIONS = tf.keras.applications
SIZE, CLASSES, BATCH = 32, 5, 2

# Of each network without its prediction layer: features, then its kernels (convolutions and
# dense layers), biases, scales and offsets of normalisation, and what is none of these.
CONTENT = {
    "efficientnet_lite0": (1280, 49, 0, 98, 0),
    "efficientnet_lite1": (1280, 64, 0, 128, 0),
    "efficientnet_lite2": (1280, 64, 0, 128, 0),
    "resnet50": (2048, 53, 53, 106, 0),
    "vgg16": (512, 13, 13, 0, 0),
    "mobilenet_v2": (1280, 52, 0, 104, 0),
    # The patches, and six dense layers in each of twelve blocks; class token and positions.
    "vit_b16": (768, 73, 73, 50, 2),
}


def backend_of(name: str) -> TensorFlowBackend:
    adam = name == "vit_b16"  # as published
    training = {
        "image_size": SIZE,
        "batch": BATCH,
        "test_batch": BATCH,
        "augmentation": {"flip": True, "rotation": 0.2},
        "dropout": 0.0 if adam else 0.2,
        "optimiser": {
            "name": "adam" if adam else "sgdw",
            "learning_rate": 1e-3,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "schedule": "constant" if adam else "cosine",
        },
    }
    count = threads.resolve({"intra_op": 0, "inter_op": 0})
    return TensorFlowBackend({"name": name, "weights": None}, training, CLASSES, 10, 0, count)


@pytest.fixture(scope="module", params=CONTENT)
def backend(request: pytest.FixtureRequest) -> tuple[str, TensorFlowBackend]:
    """Each network in turn, with its name."""
    return request.param, backend_of(request.param)


def test_every_model_that_can_be_named_can_be_built() -> None:
    assert set(MODELS) == set(keras_zoo.NETWORKS) == set(CONTENT)


def test_an_unknown_model_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown model 'resnet51'; known: efficientnet_lite0"):
        keras_zoo.build("resnet51", 32, None)


@pytest.mark.parametrize(
    ("name", "expected", "published"),
    [
        # What the pixel (R 255, G 127, B 0) becomes: blue first, less the mean of ImageNet.
        ("resnet50", (-103.939, 127 - 116.779, 255 - 123.68), APPLICATIONS.resnet50),
        ("vgg16", (-103.939, 127 - 116.779, 255 - 123.68), APPLICATIONS.vgg16),
        ("mobilenet_v2", (1, 127 / 127.5 - 1, -1), APPLICATIONS.mobilenet_v2),
        ("vit_b16", (1, 127 / 127.5 - 1, -1), None),
        ("efficientnet_lite0", (1, 0, -127 / 128), None),
        ("efficientnet_lite1", (1, 0, -127 / 128), None),
        ("efficientnet_lite2", (1, 0, -127 / 128), None),
    ],
)
def test_images_are_prepared_as_the_authors_did(
    name: str, expected: tuple[float, ...], published: object
) -> None:
    prepare = keras_zoo.NETWORKS[name].preprocess
    pixel = prepare(tf.constant([[[[255.0, 127.0, 0.0]]]])).numpy()
    assert pixel.ravel() == pytest.approx(expected, abs=1e-4)
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    if name == "vit_b16":
        vit = keras_zoo._vit_keras("vit")
        np.testing.assert_allclose(prepare(images), vit.preprocess_inputs(images.copy()), atol=1e-6)
    elif published:
        by_keras = published.preprocess_input(images.copy())  # type: ignore[attr-defined]
        np.testing.assert_allclose(prepare(tf.constant(images)), by_keras, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_tensors_have_the_kinds_of_the_published_network(
    backend: tuple[str, TensorFlowBackend],
) -> None:
    name, built = backend
    *body, kernel, bias = built.tensors
    features, *numbers = CONTENT[name]
    assert (kernel.name, kernel.shape, kernel.kind) == ("head/kernel", (features, 5), "kernel")
    assert (bias.name, bias.shape, bias.kind) == ("head/bias", (5,), "bias")
    assert [t.head for t in built.tensors] == [False] * len(body) + [True, True]
    found = Counter(t.kind for t in body)
    assert [found[kind] for kind in ("kernel", "bias", "norm", "other")] == numbers
    # By their shapes as well: kernels have inputs and outputs, biases and normalisation a number
    # for each channel; class token and positions are parts of one sample.
    for tensor in body:
        rank = {"kernel": (2, 4), "bias": (1,), "norm": (1,), "other": (3,)}[tensor.kind]
        assert len(tensor.shape) in rank


@pytest.mark.slow
def test_tensors_have_names_of_their_own_in_order_of_use(
    backend: tuple[str, TensorFlowBackend],
) -> None:
    name, built = backend
    names = [t.name for t in built.tensors]
    assert len(set(names)) == len(names)
    assert names[-2:] == ["head/kernel", "head/bias"]
    if name == "vit_b16":
        assert names[:-2] == vit_order()
        return
    place = {name: i for i, name in enumerate(names)}
    for layer in keras_zoo.build(name, SIZE, None)[0].layers:
        own = [place[w.name.split(":")[0]] for w in layer.trainable_weights]
        assert own == list(range(own[0], own[0] + len(own))) if own else True
        # Whatever its input is computed from comes before, along every branch.
        before = [place[w.name.split(":")[0]] for x in upstream(layer) for w in x.trainable_weights]
        assert not own or not before or max(before) < own[0]


@cache
def upstream(layer: tf.keras.layers.Layer) -> set[tf.keras.layers.Layer]:
    """The layers that its input is computed from."""
    parents = {node.layer for node in layer.inbound_nodes[0].parent_nodes}
    return parents.union(*(upstream(parent) for parent in parents))


def vit_order() -> list[str]:
    """By hand: each block normalises, attends, normalises, and has two dense layers."""
    block = ["LayerNorm_0/gamma", "LayerNorm_0/beta"]
    for part in ("query", "key", "value", "out"):
        block += [f"MultiHeadDotProductAttention_1/{part}/{w}" for w in ("kernel", "bias")]
    block += ["LayerNorm_2/gamma", "LayerNorm_2/beta"]
    block += [f"Dense_{i}/{w}" for i in (0, 1) for w in ("kernel", "bias")]
    first = ["embedding/kernel", "embedding/bias", "class_token/cls"]
    first.append("Transformer/posembed_input/pos_embedding")
    blocks = [f"Transformer/encoderblock_{i}/{w}" for i in range(12) for w in block]
    return [*first, *blocks, "Transformer/encoder_norm/gamma", "Transformer/encoder_norm/beta"]


@pytest.mark.slow
def test_one_step_changes_what_is_selected_and_one_probe_changes_nothing(
    backend: tuple[str, TensorFlowBackend],
) -> None:
    _, built = backend
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    labels = draw.integers(0, CLASSES, BATCH)
    n = len(built.tensors)
    selected = [n // 2, n - 2, n - 1]
    before = built.state()
    built.select(np.isin(np.arange(n), selected))
    loss, right = built.train_step(images, labels, 0)
    assert np.isfinite(loss)
    assert 0 <= right <= BATCH
    after = built.state()
    changed = {k for k, v in before.items() if v.tobytes() != after[k].tobytes()}
    assert {f"tensor/{n - 2}", f"tensor/{n - 1}", "iterations"} <= changed
    assert changed <= {*(f"tensor/{i}" for i in selected), "iterations"}

    importance = built.probe(images, labels, 1)
    assert importance.shape == (n,)
    assert np.isfinite(importance).all()
    assert importance[n - 1] > 0  # random features may vanish, the head's bias does not
    assert all(v.tobytes() == after[k].tobytes() for k, v in built.state().items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("resnet50", APPLICATIONS.ResNet50),
        ("vgg16", APPLICATIONS.VGG16),
        ("mobilenet_v2", APPLICATIONS.MobileNetV2),
    ],
)
def test_weights_in_the_format_that_keras_publishes_are_taken(
    name: str, make: type, tmp_path: Path
) -> None:
    """The published file is what `save_weights` of the same network without its top writes."""
    published = make(weights=None, include_top=False, input_shape=(224, 224, 3))
    published.save_weights(str(tmp_path / "weights.h5"))
    model, network = keras_zoo.build(name, 64, tmp_path)
    for mine, theirs in zip(model.get_weights(), published.get_weights(), strict=True):
        assert mine.tobytes() == theirs.tobytes()
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    same = make(weights=None, include_top=False, input_shape=(64, 64, 3))
    same.set_weights(published.get_weights())
    package = getattr(APPLICATIONS, name)
    expected = same(package.preprocess_input(images.copy()), training=False)
    features = model(network.preprocess(tf.constant(images)), training=False)
    mean = tf.reduce_mean(expected, [1, 2]).numpy()
    np.testing.assert_allclose(features, mean, rtol=1e-4, atol=1e-5 * np.abs(mean).max())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = tf.keras.Sequential([tf.keras.layers.Dense(3, input_shape=(2,))])
    other.save_weights(str(tmp_path / "weights.h5"))
    with pytest.raises(DataError, match=r"do not fit resnet50 .*core fetch"):
        keras_zoo.build("resnet50", 32, tmp_path)


# The vision transformer, whose published file is of another kind.


def published_by_flax(model: tf.keras.Model) -> dict[str, np.ndarray]:
    """The model's weights under the names and in the shapes of the published npz: heads of the
    attention have an axis of their own, and the prediction layer is there."""
    arrays = {"head/kernel": np.zeros((768, 1000), "f4"), "head/bias": np.zeros(1000, "f4")}
    for weight in model.weights:
        name, value = weight.name.split(":")[0], weight.numpy()
        name = name.replace("class_token/", "").replace("/gamma", "/scale")
        if "LayerNorm" in name or name.endswith("encoder_norm/beta"):
            name = name.replace("/beta", "/bias")
        name = re.sub(r"/(Dense_\d)", r"/MlpBlock_3/\1", name)
        if found := re.search(r"/(query|key|value|out)/(kernel|bias)", name):
            part, what = found.groups()
            if part == "out":
                value = value.reshape(12, 64, 768) if what == "kernel" else value
            else:
                value = value.reshape((768, 12, 64) if what == "kernel" else (12, 64))
        arrays[name] = value
    return arrays


@pytest.fixture(scope="module")
def flax_arrays() -> dict[str, np.ndarray]:
    """Of a network for 64 pixels: four by four patches."""
    tf.keras.utils.set_random_seed(1)
    model, _ = keras_zoo.build("vit_b16", 64, None)
    model.get_layer("class_token").cls.assign_add(tf.random.normal((1, 1, 768)))
    return published_by_flax(model)


@pytest.mark.slow
def test_the_published_npz_of_the_vision_transformer_is_taken(
    flax_arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    np.savez(tmp_path / "weights.npz", **flax_arrays)
    model, _ = keras_zoo.build("vit_b16", 64, tmp_path)
    found = published_by_flax(model)
    assert set(found) == set(flax_arrays)
    assert all(v.tobytes() == flax_arrays[k].tobytes() for k, v in found.items())

    # For another size the positions are interpolated, and everything else stays.
    smaller, _ = keras_zoo.build("vit_b16", 32, tmp_path)
    resized = published_by_flax(smaller)
    positions = "Transformer/posembed_input/pos_embedding"
    for name in set(found) - {positions}:
        assert resized[name].tobytes() == flax_arrays[name].tobytes()
    grid = flax_arrays[positions][0, 1:].reshape(4, 4, 768)
    corners = grid[[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(resized[positions][0, 1:], corners, rtol=1e-6)
    assert resized[positions][0, 0].tobytes() == flax_arrays[positions][0, 0].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["not an archive", "an array less", "one more"])
def test_an_npz_that_does_not_fit_is_refused_with_what_to_do(
    flax_arrays: dict[str, np.ndarray], damage: str, tmp_path: Path
) -> None:
    arrays = dict(flax_arrays)
    match damage:
        case "not an archive":
            (tmp_path / "weights.npz").write_bytes(b"PK\x03\x04 but no more")
        case "an array less":
            del arrays["embedding/kernel"]
        case "one more":
            arrays["pre_logits/kernel"] = np.zeros((768, 768), "f4")
    if damage != "not an archive":
        np.savez(tmp_path / "weights.npz", **arrays)
    with pytest.raises(DataError) as refused:
        keras_zoo.build("vit_b16", 64, tmp_path)
    text = str(refused.value)
    assert text.startswith(f"weights in {tmp_path} do not fit vit_b16 (")
    assert f"python -m core fetch {tmp_path.name} --out {tmp_path}" in text


def test_without_addons_the_vision_transformer_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on ARM boards, where Addons cannot be installed."""
    for module in [m for m in sys.modules if m.split(".")[0] == "vit_keras"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tensorflow_addons", None)
    with pytest.raises(MissingPackageError) as refused:
        keras_zoo.build("vit_b16", 32, None)
    text = str(refused.value)
    assert "vit_b16 needs vit-keras with TensorFlow Addons, and tensorflow_addons is not" in text
    assert "never built for ARM boards: there, choose framework: torch or another model" in text


@pytest.mark.slow
def test_naming_the_networks_imports_no_addons() -> None:
    """In a process of its own: the others here have been using it."""
    code = (
        "import sys, core.models.keras_zoo; "
        "print({'tensorflow_addons', 'vit_keras', 'cv2'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"
