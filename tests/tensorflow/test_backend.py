"""The TensorFlow backend against formulas in NumPy, gradients taken by hand, and itself resumed."""

import gc
import random
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image
from tensorflow.python.eager import context
from tensorflow.python.ops import stateful_random_ops

from core.elastic.backend import State
from core.elastic.schemes import Metric
from core.elastic.selector import Mask
from core.elastic.tf_backend import TensorFlowBackend, _rotations
from core.models import keras_zoo
from core.training import threads

pytestmark = pytest.mark.tensorflow

CLASSES, SIZE, BATCH, STEPS = 5, 32, 4, 20
RATE, MOMENTUM, DECAY = 0.05, 0.9, 5e-4
RANDOM = {"augmentation": {"flip": True, "rotation": 0.1}, "dropout": 0.3}
Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


def make(
    model: str = "efficientnet_lite0", seed: int = 7, optimiser: str = "sgdw", **changes: Any
) -> TensorFlowBackend:
    """A backend without randomness in its steps unless `changes` to the training section add it."""
    training = {
        "image_size": SIZE,
        "batch": BATCH,
        "test_batch": 6,
        "augmentation": {"flip": False, "rotation": 0.0},
        "dropout": 0.0,
        "optimiser": {
            "name": optimiser,
            "learning_rate": RATE,
            "momentum": MOMENTUM,
            "weight_decay": DECAY,
            "schedule": "cosine",
        },
    }
    return TensorFlowBackend(
        {"name": model, "weights": None},
        training | changes,
        CLASSES,
        STEPS,
        seed,
        threads.resolve({"intra_op": 0, "inter_op": 0}),
    )


def batch_of(number: int, images: int = BATCH, size: int = SIZE) -> Batch:
    draw = np.random.default_rng(number)
    pixels = draw.integers(0, 256, (images, size, size, 3), dtype=np.uint8)
    return pixels, draw.integers(0, CLASSES, images)


def selecting(backend: TensorFlowBackend, *selected: int) -> Mask:
    n = len(backend.tensors)
    return np.isin(np.arange(n), [i % n for i in selected])


def train(backend: TensorFlowBackend, steps: range) -> list[tuple[float, int]]:
    return [backend.train_step(*batch_of(step), step) for step in steps]


def differing(one: State, other: State) -> set[str]:
    """Names that are not in both states with the same bits."""
    assert all(v.dtype == other[k].dtype for k, v in one.items() if k in other)
    same = {k for k in one.keys() & other.keys() if one[k].tobytes() == other[k].tobytes()}
    return (one.keys() | other.keys()) - same


def small(channels: int) -> keras_zoo.Network:
    """Convolution, normalisation and activation, three times."""

    def build(image_size: int) -> tf.keras.Model:
        layers = tf.keras.layers
        images = x = layers.Input((image_size, image_size, 3))
        for i in range(3):
            x = layers.Conv2D(channels, 3, padding="same", name=f"conv{i}")(x)
            x = layers.ReLU()(layers.BatchNormalization(name=f"norm{i}")(x))
        return tf.keras.Model(images, layers.GlobalAveragePooling2D()(x))

    return keras_zoo.Network(build, lambda x: x / 255, lambda model, folder: None)


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(keras_zoo.NETWORKS, "small", small(4))
        patch.setitem(keras_zoo.NETWORKS, "wide", small(48))
        yield


@pytest.fixture(scope="module")
def lite0() -> tuple[TensorFlowBackend, State]:
    """EfficientNet-Lite0 and its first state; built once, which takes seconds.

    Its weights are drawn so that the error reaches the input: with Keras' own ones and unused
    normalisation, it fades on the way.
    """
    backend = make()
    state = backend.state()
    draw = np.random.default_rng(0)
    for i, tensor in enumerate(backend.tensors):
        if tensor.kind == "kernel":
            depthwise = tensor.name.endswith("depthwise_kernel")
            inputs = np.prod(tensor.shape[:2] if depthwise else tensor.shape[:-1])
            weights = draw.normal(0, np.sqrt(2 / inputs), tensor.shape)
            state[f"tensor/{i}"] = weights.astype(np.float32)
    backend.load_state(state)
    return backend, state


@pytest.fixture
def backend(lite0: tuple[TensorFlowBackend, State]) -> TensorFlowBackend:
    """EfficientNet-Lite0 as it was built, all tensors selected."""
    backend, first = lite0
    backend.select(np.ones(len(backend.tensors), dtype=bool))
    backend.load_state(first)
    return backend


@pytest.fixture
def partly_trained(backend: TensorFlowBackend) -> TensorFlowBackend:
    """After two steps of some tensors: momentum is not zero, and not every tensor has one."""
    backend.select(selecting(backend, 30, 57, 58, 99, -3, -2, -1))
    train(backend, range(2))
    return backend


class Reference:
    """The same network and loss, computed eagerly; nothing of the backend but its values."""

    def __init__(self, backend: TensorFlowBackend, state: State) -> None:
        self._network, self._recipe = keras_zoo.build("efficientnet_lite0", SIZE, None)
        self._head = tf.keras.layers.Dense(CLASSES)
        self._head.build((None, 1280))
        found = {v.name.split(":")[0]: v for v in self._network.trainable_variables}
        found |= {"head/kernel": self._head.kernel, "head/bias": self._head.bias}
        self._variables = [found[t.name] for t in backend.tensors]
        for i, variable in enumerate(self._variables):
            variable.assign(state[f"tensor/{i}"])

    def logits(self, images: NDArray[np.uint8]) -> tf.Tensor:
        pixels = tf.constant(images.astype(np.float32))
        return self._head(self._network(self._recipe.preprocess(pixels), training=False))

    def gradients(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> list[NDArray]:
        with tf.GradientTape() as tape:
            logarithm = tf.nn.log_softmax(self.logits(images))
            loss = -tf.reduce_mean(tf.reduce_sum(logarithm * tf.one_hot(labels, CLASSES), 1))
        return [g.numpy() for g in tape.gradient(loss, self._variables)]


def sgdw_update(weights: NDArray, gradient: NDArray, momentum: NDArray, step: int) -> NDArray:
    """Loshchilov and Hutter 2019: decay beside the gradient, both under the cosine schedule."""
    rate = RATE * 0.5 * (1 + np.cos(np.pi * step / STEPS))
    return MOMENTUM * momentum - rate * gradient - rate * DECAY * weights


def test_tensors_are_told_from_the_input_to_the_output(backend: TensorFlowBackend) -> None:
    names = [t.name for t in backend.tensors]
    assert names[:3] == ["conv_stem/kernel", "bn0/gamma", "bn0/beta"]
    assert names[-3:] == ["bn1/beta", "head/kernel", "head/bias"]
    assert len(set(names)) == len(names) == 149
    assert [t.head for t in backend.tensors] == [n.startswith("head/") for n in names]
    kinds = {"kernel": "kernel", "bias": "bias", "gamma": "norm", "beta": "norm"}
    assert [t.kind for t in backend.tensors] == [
        kinds[n.split("_")[-1].split("/")[-1]] for n in names
    ]
    assert backend.tensors[0].shape == (3, 3, 3, 32)
    assert backend.tensors[-2].shape == (1280, CLASSES)


# Importance.


def states_of_generators() -> list[Any]:
    if stateful_random_ops.global_generator is None:
        tf.random.set_global_generator(tf.random.Generator.from_seed(1))
    shared = tf.random.get_global_generator().state.numpy().tobytes()
    return [random.getstate(), np.random.get_state()[1].tobytes(), shared]


@pytest.mark.parametrize("metric", ["update", "gradient", "weight"])
def test_a_probe_leaves_no_trace(partly_trained: TensorFlowBackend, metric: Metric) -> None:
    backend = partly_trained
    before, generators = backend.state(), states_of_generators()
    importance = backend.probe(*batch_of(9), 2, metric)
    assert differing(before, backend.state()) == set()
    assert states_of_generators() == generators
    assert importance.tobytes() == backend.probe(*batch_of(9), 2, metric).tobytes()
    with_probe = train(backend, range(2, 4))
    after = backend.state()
    backend.load_state(before)
    assert train(backend, range(2, 4)) == with_probe
    assert differing(after, backend.state()) == set()


def test_importance_is_what_one_step_of_the_optimiser_gains(
    partly_trained: TensorFlowBackend,
) -> None:
    state, batch = partly_trained.state(), batch_of(9)
    gradients = Reference(partly_trained, state).gradients(*batch)
    expected = []
    for i, gradient in enumerate(gradients):
        weights = state[f"tensor/{i}"].astype(np.float64)
        momentum = state.get(f"slot/momentum/{i}", np.zeros_like(weights))
        expected.append(-np.sum(gradient * sgdw_update(weights, gradient, momentum, step=2)))
    assert np.abs(state["slot/momentum/30"]).max() > 0
    importance = partly_trained.probe(*batch, 2)
    assert importance == pytest.approx(np.array(expected), rel=2e-3, abs=1e-6 * max(expected))
    assert np.count_nonzero(np.abs(importance) > 1e-6 * max(expected)) > 100  # not noise alone


def test_the_other_importances_are_the_sizes_of_gradients_and_of_weights(
    partly_trained: TensorFlowBackend,
) -> None:
    state, batch = partly_trained.state(), batch_of(9)
    gradients = Reference(partly_trained, state).gradients(*batch)
    sizes = np.array([np.abs(g.astype(np.float64)).sum() for g in gradients])
    found = partly_trained.probe(*batch, 2, "gradient")
    assert found == pytest.approx(sizes, rel=2e-3, abs=1e-6 * sizes.max())
    weights = [np.abs(state[f"tensor/{i}"].astype(np.float64)).sum() for i in range(len(gradients))]
    assert partly_trained.probe(*batch, 2, "weight") == pytest.approx(np.array(weights), rel=1e-6)


# Steps.


def test_a_step_changes_the_selected_tensors_and_no_others(backend: TensorFlowBackend) -> None:
    for selected in ((-2, -1), (0, 30, 57, 99, -2), (10, 11, 12)):
        mask = selecting(backend, *selected)
        backend.select(mask)
        before = backend.state()
        train(backend, range(1))
        changed = {f"tensor/{i}" for i in np.flatnonzero(mask)}
        slots = {f"slot/momentum/{i}" for i in np.flatnonzero(mask)}
        assert differing(before, backend.state()) == changed | slots | {"iterations"}


def test_a_step_is_that_of_sgd_with_momentum_and_decoupled_decay(
    partly_trained: TensorFlowBackend,
) -> None:
    backend, before = partly_trained, partly_trained.state()
    gradients = Reference(backend, before).gradients(*batch_of(2))
    train(backend, range(2, 3))
    after = backend.state()
    assert after["iterations"] == 3
    for i in np.flatnonzero(selecting(backend, 30, 57, 58, 99, -3, -2, -1)):
        weights, momentum = (
            before[f"{k}/{i}"].astype(np.float64) for k in ("tensor", "slot/momentum")
        )
        update = sgdw_update(weights, gradients[i], momentum, step=2)
        # To the rounding of a single-precision weight, and that of the gradient.
        error = np.abs(after[f"tensor/{i}"] - (weights + update)).max()
        assert error < 2e-7 * np.abs(weights).max() + 1e-4 * np.abs(update).max()
        kept = after[f"slot/momentum/{i}"]
        moved = update + RATE * 0.5 * (1 + np.cos(np.pi * 2 / STEPS)) * DECAY * weights
        assert np.abs(kept - moved).max() < 1e-4 * np.abs(moved).max()


def test_a_step_reports_the_mean_loss_and_the_right_answers(backend: TensorFlowBackend) -> None:
    images, labels = batch_of(0)
    logits = Reference(backend, backend.state()).logits(images).numpy().astype(np.float64)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(BATCH), labels]
    loss, correct = backend.train_step(images, labels, 0)
    assert loss == pytest.approx(losses.mean(), rel=1e-4)
    assert correct == (logits.argmax(1) == labels).sum()


def test_adam_is_the_published_one() -> None:
    backend = make("small", optimiser="adam")
    backend.select(np.ones(len(backend.tensors), dtype=bool))
    before = backend.state()
    train(backend, range(1))
    after = backend.state()
    for i in range(len(backend.tensors)):
        # m = 0.1 g and v = 0.001 g² after the first step; both are corrected by those factors.
        gradient = after[f"slot/m/{i}"].astype(np.float64) / 0.1
        assert after[f"slot/v/{i}"] == pytest.approx(1e-3 * gradient**2, rel=1e-4, abs=1e-30)
        # Keras leaves epsilon outside the correction: 1e-7 / sqrt(0.001) beside |g|.
        update = -RATE * gradient / (np.abs(gradient) + 1e-7 / np.sqrt(1e-3))
        moved = after[f"tensor/{i}"] - before[f"tensor/{i}"]
        assert moved == pytest.approx(update, rel=1e-3, abs=1e-6)


def test_steps_repeat_for_the_same_seed_and_number_and_differ_for_others() -> None:
    backend = make("small", **RANDOM)
    backend.select(np.ones(len(backend.tensors), dtype=bool))
    first, batch = backend.state(), batch_of(0)

    def step(number: int) -> tuple[float, int]:
        backend.load_state(first)
        return backend.train_step(*batch, number)

    losses = [step(number)[0] for number in range(6)]
    assert [step(number)[0] for number in range(6)] == losses
    assert len(set(losses)) == len(losses)
    twin, other = make("small", **RANDOM), make("small", seed=8, **RANDOM)
    for same, again in ((True, twin), (False, other)):
        again.select(np.ones(len(again.tensors), dtype=bool))
        assert (differing(first, again.state()) == set()) == same
        again.load_state(first)
        assert (again.train_step(*batch, 0)[0] == losses[0]) == same


# Evaluation.


def test_a_part_of_a_batch_counts_like_its_images_one_by_one(backend: TensorFlowBackend) -> None:
    images, labels = batch_of(5, images=5)
    before = backend.state()
    loss, correct = backend.evaluate(images, labels)
    single = [backend.evaluate(images[i : i + 1], labels[i : i + 1]) for i in range(5)]
    assert loss == pytest.approx(sum(s[0] for s in single), rel=1e-5)
    assert correct == sum(s[1] for s in single)
    logits = Reference(backend, before).logits(images).numpy().astype(np.float64)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(5), labels]
    assert loss == pytest.approx(losses.sum(), rel=1e-4)
    assert correct == (logits.argmax(1) == labels).sum()
    assert differing(before, backend.state()) == set()


def test_evaluation_is_without_augmentation_and_dropout() -> None:
    still, moving = make("small"), make("small", **RANDOM)
    batch = batch_of(1)
    assert moving.evaluate(*batch) == still.evaluate(*batch)


# State.


def test_a_state_put_back_continues_with_the_same_bits(partly_trained: TensorFlowBackend) -> None:
    backend, middle = partly_trained, partly_trained.state()
    losses = train(backend, range(2, 5))
    end = backend.state()
    backend.load_state(middle)
    assert differing(middle, backend.state()) == set()
    assert train(backend, range(2, 5)) == losses
    assert differing(end, backend.state()) == set()


def test_a_state_does_not_follow_later_steps(partly_trained: TensorFlowBackend) -> None:
    kept = partly_trained.state()
    copies = {k: v.copy() for k, v in kept.items()}
    train(partly_trained, range(2, 4))
    assert differing(kept, copies) == set()


def test_a_first_state_put_back_after_training_starts_anew() -> None:
    backend = make("small")
    first = backend.state()
    backend.select(selecting(backend, 0, 1, -1))
    once = train(backend, range(3))
    backend.load_state(first)
    assert train(backend, range(3)) == once
    backend.select(selecting(backend, -1))
    backend.load_state(first)
    assert {k for k in backend.state() if k.startswith("slot/")} == {"slot/momentum/13"}


SCRIPT = """
import sys
import numpy as np
from tests.tensorflow import test_backend as here
backend = here.make(**here.RANDOM)
with np.load(sys.argv[1]) as file:
    state = dict(file)
backend.select(state.pop("mask"))
backend.load_state(state)
losses = here.train(backend, range(2, 4))
np.savez(sys.argv[2], losses=np.array(losses), **backend.state())
"""


@pytest.mark.slow
def test_a_fresh_process_continues_with_the_same_bits(tmp_path: Path) -> None:
    backend = make(**RANDOM)
    mask = selecting(backend, 120, 121, 140, -2, -1)
    backend.select(mask)
    train(backend, range(2))
    backend.probe(*batch_of(9), 2)
    before, after = tmp_path / "before.npz", tmp_path / "after.npz"
    np.savez(before, mask=mask, **backend.state())
    losses = train(backend, range(2, 4))
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", SCRIPT, before, after], cwd=root, check=True)
    with np.load(after) as file:
        state = dict(file)
    assert state.pop("losses").tolist() == np.array(losses).tolist()
    assert differing(state, backend.state()) == set()


def without(name: str) -> Callable[[State], State]:
    return lambda state: {k: v for k, v in state.items() if k != name}


def with_array(name: str, array: NDArray) -> Callable[[State], State]:
    return lambda state: state | {name: array}


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (without("tensor/3"), r"names differ: \['tensor/3'\]"),
        (without("iterations"), r"names differ: \['iterations'\]"),
        (without("slot/momentum/13"), None),  # as if it had never been selected
        (with_array("tensor/99", np.zeros(4, np.float32)), r"names differ: \['tensor/99'\]"),
        (with_array("slot/velocity/13", np.zeros(5, np.float32)), "names differ"),
        (with_array("slot/momentum/99", np.zeros(4, np.float32)), "network with more tensors"),
        (with_array("tensor/13", np.zeros(6, np.float32)), r"tensor/13 is float32\(6,\)"),
        (with_array("tensor/13", np.zeros(5, np.float64)), r"tensor/13 is float64\(5,\)"),
        (with_array("iterations", np.array(1.5)), r"iterations is float64\(\)"),
        (lambda state: {}, "names differ"),
    ],
)
def test_a_state_of_another_network_is_refused_and_changes_nothing(
    damage: Callable[[State], State], text: str | None, small_backend: TensorFlowBackend
) -> None:
    backend = small_backend
    assert backend.tensors[13].name == "head/bias"
    backend.select(selecting(backend, -2, -1))
    train(backend, range(2))
    good = backend.state()
    train(backend, range(2, 3))
    now = backend.state()
    if text is None:
        backend.load_state(damage(good))
        assert not backend.state()["slot/momentum/13"].any()
        return
    with pytest.raises(ValueError, match=text):
        backend.load_state(damage(good))
    assert differing(now, backend.state()) == set()


@pytest.fixture(scope="module")
def small_backend() -> TensorFlowBackend:
    return make("small")


# Augmentation.


def augmented(backend: TensorFlowBackend, images: NDArray[np.float32], step: int) -> NDArray:
    found = backend._augment(tf.constant(images), tf.constant(step, tf.int64))
    return np.asarray(found.numpy())


def picture(size: int = SIZE) -> NDArray[np.float32]:
    """A smooth picture without any symmetry, so that interpolation errors are small."""
    y, x = np.mgrid[:size, :size] / size
    planes = [128 + 90 * np.sin(3 * x + 2 * y + c) * np.cos(4 * y - x) for c in range(3)]
    return np.stack(planes, axis=-1).astype(np.float32)


def turned(image: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    """The picture turned counter-clockwise by Pillow; black where nothing is known."""
    planes = [
        Image.fromarray(image[..., c]).rotate(degrees, Image.Resampling.BILINEAR) for c in range(3)
    ]
    return np.stack([np.asarray(p) for p in planes], axis=-1)


def inside(size: int = SIZE) -> NDArray[np.bool_]:
    """Pixels that stay within the picture however it is turned."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.hypot(x, y) < size / 2 - 1


def test_images_are_left_alone_without_augmentation(small_backend: TensorFlowBackend) -> None:
    images = np.stack([picture()] * BATCH)
    assert augmented(small_backend, images, 3).tobytes() == images.tobytes()


def test_half_of_the_images_are_mirrored() -> None:
    backend = make("small", augmentation={"flip": True, "rotation": 0.0})
    images = np.stack([picture()] * BATCH)
    mirrored = 0
    for step in range(50):
        for image in augmented(backend, images, step):
            is_mirror = np.array_equal(image, picture()[:, ::-1])
            assert is_mirror or np.array_equal(image, picture())
            mirrored += is_mirror
    assert 70 < mirrored < 130  # of 200, more than four standard deviations


def rotated(degrees: float, size: int) -> NDArray[np.float32]:
    """The picture through the backend's transform, with the reflections that fill its corners."""
    found = tf.raw_ops.ImageProjectiveTransformV3(
        images=picture(size)[None],
        transforms=_rotations(tf.constant([np.deg2rad(degrees)], tf.float32), size),
        output_shape=[size, size],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
    return np.asarray(found.numpy()[0])


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("quarters", [-1, 0, 1, 2])
def test_quarter_turns_move_every_pixel_to_its_place(quarters: int, size: int) -> None:
    expected = np.rot90(picture(size), quarters)
    assert rotated(90 * quarters, size) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("degrees", [-70, -10, 25, 135])
def test_other_turns_are_those_of_pillow(degrees: float) -> None:
    error = np.abs(rotated(degrees, SIZE) - turned(picture(), degrees))[inside()]
    assert error.max() < 0.5


def test_images_are_turned_each_by_an_angle_within_the_limit() -> None:
    limit = 0.2  # of a full turn
    backend = make("small", augmentation={"flip": False, "rotation": limit})
    images = np.stack([picture()] * BATCH)
    angles = np.arange(-180, 180)
    known = np.stack([turned(picture(), a)[inside()] for a in angles])
    found = []
    for step in range(10):
        for image in augmented(backend, images, step):
            errors = np.abs(known - image[inside()]).mean(axis=(1, 2))
            assert errors.min() < 1.0
            found.append(angles[errors.argmin()])
    assert np.abs(found).max() <= 360 * limit + 1
    assert min(found) < -180 * limit
    assert max(found) > 180 * limit
    assert len(set(found)) > 20


# Compilation.


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Python's own collector switched off: what is freed, is freed on purpose."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_changing_the_selection_again_and_again_keeps_no_old_graph() -> None:
    backend = make("small")
    draw = np.random.default_rng(0)
    graphs, counts = [], []
    for step in range(12):
        mask = draw.random(len(backend.tensors)) < 0.4
        mask[step] = True
        backend.select(mask)
        assert not any(graph() for graph in graphs)
        backend.probe(*batch_of(step), step)
        train(backend, range(step, step + 1))
        graphs.append(weakref.ref(backend._step.graph))
        counts.append(len(context.context().list_function_names()))
    assert max(counts[2:]) <= max(counts[:2])
    assert graphs[-1]() is not None


def test_the_same_selection_again_is_not_compiled_again(small_backend: TensorFlowBackend) -> None:
    small_backend.select(selecting(small_backend, -1))
    train(small_backend, range(1))
    compiled = small_backend._step
    small_backend.select(selecting(small_backend, -1))
    train(small_backend, range(1))
    assert small_backend._step is compiled


def test_the_mask_that_was_selected_may_be_changed_afterwards() -> None:
    backend = make("small")
    mask = selecting(backend, -1)
    backend.select(mask)
    mask[:] = True
    before = backend.state()
    train(backend, range(1))
    last = len(mask) - 1
    changed = {f"tensor/{last}", f"slot/momentum/{last}", "iterations"}
    assert differing(before, backend.state()) == changed


# Time.


def test_the_parts_of_a_step_add_up_to_its_backward_pass() -> None:
    backend = make("wide", image_size=64)
    images, labels = batch_of(0, size=64)
    backend.select(selecting(backend, -2, -1))
    backend.train_step(images, labels, 0)
    before = backend.state()
    errors = []
    for _ in range(3):  # other programs on the machine may disturb one measurement
        parts = backend.time_parts(images, labels, repeats=10)
        backward = parts.full - parts.forward
        seconds = np.stack([parts.t_dw, parts.t_reach, parts.t_through])
        assert seconds.shape == (3, len(backend.tensors))
        assert (seconds >= 0).all()
        assert 0 < parts.forward < parts.full
        errors.append(abs(seconds.sum() - backward) / backward)
        if errors[-1] < 0.25:
            break
    assert min(errors) < 0.25
    after = {k: v for k, v in backend.state().items() if k in before}
    assert differing(before, after) == set()
    zero = [v for k, v in backend.state().items() if k not in before]
    assert not any(v.any() for v in zero)  # momentum of tensors that were not trained
    # Kernels take time of their own, normalisation and activation lie on the way.
    kernels = [t.kind == "kernel" for t in backend.tensors]
    assert parts.t_dw[kernels].min() > 0
    assert parts.t_through[kernels][1:].min() > 0
    assert parts.t_through[0] == 0


def test_timing_takes_as_many_steps_as_asked_and_leaves_no_trace(
    small_backend: TensorFlowBackend,
) -> None:
    small_backend.select(selecting(small_backend, 0, -1))
    train(small_backend, range(2))
    before = small_backend.state()
    for found in small_backend.time_step(*batch_of(0), 4):
        assert len(found) == 4
        assert min(found) > 0
    assert differing(before, small_backend.state()) == set()


def test_versions_name_what_computed(small_backend: TensorFlowBackend) -> None:
    assert small_backend.versions()["tensorflow"] == tf.__version__
    assert "tensorflow-addons" in small_backend.versions()
