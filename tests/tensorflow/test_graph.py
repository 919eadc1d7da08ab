"""Which operation belongs to which tensor: the paper's rules (MobiSys 2023, page 61), by hand."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from core.elastic.tf_graph import Charge, charges, order_of_use
from core.models import keras_zoo

pytestmark = pytest.mark.tensorflow

layers = tf.keras.layers

SIZE = 8
CLASSES = 3
NO_WORK = {"Const", "Identity", "IdentityN", "NoOp", "Placeholder", "ReadVariableOp"}


class Step(NamedTuple):
    """A training step of a model that trains every tensor. tensors: names in order of use."""

    function: Any
    tensors: list[str]
    charges: dict[str, Charge]

    def charge(self, kind: str, layer: str) -> tuple[str, str] | None:
        """Tensor and part of the one operation of this kind in the backward pass of a layer."""
        found = [o for o in self.backward() if o.type == kind and f"/{layer}/" in o.name]
        assert len(found) == 1, [o.name for o in found]
        charge = self.charges.get(found[0].name)
        return charge and (self.tensors[charge.tensor], charge.part)

    def backward(self) -> list[Any]:
        operations = self.function.graph.get_operations()
        return [o for o in operations if o.name.startswith("gradient_tape/")]


def step_of(model: tf.keras.Model) -> Step:
    optimiser = tf.keras.optimizers.legacy.SGD(0.1, momentum=0.9)
    variables: list[Any] = model.trainable_variables

    def loss_of(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        logits = model(images, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tf.reduce_mean(losses)

    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_of(images, labels)
        gradients = tape.gradient(loss, variables)
        optimiser.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    variables = order_of_use(compiled(loss_of, model), variables)
    function = compiled(step, model)
    found = charges(function, variables, function.outputs[0])
    return Step(function, [v.name.split(":")[0] for v in variables], found)


def compiled(body: Callable[..., tf.Tensor], model: tf.keras.Model) -> Any:
    return tf.function(body, autograph=False).get_concrete_function(
        tf.TensorSpec((2, *model.input_shape[1:])), tf.TensorSpec((2,), tf.int64)
    )


def chain(prefix: str = "") -> tf.keras.Model:
    """Twice convolution with bias, normalisation, activation; pooling; dense."""
    images = x = layers.Input((SIZE, SIZE, 3))
    for i in (1, 2):
        x = layers.Conv2D(4, 3, padding="same", name=f"{prefix}conv{i}")(x)
        x = layers.BatchNormalization(name=f"{prefix}norm{i}")(x)
        x = layers.ReLU(6.0, name=f"{prefix}act{i}")(x)
    x = layers.MaxPool2D(name=f"{prefix}pool")(x)
    x = layers.GlobalAveragePooling2D(name=f"{prefix}mean")(x)
    return tf.keras.Model(images, layers.Dense(CLASSES, name=f"{prefix}head")(x), name="net")


def residual() -> tf.keras.Model:
    """A block whose shortcut has a convolution of its own, used after the main branch."""
    images = layers.Input((SIZE, SIZE, 3))
    stem = layers.Conv2D(4, 3, name="stem")(images)
    x = layers.Conv2D(4, 1, use_bias=False, name="main1")(stem)
    x = layers.ReLU(name="act")(x)
    x = layers.Conv2D(4, 1, use_bias=False, name="main2")(x)
    shortcut = layers.Conv2D(4, 1, use_bias=False, name="shortcut")(stem)
    x = layers.ReLU(name="sum_act")(layers.Add(name="sum")([x, shortcut]))
    x = layers.Flatten(name="flat")(x)
    return tf.keras.Model(images, layers.Dense(CLASSES, name="head")(x), name="net")


@pytest.fixture(scope="module")
def chain_step() -> Step:
    return step_of(chain())


@pytest.fixture(scope="module")
def residual_step() -> Step:
    return step_of(residual())


def test_tensors_are_in_order_from_the_input_to_the_output(chain_step: Step) -> None:
    block = ("conv{}/kernel", "conv{}/bias", "norm{}/gamma", "norm{}/beta")
    blocks = [part.format(i) for i in (1, 2) for part in block]
    assert chain_step.tensors == [*blocks, "head/kernel", "head/bias"]


@pytest.mark.parametrize(
    ("kind", "layer", "charge"),
    [
        # Kernels: the filter gradient is t_dw, the input gradient leads through.
        ("Conv2DBackpropFilter", "conv2", ("conv2/kernel", "dw")),
        ("Conv2DBackpropInput", "conv2", ("conv2/kernel", "through")),
        ("Conv2DBackpropFilter", "conv1", ("conv1/kernel", "dw")),
        ("Conv2DBackpropInput", "conv1", None),  # nothing before it needs the error: never run
        # A bias has its own gradient and no error propagation.
        ("BiasAddGrad", "conv2", ("conv2/bias", "dw")),
        ("BiasAddGrad", "head", ("head/bias", "dw")),
        # The whole of a normalisation's backward pass is beta's error propagation.
        ("FusedBatchNormGradV3", "norm1", ("norm1/beta", "reach")),
        ("FusedBatchNormGradV3", "norm2", ("norm2/beta", "reach")),
        # A layer without weights counts for the nearest tensor before it.
        ("Relu6Grad", "act1", ("norm1/beta", "reach")),
        ("Relu6Grad", "act2", ("norm2/beta", "reach")),
        ("MaxPoolGrad", "pool", ("norm2/beta", "reach")),
        ("Tile", "mean", ("norm2/beta", "reach")),
    ],
)
def test_a_chain_is_charged_as_the_paper_does(
    chain_step: Step, kind: str, layer: str, charge: tuple[str, str] | None
) -> None:
    assert chain_step.charge(kind, layer) == charge


def test_a_dense_layer_is_charged_like_a_convolution(chain_step: Step) -> None:
    products = [o for o in chain_step.backward() if o.type == "MatMul"]
    found = {o.get_attr("transpose_b"): chain_step.charges[o.name] for o in products}
    kernel = chain_step.tensors.index("head/kernel")
    # error · Wᵀ leads on to the layer before, xᵀ · error is the kernel's own gradient
    assert found == {True: Charge(kernel, "through"), False: Charge(kernel, "dw")}


def test_the_gradient_of_the_loss_is_on_the_way_to_the_last_tensor(chain_step: Step) -> None:
    last = Charge(len(chain_step.tensors) - 1, "reach")
    loss = [
        o
        for o in chain_step.backward()
        if "SparseSoftmaxCrossEntropyWithLogits/" in o.name and o.type == "Mul"
    ]
    assert {chain_step.charges[o.name] for o in loss} == {last}


def test_gamma_pays_for_its_own_update_alone(chain_step: Step) -> None:
    gamma = chain_step.tensors.index("norm2/gamma")
    mine = [
        o.type
        for o in chain_step.function.graph.get_operations()
        if (c := chain_step.charges.get(o.name)) and c.tensor == gamma and c.part != "forward"
    ]
    assert set(mine) - NO_WORK == {"ResourceApplyKerasMomentum"}


def test_a_depthwise_convolution_is_charged_like_any_other() -> None:
    images = layers.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(4, 1, use_bias=False, name="first")(images)
    x = layers.DepthwiseConv2D(3, use_bias=False, name="depth")(x)
    x = layers.GlobalAveragePooling2D()(x)
    step = step_of(tf.keras.Model(images, layers.Dense(CLASSES, name="head")(x), name="net"))
    kernel = "depth/depthwise_kernel"
    assert step.charge("DepthwiseConv2dNativeBackpropFilter", "depth") == (kernel, "dw")
    assert step.charge("DepthwiseConv2dNativeBackpropInput", "depth") == (kernel, "through")


def test_a_layer_normalisation_is_the_tensors_before_but_for_its_scaling() -> None:
    images = layers.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(4, 1, name="first")(images)
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling2D()(x)
    step = step_of(tf.keras.Model(images, layers.Dense(CLASSES, name="head")(x), name="net"))
    assert step.tensors[:4] == ["first/kernel", "first/bias", "norm/gamma", "norm/beta"]
    assert step.charge("FusedBatchNormGradV3", "norm") == ("first/bias", "reach")
    found: dict[str, set[str]] = {}
    for o in step.backward():
        if "/norm/" in o.name and o.type in ("Mul", "Sum"):
            charge = step.charges[o.name]
            found.setdefault(step.tensors[charge.tensor], set()).add(f"{o.type} {charge.part}")
    assert found == {
        "norm/gamma": {"Mul through", "Mul dw", "Sum dw"},
        "norm/beta": {"Sum dw"},
    }


@pytest.mark.parametrize(
    ("kind", "layer", "charge"),
    [
        ("Conv2DBackpropFilter", "shortcut", ("shortcut/kernel", "dw")),
        ("Conv2DBackpropFilter", "main1", ("main1/kernel", "dw")),
        ("Conv2DBackpropFilter", "main2", ("main2/kernel", "dw")),
        ("Conv2DBackpropInput", "shortcut", ("shortcut/kernel", "through")),
        ("Conv2DBackpropInput", "main1", ("main1/kernel", "through")),
        ("Conv2DBackpropInput", "main2", ("main2/kernel", "through")),
        ("ReluGrad", "act", ("main1/kernel", "reach")),
        # Both branches come together in it: needed as soon as the later of them is trained.
        ("ReluGrad", "sum_act", ("shortcut/kernel", "reach")),
    ],
)
def test_parallel_branches_are_charged_each_to_its_own_tensors(
    residual_step: Step, kind: str, layer: str, charge: tuple[str, str]
) -> None:
    assert residual_step.tensors[:2] == ["stem/kernel", "stem/bias"]
    assert residual_step.charge(kind, layer) == charge


def test_where_branches_part_their_errors_are_added_on_the_way_to_the_tensor_before(
    residual_step: Step,
) -> None:
    graph = residual_step.function.graph
    sums = [o for o in graph.get_operations() if o.type == "AddN"]
    bias = residual_step.tensors.index("stem/bias")
    assert [residual_step.charges[o.name] for o in sums] == [Charge(bias, "reach")]


@pytest.mark.parametrize("make", [chain, residual])
def test_every_update_belongs_to_its_own_tensor(make: Callable[[], tf.keras.Model]) -> None:
    step = step_of(make())
    found = {}
    for operation in step.function.graph.get_operations():
        # Keras numbers the updates in the order in which it is given the variables.
        if place := re.match(r"SGD/SGD/update(?:_(\d+))?/ResourceApply", operation.name):
            found[int(place[1] or 0)] = step.charges[operation.name]
    assert found == {i: Charge(i, "dw") for i in range(len(step.tensors))}


def computed_from_the_batch(function: Any) -> set[str]:
    """Operations that the step must run and whose inputs differ from batch to batch."""
    wanted, live = [*function.outputs], set()
    controls = list(function.graph.control_outputs)
    stack = [t.op for t in wanted] + controls
    while stack:
        operation = stack.pop()
        if operation.name not in live:
            live.add(operation.name)
            stack += [t.op for t in operation.inputs] + list(operation.control_inputs)
    moving = {t.op.name for t in function.inputs[:2]}
    for operation in function.graph.get_operations():
        if any(t.op.name in moving for t in operation.inputs):
            moving.add(operation.name)
    return live & moving


@pytest.mark.parametrize("make", [chain, residual])
def test_no_operation_of_the_step_is_left_without_a_charge(
    make: Callable[[], tf.keras.Model],
) -> None:
    step = step_of(make())
    operations = step.function.graph.get_operations()
    kinds = {o.name: o.type for o in operations}
    left = {o for o in computed_from_the_batch(step.function) if o not in step.charges}
    assert not {o for o in left if kinds[o] not in NO_WORK}
    assert sum(c.part != "forward" for c in step.charges.values()) > 30


def test_names_of_layers_change_nothing(chain_step: Step) -> None:
    renamed = step_of(chain(prefix="gradient_update_beta_kernel_"))

    def by_kind(step: Step) -> list[tuple[str, Charge | None]]:
        operations = step.function.graph.get_operations()
        return [(o.type, step.charges.get(o.name)) for o in operations]

    assert by_kind(renamed) == by_kind(chain_step)


class CreatedBackwards(tf.keras.Model):
    """Makes its layers, and their variables, from the output to the input."""

    def __init__(self) -> None:
        super().__init__()
        self.head = layers.Dense(CLASSES, name="head")
        self.norm = layers.BatchNormalization(name="norm")
        self.conv = layers.Conv2D(4, 3, name="conv")
        self.head.build((None, 4))
        self.norm.build((None, None, None, 4))
        self.conv.build((None, None, None, 3))

    def call(self, images: tf.Tensor) -> tf.Tensor:
        x = self.norm(self.conv(images), training=False)
        return self.head(tf.reduce_mean(x, [1, 2]))


def test_order_of_use_is_that_of_computation_not_of_creation() -> None:
    model = CreatedBackwards()
    function = tf.function(model.call, autograph=False).get_concrete_function(
        tf.TensorSpec((2, SIZE, SIZE, 3))
    )
    variables = model.trainable_variables
    used = [model.conv.kernel, model.conv.bias, model.norm.gamma, model.norm.beta]
    used += [model.head.kernel, model.head.bias]
    assert [v.ref() for v in variables] != [v.ref() for v in used]
    draw = np.random.default_rng(0)
    for _ in range(5):
        shuffled = [variables[i] for i in draw.permutation(len(variables))]
        assert [v.ref() for v in order_of_use(function, shuffled)] == [v.ref() for v in used]


def test_a_tensor_that_is_not_used_comes_first() -> None:
    model = CreatedBackwards()
    unused = tf.Variable(1.0)
    function = tf.function(model.call, autograph=False).get_concrete_function(
        tf.TensorSpec((2, SIZE, SIZE, 3))
    )
    order = order_of_use(function, [*model.trainable_variables, unused])
    assert order[0] is unused


def test_a_whole_network_is_charged_by_the_same_rules() -> None:
    images = keras_zoo.NETWORKS["efficientnet_lite0"].build(32)
    step = step_of(tf.keras.Model(images.input, layers.Dense(CLASSES, name="head")(images.output)))
    kinds = {o.name: o.type for o in step.function.graph.get_operations()}
    found: dict[tuple[int, str], set[str]] = {}
    for name, charge in step.charges.items():
        if kinds[name] not in NO_WORK:
            found.setdefault((charge.tensor, charge.part), set()).add(kinds[name])
    for i, tensor in enumerate(step.tensors):
        own, through = found[i, "dw"], found.get((i, "through"), set())
        assert "ResourceApplyKerasMomentum" in own
        if tensor.endswith("kernel"):
            assert any(kind.endswith(("BackpropFilter", "MatMul")) for kind in own)
            assert len(through) == (i > 0)
            assert all(kind.endswith(("BackpropInput", "MatMul")) for kind in through)
        else:
            assert not through
        assert ("FusedBatchNormGradV3" in found.get((i, "reach"), ())) == tensor.endswith("beta")
