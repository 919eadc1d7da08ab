"""ElasticTrainer's backend in TensorFlow 2.15 with Keras networks."""

import gc
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from core import machine
from core.elastic import channels, tf_counting, tf_graph, tf_prune, tf_trace
from core.elastic.backend import Images, Labels, State
from core.elastic.measuring import in_turns, parts_of
from core.elastic.pruning import Prunable, friction
from core.elastic.schemes import Metric, Penalty
from core.elastic.selector import Floats, Mask
from core.elastic.tf_optimisers import optimiser
from core.elastic.timing import Counts, Parts, Tensor
from core.models import keras_zoo


class TensorFlowBackend(Prunable):
    """See `core.elastic.backend.Backend`.

    Randomness (augmentation, dropout) is a function of seed and step, so a resumed run needs no
    generator state and repeats the same bits.
    """

    def __init__(
        self,
        model: dict[str, Any],
        training: dict[str, Any],
        classes: int,
        steps: int,
        seed: int,
        threads: dict[str, int],
        penalty: Penalty | None = None,
    ) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(threads["intra_op"])
        tf.config.threading.set_inter_op_parallelism_threads(threads["inter_op"])
        tf.config.experimental.enable_op_determinism()
        tf.keras.utils.set_random_seed(seed)
        size = training["image_size"]
        weights = Path(model["weights"]) if model["weights"] else None
        self._network, self._recipe = keras_zoo.build(model["name"], size, weights)
        self._head = _prediction_layer(self._network.output_shape[-1], classes, seed)
        self._penalty = penalty
        self._coefficient = tf.Variable(0.0, trainable=False, name="penalty")
        lasso = penalty == "group_lasso"
        self._groups = tf_prune.groups(self._network, self._head) if lasso else ()
        self._kept = channels.everything(self._groups)
        self._augmentation = training["augmentation"]
        self._dropout = training["dropout"]
        self._batch, self._test_batch, self._size = training["batch"], training["test_batch"], size
        self._seed = seed
        self._settings, self._steps = training["optimiser"], steps
        self._optimiser = optimiser(self._settings, steps)
        self._step: Any = None
        self._probe: Any = None
        self._compile_network()
        self._mask = np.zeros(len(self.tensors), dtype=bool)
        self._slotted = np.zeros(len(self.tensors), dtype=bool)

    def select(self, mask: Mask) -> None:
        if self._step is not None and np.array_equal(mask, self._mask):
            return
        self._mask, self._step = mask.copy(), None
        gc.collect()  # graphs hold cycles; without this every selection's graph stays in memory
        self._make_slots(mask)
        self._slotted |= mask

    def train_step(self, images: Images, labels: Labels, step: int) -> tuple[float, int]:
        loss, correct = self._selected_step()(*_inputs(images, labels, step))
        return float(loss), int(correct)

    def evaluate(self, images: Images, labels: Labels) -> tuple[float, int]:
        n = len(images)
        fill = self._test_batch - n  # one compiled shape serves the last, smaller batch too
        images = np.concatenate([images, np.zeros((fill, *images.shape[1:]), np.uint8)])
        labels = np.concatenate([labels, np.zeros(fill, np.int64)])
        losses, right = self._evaluate(*_inputs(images, labels, 0))
        return float(np.sum(losses.numpy()[:n])), int(np.sum(right.numpy()[:n]))

    def probe(self, images: Images, labels: Labels, step: int, metric: Metric = "update") -> Floats:
        if metric == "weight":
            return np.array([float(tf.reduce_sum(tf.abs(v))) for v in self._variables])
        if self._probe is None:
            # Slots of tensors that were never selected: zeros that only this function changes.
            self._make_slots(np.ones(len(self.tensors), dtype=bool))
            self._probe = self._compile(self._importance, self._batch)
        with self._untouched():
            by_update, by_gradient = self._probe(*_inputs(images, labels, step))
        return np.array(by_update if metric == "update" else by_gradient, dtype=np.float64)

    def time_step(
        self, images: Images, labels: Labels, repeats: int
    ) -> tuple[list[float], list[float]]:
        with self._untouched():
            steps, forwards = in_turns(self._runs(images, labels), repeats)
        return steps, forwards

    def time_parts(self, images: Images, labels: Labels, repeats: int) -> Parts:
        self.select(np.ones(len(self.tensors), dtype=bool))
        runs = self._runs(images, labels)
        with self._untouched():
            steps, forwards = in_turns(runs, repeats)
            seconds = tf_trace.trace(runs[0], repeats)
        bare = tf_trace.trace(runs[1], repeats)
        split = self._split(self._selected_step(), seconds, self._forward, bare)
        return parts_of(steps, forwards, *split)

    def count_parts(self) -> Counts:
        everything = self._compile(self._full_step, self._batch)
        counts = tf_counting.multiply_adds(everything.graph)
        parts = {part: np.zeros(len(self.tensors)) for part in ("dw", "reach", "through")}
        charges = tf_graph.charges(everything, self._variables, everything.outputs[0])
        _add_up(parts, charges, counts)
        forward = sum(counts[node] for node, c in charges.items() if c.part == "forward")
        needed: defaultdict[frozenset[int], float] = defaultdict(float)
        for node, charge in charges.items():
            if charge.part != "forward":
                needed[charge.users] += counts[node]
        return Counts(parts["dw"], parts["reach"], parts["through"], forward, needed)

    def set_penalty(self, coefficient: float) -> None:
        self._coefficient.assign(coefficient)

    def penalty(self) -> float:
        if self._penalty == "l1":
            return sum(float(tf.reduce_sum(tf.abs(v))) for v in self._selected() if _is_kernel(v))
        return channels.penalty(self._groups, self._arrays())

    def state(self) -> State:
        found = {name: v.numpy() for name, v in self._changing(self._slotted).items()}
        return self._with_kept(found)

    def load_state(self, state: State) -> None:
        state = self._cut_to(state)
        slots = [int(name.rsplit("/", 1)[1]) for name in state if name.startswith("slot/")]
        if any(i >= len(self.tensors) for i in slots):
            raise ValueError("the state belongs to a network with more tensors")
        slotted = np.isin(np.arange(len(self.tensors)), slots)
        self._make_slots(slotted)
        mine = self._changing(slotted)
        if set(mine) != set(state):
            raise ValueError(f"names differ: {sorted(set(mine) ^ set(state))[:5]}")
        for name, variable in mine.items():
            if state[name].shape != tuple(variable.shape) or state[name].dtype != variable.dtype:
                raise ValueError(f"{name} is {state[name].dtype}{state[name].shape}")
        for variable in self._optimiser.weights:
            variable.assign(tf.zeros_like(variable))  # what the state has no slots for was unused
        for name, variable in mine.items():
            variable.assign(state[name])
        self._slotted = slotted | self._mask

    def versions(self) -> dict[str, str]:
        return machine.versions("tensorflow", "tensorflow-addons", "keras", "numpy")

    # The computations that are compiled. All take (images, labels, step).

    def _training(self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> Any:
        chosen = self._selected()
        gradients, result = self._gradients(chosen, images, labels, step)
        if self._penalty == "l1":
            gradients = [
                g + self._coefficient * tf.sign(v) if _is_kernel(v) else g
                for g, v in zip(gradients, chosen, strict=True)
            ]
        amount = self._shrinkage() if self._groups else None
        self._update(gradients, chosen)
        if amount is not None:
            everything = tf_prune.weights_of(self._network, self._head)
            tf_prune.shrink(self._groups, everything, amount, {_name(v) for v in chosen})
        return result

    def _full_step(self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> Any:
        self._make_slots(np.ones(len(self.tensors), dtype=bool))
        gradients, result = self._gradients(self._variables, images, labels, step)
        self._update(gradients, self._variables)
        return result

    def _gradients(
        self, chosen: list[tf.Variable], images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(chosen)
            loss, correct = self._loss(images, labels, step)
        return tape.gradient(loss, chosen), (loss, correct)

    def _shrinkage(self) -> tf.Tensor:
        """By how much the norm of every channel falls after the update that comes next."""
        rate = self._optimiser._decayed_lr(tf.float32)
        return self._coefficient * rate / friction(self._settings)

    def _importance(self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> Any:
        before = [tf.identity(v) for v in self._variables]
        with tf.GradientTape() as tape:
            loss, _ = self._loss(images, labels, step)
        gradients = tape.gradient(loss, self._variables)
        self._update(gradients, self._variables)
        by_update = [
            -tf.reduce_sum(g * (v - w))
            for g, v, w in zip(gradients, self._variables, before, strict=True)
        ]
        by_gradient = [tf.reduce_sum(tf.abs(g)) for g in gradients]
        return tf.stack(by_update), tf.stack(by_gradient)

    def _update(self, gradients: list[tf.Tensor], variables: list[tf.Variable]) -> None:
        # Adding up gradients over replicas would keep every graph for good: it registers a
        # gradient of its own in a table of the process. There is one replica.
        self._optimiser.apply_gradients(
            zip(gradients, variables, strict=True), experimental_aggregate_gradients=False
        )

    def _loss(self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> Any:
        x = self._augment(tf.cast(images, tf.float32), step)
        features = self._network(self._recipe.preprocess(x), training=False)
        if self._dropout:
            features = tf.nn.experimental.stateless_dropout(
                features, self._dropout, self._random(step, 2), rng_alg="philox"
            )
        logits = self._head(features)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tf.reduce_mean(loss), tf.reduce_sum(_right(logits, labels))

    def _evaluation(self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> Any:
        x = self._recipe.preprocess(tf.cast(images, tf.float32))
        logits = self._head(self._network(x, training=False))
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return loss, _right(logits, labels)

    def _augment(self, images: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Random mirror and rotation; with neither, the images as they are."""
        shape = (self._batch, 1, 1, 1)
        if self._augmentation["flip"]:
            chance = tf.random.stateless_uniform(shape, self._random(step, 0))
            images = tf.where(chance < 0.5, tf.reverse(images, [2]), images)
        if turn := self._augmentation["rotation"]:
            angles = (
                2
                * np.pi
                * tf.random.stateless_uniform((self._batch,), self._random(step, 1), -turn, turn)
            )
            images = tf.raw_ops.ImageProjectiveTransformV3(
                images=images,
                transforms=_rotations(angles, self._size),
                output_shape=[self._size, self._size],
                fill_value=0.0,
                interpolation="BILINEAR",
                fill_mode="REFLECT",
            )
        return images

    def _random(self, step: tf.Tensor, use: int) -> tf.Tensor:
        """A seed of its own for each use of randomness in each step."""
        return tf.stack([tf.constant(self._seed * 8 + use, tf.int64), step])

    # What is compiled and what changes.

    def _compile_network(self) -> None:
        """Everything that is made from the network and the prediction layer as they are."""
        self._forward = self._compile(self._loss, self._batch)
        self._variables = self._order()
        head = {v.ref() for v in self._head.trainable_variables}
        self.tensors = [_tensor(v, v.ref() in head) for v in self._variables]
        self._evaluate = self._compile(self._evaluation, self._test_batch)
        self._step = self._probe = None

    def _keep(self, kept: channels.Kept) -> None:
        arrays = channels.cut(self._groups, kept, self._arrays())
        slots = {
            slot: channels.cut(self._groups, kept, self._slot_arrays(slot))
            for slot in self._optimiser.get_slot_names()
        }
        done = self._optimiser.iterations.numpy()
        self._network = tf_prune.rebuild(self._network, arrays)
        features, classes = arrays["head/kernel"].shape
        self._head = _prediction_layer(features, classes, self._seed)
        self._head.set_weights([arrays["head/kernel"], arrays["head/bias"]])
        self._kept = {name: old[kept[name]] for name, old in self._kept.items()}
        self._optimiser = optimiser(self._settings, self._steps)
        self._compile_network()
        self._make_slots(self._slotted)
        for slot, values in slots.items():
            for i in np.flatnonzero(self._slotted):
                variable = self._variables[i]
                self._optimiser.get_slot(variable, slot).assign(values[_name(variable)])
        self._optimiser.iterations.assign(done)
        gc.collect()  # of the larger network, whose graphs hold cycles

    def _arrays(self) -> dict[str, NDArray[Any]]:
        everything = tf_prune.weights_of(self._network, self._head)
        return {name: v.numpy() for name, v in everything.items()}

    def _slot_arrays(self, slot: str) -> dict[str, NDArray[Any]]:
        """What the optimiser keeps in one slot for each tensor that was ever selected."""
        slotted = [self._variables[i] for i in np.flatnonzero(self._slotted)]
        return {_name(v): self._optimiser.get_slot(v, slot).numpy() for v in slotted}

    def _selected(self) -> list[tf.Variable]:
        return [v for v, m in zip(self._variables, self._mask, strict=True) if m]

    def _compile(self, body: Callable[..., Any], batch: int) -> Any:
        return tf.function(body, autograph=False).get_concrete_function(
            tf.TensorSpec((batch, self._size, self._size, 3), tf.uint8),
            tf.TensorSpec((batch,), tf.int64),
            tf.TensorSpec((), tf.int64),
        )

    def _selected_step(self) -> Any:
        if self._step is None:
            self._step = self._compile(self._training, self._batch)
        return self._step

    def _runs(self, images: Images, labels: Labels) -> list[Callable[[], object]]:
        """A step under the selection and a forward pass, each until its result is there."""
        step, inputs = self._selected_step(), _inputs(images, labels, 0)
        return [lambda: step(*inputs)[0].numpy(), lambda: self._forward(*inputs)[0].numpy()]

    def _order(self) -> list[tf.Variable]:
        variables = self._network.trainable_variables + self._head.trainable_variables
        return tf_graph.order_of_use(self._forward, variables)

    def _split(
        self, full: Any, seconds: dict[str, float], forward: Any, bare: dict[str, float]
    ) -> tuple[Floats, Floats, Floats]:
        """Seconds per tensor: own gradient and update, on the way to it, through it."""
        n = len(self.tensors)
        parts = {part: np.zeros(n) for part in ("dw", "reach", "through", "forward")}
        _add_up(parts, tf_graph.charges(full, self._variables, full.outputs[0]), seconds)
        frozen = {"forward": np.zeros(n)}
        _add_up(frozen, tf_graph.charges(forward, self._variables, forward.outputs[0]), bare)
        # Training a layer makes its forward pass dearer too: fused kernels come apart, since
        # results in between must be kept. That is paid from the deepest selected tensor on.
        dearer = np.maximum(parts["forward"] - frozen["forward"], 0.0)
        excess = max(0.0, parts["forward"].sum() - frozen["forward"].sum())
        if dearer.any():
            parts["reach"] += dearer * (excess / dearer.sum())
        return parts["dw"], parts["reach"], parts["through"]

    def _make_slots(self, mask: Mask) -> None:
        chosen = [v for v, m in zip(self._variables, mask, strict=True) if m]
        self._optimiser._create_all_weights(chosen)

    def _changing(self, slotted: Mask) -> dict[str, tf.Variable]:
        """What training changes, by name; slots of those tensors that were ever selected."""
        found = {f"tensor/{i}": v for i, v in enumerate(self._variables)}
        for slot in self._optimiser.get_slot_names():
            for i in np.flatnonzero(slotted):
                variable = self._variables[i]
                found[f"slot/{slot}/{i}"] = self._optimiser.get_slot(variable, slot)
        found["iterations"] = self._optimiser.iterations
        return found

    @contextmanager
    def _untouched(self) -> Iterator[None]:
        """Whatever happens inside, weights, optimiser and counters are as before."""
        changing = (*self._variables, *self._optimiser.weights)
        before = [(v, tf.identity(v)) for v in changing]
        try:
            yield
        finally:
            for variable, value in before:
                variable.assign(value)


def _inputs(images: Images, labels: Labels, step: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    return tf.constant(images), tf.constant(labels), tf.constant(step, tf.int64)


def _right(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.equal(tf.argmax(logits, axis=-1), labels), tf.int32)


def _rotations(angles: tf.Tensor, size: int) -> tf.Tensor:
    """Projective transforms (batch, 8) that rotate about the centre of the image."""
    cos, sin, centre = tf.cos(angles), tf.sin(angles), (size - 1) / 2
    zero = tf.zeros_like(angles)
    x = centre - (cos * centre - sin * centre)
    y = centre - (sin * centre + cos * centre)
    return tf.stack([cos, -sin, x, sin, cos, y, zero, zero], axis=1)


def _add_up(
    parts: dict[str, NDArray[np.float64]],
    charges: dict[str, tf_graph.Charge],
    seconds: dict[str, float],
) -> None:
    for node, time_taken in seconds.items():
        charge = charges.get(node)
        if charge and charge.tensor >= 0 and charge.part in parts:
            parts[charge.part][charge.tensor] += time_taken


def _prediction_layer(features: int, classes: int, seed: int) -> tf.keras.layers.Dense:
    head = tf.keras.layers.Dense(
        classes, kernel_initializer=tf.keras.initializers.GlorotUniform(seed), name="head"
    )
    with tf.name_scope(head.name):
        head.build((None, features))
    return head


def _name(variable: tf.Variable) -> str:
    name: str = variable.name.split(":")[0]
    return name


def _is_kernel(variable: tf.Variable) -> bool:
    return keras_zoo.kind(variable) == "kernel"


def _tensor(variable: tf.Variable, head: bool) -> Tensor:
    name = _name(variable)
    layer, _, _ = name.rpartition("/")
    return Tensor(name, tuple(variable.shape), keras_zoo.kind(variable), head, layer or name)
