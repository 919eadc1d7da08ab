"""Multiply-adds: by hand for single operations, as published for whole networks, against
TensorFlow's own profiler, and against the graphs of the steps that are really compiled."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from core.elastic import tf_counting
from core.elastic.selector import Mask
from core.elastic.tf_backend import TensorFlowBackend
from core.errors import ConfigError
from core.training import threads

pytestmark = pytest.mark.tensorflow

NETWORKS = (
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "resnet50",
    "vgg16",
    "mobilenet_v2",
    "vit_b16",
)


def backend_of(name: str, size: int, batch: int, classes: int) -> TensorFlowBackend:
    adam = name == "vit_b16"  # as published
    training = {
        "image_size": size,
        "batch": batch,
        "test_batch": batch,
        "augmentation": {"flip": True, "rotation": 0.2},
        "dropout": 0.2,
        "optimiser": {
            "name": "adam" if adam else "sgdw",
            "learning_rate": 1e-3,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "schedule": "constant" if adam else "cosine",
        },
    }
    count = threads.resolve({"intra_op": 0, "inter_op": 0})
    return TensorFlowBackend({"name": name, "weights": None}, training, classes, 10, 0, count)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[str, TensorFlowBackend]:
    """Each network in turn, at a tiny size, with its name."""
    return request.param, backend_of(request.param, size=32, batch=2, classes=5)


def counted(body: Callable[..., Any], *shapes: tuple[int, ...]) -> list[float]:
    """Multiply-adds of every operation in the graph of `body` that has any, in its order."""
    signature = [tf.TensorSpec(shape) for shape in shapes]
    graph = tf.function(body, autograph=False).get_concrete_function(*signature).graph
    return [n for n in tf_counting.multiply_adds(graph).values() if n]


def with_gradients(body: Callable[..., tf.Tensor]) -> Callable[..., Any]:
    """The forward pass and the gradients with respect to all that it is given."""

    def both(*given: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(given)
            result = body(*given)
        return result, tape.gradient(result, given)

    return both


@pytest.mark.parametrize(
    ("body", "shapes", "expected"),
    [
        pytest.param(
            lambda x, w: tf.nn.conv2d(x, w, 2, "SAME"),
            [(2, 9, 8, 3), (3, 5, 3, 7)],
            2 * (5 * 4 * 7) * (3 * 5 * 3),
            id="convolution",
        ),
        pytest.param(
            lambda x, w: tf.nn.conv2d(x, w, 1, "VALID", dilations=2),
            [(2, 9, 8, 3), (3, 3, 3, 7)],
            2 * (5 * 4 * 7) * (3 * 3 * 3),
            id="dilated convolution",
        ),
        pytest.param(
            lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"),
            [(2, 9, 8, 6), (3, 3, 2, 9)],
            2 * (9 * 8 * 9) * (3 * 3 * 2),
            id="convolution in three groups",
        ),
        pytest.param(
            lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, 2, 2, 1], "VALID"),
            [(2, 9, 9, 3), (3, 3, 3, 2)],
            2 * (4 * 4 * 3 * 2) * (3 * 3),
            id="depthwise convolution",
        ),
        pytest.param(lambda x, w: x @ w, [(4, 5), (5, 6)], 4 * 5 * 6, id="dense"),
        pytest.param(
            lambda x, w: tf.matmul(x, w, transpose_a=True),
            [(5, 4), (5, 6)],
            4 * 5 * 6,
            id="dense, transposed",
        ),
        pytest.param(
            lambda q, k: tf.matmul(q, k, transpose_b=True),
            [(2, 3, 7, 4), (2, 3, 9, 4)],
            (2 * 3) * 7 * 9 * 4,
            id="attention, query by key",
        ),
        pytest.param(
            lambda a, v: a @ v,
            [(2, 3, 7, 9), (2, 3, 9, 4)],
            (2 * 3) * 7 * 9 * 4,
            id="attention, by value",
        ),
        pytest.param(
            lambda x, w: tf.matmul(x, w, adjoint_a=True),
            [(2, 9, 7), (2, 9, 4)],
            2 * 9 * 7 * 4,
            id="batches of matrices, transposed",
        ),
        pytest.param(
            lambda x, w: tf.einsum("abc,cde->abde", x, w),
            [(2, 3, 4), (4, 5, 6)],
            2 * 3 * 4 * 5 * 6,
            id="einsum",
        ),
    ],
)
def test_an_operation_and_each_of_its_two_gradients_count_the_same(
    body: Callable[..., tf.Tensor], shapes: list[tuple[int, ...]], expected: int
) -> None:
    """Output elements times what each of them sums over. The gradients do the same products,
    added up along other axes."""
    assert counted(body, *shapes) == [expected]
    assert counted(with_gradients(body), *shapes) == [expected] * 3


def test_what_multiplies_element_by_element_counts_nothing() -> None:
    def body(x: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        x = tf.nn.relu6(tf.nn.max_pool2d(x, 2, 2, "SAME") * scale)
        moments = tf.ones(3), tf.zeros(3), tf.zeros(3), tf.ones(3)
        x = tf.compat.v1.nn.fused_batch_norm(x, *moments, is_training=False)[0]
        return tf.reduce_mean(tf.nn.softmax(tf.nn.gelu(x)))

    assert counted(with_gradients(body), (2, 8, 8, 3), (3,)) == []
    assert counted(lambda x: tf.einsum("ab->ba", x), (2, 3)) == []


def test_an_operation_that_is_not_known_is_named() -> None:
    with pytest.raises(ConfigError) as refused:
        counted(lambda x: tf.linalg.inv(x, name="unusual"), (3, 3))
    text = str(refused.value)
    assert text.startswith("operation unusual is of type MatrixInverse, whose multiply-adds are")
    assert "say what it counts in core/elastic/tf_counting.py" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "published"),
    [
        ("resnet50", 224, 3.86e9),  # of the first version, whose strides are in 1 × 1 convolutions
        ("vgg16", 224, 15.47e9 - 123.6e6),  # less its three dense layers
        ("mobilenet_v2", 224, 0.301e9),
        ("vit_b16", 224, 17.564e9),
    ],
)
def test_a_forward_pass_counts_as_published(name: str, size: int, published: float) -> None:
    backend = backend_of(name, size, batch=1, classes=1000)
    counts = backend.count_parts()
    assert counts.forward == pytest.approx(published, rel=2e-3)
    everything = np.ones(len(backend.tensors), dtype=bool)
    # Both gradients of every layer but the first, which has no use for that of its input.
    assert 2.95 < counts.of(everything) / counts.forward < 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "published"),
    [
        ("efficientnet_lite0", 224, 407e6),
        ("efficientnet_lite1", 240, 631e6),
        ("efficientnet_lite2", 260, 899e6),
    ],
)
def test_efficientnet_lite_counts_a_twentieth_less_than_published(
    name: str, size: int, published: float
) -> None:
    """For all three sizes alike; what the published counts hold beside convolutions is not said.
    TensorFlow's profiler agrees with ours, below."""
    backend = backend_of(name, size, batch=1, classes=1000)
    assert 0.94 < backend.count_parts().forward / published < 0.96


@pytest.mark.slow
def test_twice_the_images_count_twice() -> None:
    one, two = (backend_of("vgg16", 32, batch, 5).count_parts() for batch in (1, 2))
    assert two.forward == 2 * one.forward
    for part in ("t_dw", "t_reach", "t_through"):
        assert np.array_equal(getattr(two, part), 2 * getattr(one, part))


# What both count. TensorFlow's profiler knows no Einsum, and no network here has one.
PROFILED = [kind for kind in tf_counting.COUNTED if kind != "Einsum"]


def profiled(graph: tf.Graph, kinds: list[str]) -> int:
    """Floating-point operations of these types, two for a multiply-add, by TensorFlow's
    profiler."""
    profiler = tf.compat.v1.profiler
    options = (
        profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
        .with_accounted_types([f"^{kind}$" for kind in kinds])
        .with_empty_output()
        .build()
    )
    return int(profiler.profile(graph, cmd="op", options=options).total_float_ops)


@pytest.mark.slow
def test_tensorflows_profiler_counts_the_same(network: tuple[str, TensorFlowBackend]) -> None:
    _, backend = network
    graph = backend._forward.graph
    types = {o.type for o in graph.get_operations() if o.type in tf_counting.COUNTED}
    assert types <= set(PROFILED)
    assert profiled(graph, PROFILED) == 2 * sum(tf_counting.multiply_adds(graph).values())


def needed(function: Any) -> set[str]:
    """Operations that a step must run: those that its results and its updates come from."""
    found: set[str] = set()
    stack = [tensor.op for tensor in function.outputs] + list(function.graph.control_outputs)
    while stack:
        operation = stack.pop()
        if operation.name not in found:
            found.add(operation.name)
            stack += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return found


def compiled_count(backend: TensorFlowBackend, mask: Mask) -> float:
    backend.select(mask)
    step = backend._selected_step()
    counts = tf_counting.multiply_adds(step.graph)
    return math.fsum(counts[name] for name in needed(step))


def selections(backend: TensorFlowBackend, number: int) -> list[Mask]:
    """Random ones that begin anywhere in the network."""
    draw = np.random.default_rng(0)
    n = len(backend.tensors)
    depths = np.linspace(0, n - 3, number).astype(int)
    masks = [draw.random(n) < draw.uniform(0.05, 0.5) for _ in depths]
    for mask, depth in zip(masks, depths, strict=True):
        mask[:depth], mask[depth] = False, True
    return masks


@pytest.mark.slow
def test_a_selection_counts_what_its_compiled_step_has_to_compute(
    network: tuple[str, TensorFlowBackend],
) -> None:
    """Exactly, but where the deepest selected tensor lies in one of several parallel branches:
    the cost of depth pays for the way through all of them, though the step needs one."""
    name, backend = network
    counts = backend.count_parts()
    branch = {"resnet50": r"_block1_[0123]_", "vit_b16": "/(query|key|value)/"}.get(name, "^$")
    for mask in selections(backend, 5 if name == "vit_b16" else 8):
        predicted, real = counts.of(mask), compiled_count(backend, mask)
        if re.search(branch, backend.tensors[int(mask.argmax())].name):
            assert real <= predicted < 1.03 * real
        else:
            assert predicted == real


@pytest.mark.slow
def test_counting_leaves_no_trace(network: tuple[str, TensorFlowBackend]) -> None:
    _, backend = network
    mask = np.arange(len(backend.tensors)) >= len(backend.tensors) - 2
    backend.select(mask)
    step, before = backend._selected_step(), backend.state()
    backend.count_parts()
    backend.select(mask)
    assert backend._selected_step() is step
    after = backend.state()
    assert before.keys() == after.keys()
    assert all(v.tobytes() == after[k].tobytes() for k, v in before.items())
