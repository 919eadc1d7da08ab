"""PruneTrain in TensorFlow: what is cut out computes as if it were zero, in networks small enough
to check by hand and in every convolutional one of the zoo."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from core.elastic import channels, tf_prune
from core.elastic.backend import State
from core.elastic.schemes import Penalty
from core.elastic.tf_backend import TensorFlowBackend
from core.errors import ConfigError
from core.models import keras_zoo
from core.training import threads

pytestmark = pytest.mark.tensorflow

layers = tf.keras.layers
Arrays = dict[str, NDArray]
CLASSES, SIZE, BATCH, STEPS = 3, 16, 4, 20
RATE, MOMENTUM = 0.05, 0.9
CONVOLUTIONAL = sorted(set(keras_zoo.NETWORKS) - {"vit_b16"})


def residual(image_size: int) -> tf.keras.Model:
    """A residual join, a depthwise convolution with a bias, every vector that can follow."""
    images = layers.Input((image_size, image_size, 3))
    a = layers.Conv2D(4, 3, padding="same", name="a")(images)
    a = layers.ReLU(6.0)(layers.BatchNormalization(name="a_norm")(a))
    b = layers.Conv2D(4, 1, activation="relu", name="b")(a)
    x = layers.Add(name="sum")([layers.BatchNormalization(name="b_norm", scale=False)(b), a])
    x = layers.DepthwiseConv2D(3, 2, "same", name="d")(layers.MaxPooling2D()(x))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="c")(x)
    return tf.keras.Model(images, layers.GlobalAveragePooling2D()(layers.Activation("relu")(x)))


def _in_groups(image_size: int) -> tf.keras.Model:
    images = layers.Input((image_size, image_size, 3))
    x = layers.Conv2D(6, 3, groups=3, name="split")(images)
    return tf.keras.Model(images, layers.GlobalAveragePooling2D()(x))


def _layer_norm(image_size: int) -> tf.keras.Model:
    images = layers.Input((image_size, image_size, 3))
    x = layers.LayerNormalization(name="odd")(layers.Conv2D(6, 3)(images))
    return tf.keras.Model(images, layers.GlobalAveragePooling2D()(x))


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for build in (residual, _in_groups, _layer_norm):
            network = keras_zoo.Network(build, lambda x: x / 255, lambda model, folder: None)
            patch.setitem(keras_zoo.NETWORKS, build.__name__, network)
        yield


def make(
    penalty: Penalty | None = "group_lasso", model: str = "residual", optimiser: str = "sgdw"
) -> TensorFlowBackend:
    """A backend with all tensors selected and weights of usual sizes everywhere."""
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
            "weight_decay": 5e-4,
            "schedule": "cosine",
        },
    }
    backend = TensorFlowBackend(
        {"name": model, "weights": None},
        training,
        CLASSES,
        STEPS,
        7,
        threads.resolve({"intra_op": 0, "inter_op": 0}),
        penalty,
    )
    fill(everything(backend), np.random.default_rng(0))
    backend.select(np.ones(len(backend.tensors), dtype=bool))
    return backend


def everything(backend: TensorFlowBackend) -> dict[str, tf.Variable]:
    """Statistics of normalisation too."""
    return tf_prune.weights_of(backend._network, backend._head)


def fill(variables: dict[str, tf.Variable], draw: np.random.Generator) -> None:
    """Weights with which the signal neither fades nor grows; no vector is zero."""
    for name, variable in variables.items():
        shape = variable.shape
        if name.endswith("kernel"):
            inputs = np.prod(shape[:2] if "depthwise" in name else shape[:-1])
            variable.assign(draw.normal(0, np.sqrt(2 / inputs), shape))
        elif name.endswith(("gamma", "variance")):
            variable.assign(draw.uniform(0.5, 1.5, shape))
        else:
            variable.assign(draw.normal(0, 0.2, shape))


def batch_of(number: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    draw = np.random.default_rng(number)
    pixels = draw.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    return pixels, draw.integers(0, CLASSES, BATCH)


def train(backend: TensorFlowBackend, steps: range) -> list[float]:
    return [backend.train_step(*batch_of(step), step)[0] for step in steps]


def at(s: channels.Slice, places: Any) -> Any:
    """Index of these channels in the array of a slice."""
    return (*[slice(None)] * s.axis, places)


def kill(
    groups: Any, variables: dict[str, tf.Variable], dead: dict[str, list[int]], vectors: bool
) -> None:
    """Set the kernels of channels to zero, on all sides, and their vectors too if asked."""
    for group in groups:
        for s in group.slices:
            if s.weighs or vectors:
                value = variables[s.array].numpy()
                value[at(s, dead.get(group.name, []))] = 0
                variables[s.array].assign(value)


def differing(one: State, other: State) -> set[str]:
    same = {k for k in one.keys() & other.keys() if one[k].tobytes() == other[k].tobytes()}
    return (one.keys() | other.keys()) - same


DEAD = {"a": [1, 3], "c": [0, 4, 5]}


@pytest.fixture
def half_dead() -> TensorFlowBackend:
    """After two steps, so that the optimiser has slots; then some channels are killed."""
    backend = make()
    train(backend, range(2))
    kill(backend._groups, everything(backend), DEAD, vectors=False)
    return backend


# Groups.


def test_the_groups_of_a_small_network_are_those_on_paper() -> None:
    first, second = make()._groups
    assert (first.name, first.channels, second.name, second.channels) == ("a", 4, "c", 6)
    assert {(s.array, s.axis) for s in first.kernels} == {
        ("a/kernel", 3), ("b/kernel", 2), ("b/kernel", 3), ("d/depthwise_kernel", 2),
        ("c/kernel", 2),
    }  # fmt: skip
    assert {s.array for s in first.slices} - {s.array for s in first.kernels} == {
        "a/bias", "a_norm/gamma", "a_norm/beta", "a_norm/moving_mean", "a_norm/moving_variance",
        "b/bias", "b_norm/beta", "b_norm/moving_mean", "b_norm/moving_variance", "d/bias",
    }  # fmt: skip
    assert {(s.array, s.axis) for s in second.slices} == {("c/kernel", 3), ("head/kernel", 0)}


@pytest.mark.parametrize(
    ("model", "what"), [("_in_groups", "split .* Conv2D in groups"), ("_layer_norm", "odd .*")]
)
def test_layers_that_are_not_known_are_named_before_training(model: str, what: str) -> None:
    with pytest.raises(ConfigError, match=rf"layer {what}.*say it in core/elastic/tf_prune.py"):
        make(model=model)
    assert train(make("l1", model), range(1))[0] > 0


# The penalty and its proximal step.


def slow_norms(backend: TensorFlowBackend, arrays: Arrays) -> dict[str, list[float]]:
    return {
        group.name: [
            sum(float((arrays[s.array][at(s, c)].astype(float) ** 2).sum()) for s in group.kernels)
            ** 0.5
            for c in range(group.channels)
        ]
        for group in backend._groups
    }


def test_the_penalty_is_the_sum_of_the_norms_of_all_channels() -> None:
    backend = make()
    arrays = {name: v.numpy() for name, v in everything(backend).items()}
    expected = sum(sum(norms) for norms in slow_norms(backend, arrays).values())
    assert backend.penalty() == pytest.approx(expected, rel=1e-6)


def shrunk(backend: TensorFlowBackend, arrays: Arrays, amount: float) -> Arrays:
    """The proximal step, channel by channel, group after group."""
    arrays = {name: value.copy() for name, value in arrays.items()}
    for group in backend._groups:
        norms = slow_norms(backend, arrays)[group.name]
        for s in group.kernels:
            for c, norm in enumerate(norms):
                arrays[s.array][at(s, c)] *= max(0.0, 1 - amount / norm)
    return arrays


@pytest.mark.parametrize(("optimiser", "scale"), [("sgdw", 1 / (1 - MOMENTUM)), ("adam", 1.0)])
def test_a_step_is_the_optimisers_and_then_a_proximal_one(optimiser: str, scale: float) -> None:
    plain, penalised = make(None, optimiser=optimiser), make(optimiser=optimiser)
    penalised.set_penalty(4.0)
    losses = train(plain, range(1)), train(penalised, range(1))
    assert losses[0] == losses[1]  # the loss of the data alone
    updated = {name: v.numpy() for name, v in everything(plain).items()}
    expected = shrunk(penalised, updated, RATE * scale * 4.0)
    assert any((e == 0).all() for e in expected["c/kernel"].T) == (optimiser == "sgdw")
    for name, variable in everything(penalised).items():
        np.testing.assert_allclose(variable.numpy(), expected[name], rtol=2e-5, atol=1e-7)


def test_a_tensor_that_is_not_selected_does_not_shrink() -> None:
    backend = make()
    backend.select(np.array([t.name != "c/kernel" for t in backend.tensors]))
    before = {name: v.numpy() for name, v in everything(backend).items()}
    backend.set_penalty(1.0)
    train(backend, range(1))
    after = {name: v.numpy() for name, v in everything(backend).items()}
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {t.name for t in backend.tensors} - {"c/kernel"}


def test_l1_adds_its_subgradient_to_kernels_alone() -> None:
    plain, penalised = make(None), make("l1")
    kernels = {t.name for t in plain.tensors if t.kind == "kernel"}
    before = {name: v.numpy() for name, v in everything(plain).items()}
    assert penalised.penalty() == pytest.approx(sum(np.abs(before[k]).sum() for k in kernels))
    penalised.set_penalty(0.3)
    assert train(plain, range(1)) == train(penalised, range(1))
    after = {name: v.numpy() for name, v in everything(penalised).items()}
    for name, variable in everything(plain).items():
        expected = variable.numpy() - RATE * 0.3 * np.sign(before[name]) * (name in kernels)
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-6)
    assert penalised.prune(1e9) == 0


def test_under_a_heavy_penalty_channels_die_and_training_goes_on() -> None:
    backend = make()
    backend.set_penalty(1.0)
    before = backend.penalty()
    train(backend, range(4))
    assert backend.penalty() < before / 2
    dead = backend.prune(1e-4)
    assert 0 < dead < 8
    assert backend.prune(1e-4) == 0
    assert all(loss > 0 for loss in train(backend, range(4, 8)))


# Cutting.


def test_a_network_without_dead_channels_computes_as_if_they_were_zero(
    half_dead: TensorFlowBackend,
) -> None:
    """Kernels on all sides zero, biases and normalisation as they are, gives the same too."""
    backend = half_dead
    with_vectors = backend.evaluate(*batch_of(5))
    kill(backend._groups, everything(backend), DEAD, vectors=True)
    without = backend.evaluate(*batch_of(5))
    shapes = {t.name: t.shape for t in backend.tensors}
    assert backend.prune(1e-4) == 5
    smaller = backend.evaluate(*batch_of(5))
    np.testing.assert_allclose([with_vectors, smaller], [without] * 2, rtol=1e-5)
    after = {t.name: t.shape for t in backend.tensors}
    assert list(after) == list(shapes)
    assert {name: shape for name, shape in after.items() if shape != shapes[name]} == {
        "a/kernel": (3, 3, 3, 2), "a/bias": (2,), "a_norm/gamma": (2,), "a_norm/beta": (2,),
        "b/kernel": (1, 1, 2, 2), "b/bias": (2,), "b_norm/beta": (2,),
        "d/depthwise_kernel": (3, 3, 2, 1), "d/bias": (2,), "c/kernel": (3, 3, 2, 3),
        "head/kernel": (3, 3),
    }  # fmt: skip


def test_slots_and_the_count_of_steps_follow(half_dead: TensorFlowBackend) -> None:
    backend = half_dead
    before = backend.state()
    assert any(before[k].any() for k in before if k.startswith("slot/"))
    backend.prune(1e-4)
    after = backend.state()
    assert after["kept/a"].tolist() == [0, 2]
    assert after["kept/c"].tolist() == [1, 2, 3]
    assert after["iterations"] == 2
    for i, tensor in enumerate(backend.tensors):
        for array in (f"tensor/{i}", f"slot/momentum/{i}"):
            expected = before[array]
            for group in backend._groups:
                for s in group.slices:
                    if s.array == tensor.name:
                        expected = np.delete(expected, DEAD[group.name], axis=s.axis)
            assert np.array_equal(after[array], expected), (array, tensor.name)


def multiply_adds(a: int, c: int) -> int:
    """Of the forward pass, by hand; 16 pixels, 8 after pooling, 4 after the depthwise step."""
    pixels = a * 27 * 16**2 + a * a * 16**2 + a * 9 * 4**2 + c * a * 9 * 4**2 + c * CLASSES
    return BATCH * pixels


def test_multiply_adds_fall_to_those_of_the_smaller_network(half_dead: TensorFlowBackend) -> None:
    mask = np.ones(len(half_dead.tensors), dtype=bool)
    before = half_dead.count_parts()
    assert before.forward == multiply_adds(4, 6)
    half_dead.prune(1e-4)
    after = half_dead.count_parts()
    assert after.forward == multiply_adds(2, 3)
    # Each gradient costs as much as the forward pass, but the images need none.
    assert after.of(mask) == 3 * multiply_adds(2, 3) - BATCH * 2 * 27 * 16**2
    steps, _ = half_dead.time_step(*batch_of(0), 1)
    assert steps[0] > 0


def test_a_group_keeps_its_last_channel() -> None:
    backend = make()
    assert backend.prune(1e9) == 8
    assert len(train(backend, range(2))) == 2


def test_a_resumed_run_goes_on_with_the_same_bits(half_dead: TensorFlowBackend) -> None:
    backend = half_dead
    backend.prune(1e-4)
    backend.set_penalty(0.01)
    train(backend, range(2, 4))
    other = make()
    other.load_state(backend.state())
    other.set_penalty(0.01)
    assert not differing(backend.state(), other.state())
    assert [t.shape for t in other.tensors] == [t.shape for t in backend.tensors]
    assert train(backend, range(4, 7)) == train(other, range(4, 7))
    assert backend.evaluate(*batch_of(9)) == other.evaluate(*batch_of(9))
    assert not differing(backend.state(), other.state())


def test_a_state_of_a_larger_network_is_refused(half_dead: TensorFlowBackend) -> None:
    state = half_dead.state()
    half_dead.prune(1e-4)
    with pytest.raises(ValueError, match="channels of a were cut out here that the state has"):
        half_dead.load_state(state)
    with pytest.raises(ValueError, match="groups of channels differ"):
        make(None).load_state(state)


# The zoo.


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_every_convolutional_network_can_be_cut(name: str) -> None:
    network, recipe = keras_zoo.build(name, 32, None)
    head = layers.Dense(CLASSES, name="head")
    with tf.name_scope("head"):
        head.build((None, network.output_shape[-1]))
    variables, draw = tf_prune.weights_of(network, head), np.random.default_rng(1)
    fill(variables, draw)
    groups = tf_prune.groups(network, head)
    assert len(groups) > 10
    dead = {
        g.name: draw.choice(g.channels, g.channels // 3, replace=False).tolist()
        for g in groups[::2]
    }
    kill(groups, variables, dead, vectors=True)
    arrays = {n: v.numpy() for n, v in variables.items()}
    kept = channels.alive(groups, arrays, 1e-4)
    assert all(len(kept[g.name]) == g.channels - len(dead.get(g.name, [])) for g in groups)
    arrays = channels.cut(groups, kept, arrays)
    smaller = tf_prune.rebuild(network, arrays)
    assert [v.name for v in smaller.weights] == [v.name for v in network.weights]
    assert smaller.count_params() < 0.9 * network.count_params()
    images = recipe.preprocess(draw.uniform(0, 255, (2, 32, 32, 3)).astype(np.float32))
    before = head(network(images, training=False)).numpy()
    after = smaller(images, training=False) @ arrays["head/kernel"] + arrays["head/bias"]
    assert np.abs(before).max() > 0.1
    np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())


@pytest.mark.slow
def test_a_vision_transformer_is_refused() -> None:
    with pytest.raises(ConfigError, match="PruneTrain cuts channels of convolutional networks"):
        make(model="vit_b16")
