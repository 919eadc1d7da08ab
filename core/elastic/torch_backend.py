"""ElasticTrainer's backend in PyTorch. Autograd leaves out what no selected tensor needs."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor as Array
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from core import machine
from core.elastic import channels, torch_counting, torch_graph, torch_prune
from core.elastic.backend import Images, Labels, State
from core.elastic.measuring import WARM_UP, in_turns, parts_of, wall_clock
from core.elastic.pruning import Prunable, friction
from core.elastic.schemes import Metric, Penalty
from core.elastic.selector import Floats, Mask
from core.elastic.timing import Counts, Parts, Tensor
from core.elastic.torch_optimisers import optimiser
from core.models import torch_zoo


class TorchBackend(Prunable):
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
        torch.set_num_threads(threads["intra_op"])
        torch.use_deterministic_algorithms(True)
        # Nothing here reads memory before it is written, and filling it first takes time.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        # The fused attention is taken where nothing needs a gradient: what the network computes
        # would differ, in the last bits, with the selection and in evaluation.
        torch.backends.mha.set_fastpath_enabled(False)
        torch.manual_seed(seed)
        self._place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        weights = Path(model["weights"]) if model["weights"] else None
        network, self._recipe = torch_zoo.build(model["name"], training["image_size"], weights)
        self._head = _prediction_layer(self._recipe.features, classes)
        # Convolutions are faster on images whose channels lie together, as the data has them.
        self._network = network.to(self._place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._head.to(self._place)
        self._penalty, self._coefficient = penalty, 0.0
        lasso = penalty == "group_lasso"
        self._groups = torch_prune.groups(self._network, self._head) if lasso else ()
        self._kept = channels.everything(self._groups)
        self._augmentation, self._dropout = training["augmentation"], training["dropout"]
        self._size, self._seed = training["image_size"], seed
        self._batch = training["batch"]
        self._parameters = self._order()
        self.tensors = self._describe()
        self._settings = training["optimiser"]
        self._optimiser = optimiser(self._settings, steps)
        self._done = 0
        self._slots: dict[str, dict[int, Array]] = {name: {} for name in self._optimiser.slots}
        self.select(np.zeros(len(self.tensors), dtype=bool))

    def select(self, mask: Mask) -> None:
        self._mask = mask.copy()
        for parameter, chosen in zip(self._parameters, mask, strict=True):
            parameter.requires_grad_(bool(chosen))
        self._make_slots(np.flatnonzero(mask).tolist())

    def train_step(self, images: Images, labels: Labels, step: int) -> tuple[float, int]:
        loss, correct = self._loss(images, labels, step)
        chosen = np.flatnonzero(self._mask).tolist()
        if chosen:
            gradients = self._gradients(loss, chosen)
            if self._penalty == "l1":
                for i, gradient in zip(chosen, gradients, strict=True):
                    if self.tensors[i].kind == "kernel":
                        gradient += self._coefficient * self._parameters[i].detach().sign()
            self._update(chosen, gradients)
            if self._penalty == "group_lasso":
                self._shrink(chosen)
        return float(loss.detach()), int(correct)

    def evaluate(self, images: Images, labels: Labels) -> tuple[float, int]:
        with torch.no_grad():
            logits = self._head(self._network(self._recipe.preprocess(self._pixels(images))))
            truth = torch.from_numpy(labels).to(self._place)
            loss = functional.cross_entropy(logits, truth, reduction="sum")
            return float(loss), int((logits.argmax(1) == truth).sum())

    def probe(self, images: Images, labels: Labels, step: int, metric: Metric = "update") -> Floats:
        if metric == "weight":
            return _numbers(p.detach().abs().sum() for p in self._parameters)
        everything = list(range(len(self._parameters)))
        with self._untouched() as before, self._all_selected():
            gradients = self._gradients(self._loss(images, labels, step)[0], everything)
            if metric == "gradient":
                return _numbers(g.abs().sum() for g in gradients)
            self._update(everything, gradients)
            moved = (p.detach() - before[f"tensor/{i}"] for i, p in enumerate(self._parameters))
            return _numbers(-(g * d).sum() for g, d in zip(gradients, moved, strict=True))

    def time_step(
        self, images: Images, labels: Labels, repeats: int
    ) -> tuple[list[float], list[float]]:
        with self._untouched():
            steps, forwards = in_turns(self._runs(images, labels), repeats, self._stopwatch)
        return steps, forwards

    def time_parts(self, images: Images, labels: Labels, repeats: int) -> Parts:
        self.select(np.ones(len(self.tensors), dtype=bool))
        n = len(self.tensors)
        with self._untouched():
            steps, forwards = in_turns(self._runs(images, labels), repeats, self._stopwatch)
            update = self._update_seconds(images, labels, repeats)
            found = torch_graph.operations(self._loss(images, labels, 0)[0], self._parameters)
            passes = tqdm(range(repeats), "parts", unit="pass", leave=False, disable=None)
            rounds = [torch_graph.charge(found, n, self._stopwatch) for _ in passes]
        dw, reach, through = (
            np.median([getattr(r, part) for r in rounds], axis=0)
            for part in ("dw", "reach", "through")
        )
        return parts_of(steps, forwards, dw + update, reach, through)

    def count_parts(self) -> Counts:
        images = np.zeros((self._batch, self._size, self._size, 3), np.uint8)
        labels = np.zeros(self._batch, np.int64)
        with self._all_selected():
            forward = torch_counting.multiply_adds(lambda: self._loss(images, labels, 0))
            found = torch_graph.operations(self._loss(images, labels, 0)[0], self._parameters)
            parts = torch_graph.charge(found, len(self.tensors), torch_counting.multiply_adds)
        dw, reach, through = (np.array(p) for p in (parts.dw, parts.reach, parts.through))
        return Counts(dw, reach, through, forward, parts.needed)

    def set_penalty(self, coefficient: float) -> None:
        self._coefficient = coefficient

    def penalty(self) -> float:
        if self._penalty == "l1":
            chosen = [i for i in np.flatnonzero(self._mask) if self.tensors[i].kind == "kernel"]
            return sum(float(self._parameters[i].detach().abs().sum()) for i in chosen)
        return channels.penalty(self._groups, self._arrays())

    def state(self) -> State:
        found: State = {name: v.cpu().numpy().copy() for name, v in self._changing().items()}
        found["iterations"] = np.array(self._done, np.int64)
        return self._with_kept(found)

    def load_state(self, state: State) -> None:
        state = self._cut_to(state)
        slotted = {int(name.rsplit("/", 1)[1]) for name in state if name.startswith("slot/")}
        if not slotted <= set(range(len(self.tensors))):
            raise ValueError("the state belongs to a network with more tensors")
        before, self._slots = self._slots, {name: {} for name in self._optimiser.slots}
        self._make_slots(sorted(slotted))
        mine = self._changing()
        try:
            _check_state(state, mine)
        except ValueError:
            self._slots = before
            raise
        for name, value in mine.items():
            value.copy_(torch.from_numpy(state[name]))
        self._done = int(state["iterations"])
        self._make_slots(np.flatnonzero(self._mask).tolist())

    def versions(self) -> dict[str, str]:
        return machine.versions("torch", "torchvision", "numpy")

    # The computations.

    def _loss(self, images: Images, labels: Labels, step: int) -> tuple[Array, Array]:
        pixels = self._augment(self._pixels(images), step)
        features = self._network(self._recipe.preprocess(pixels))
        if self._dropout:
            kept = self._random(step, 2).random(features.shape) >= self._dropout
            mask = torch.from_numpy(kept / (1 - self._dropout)).to(features)
            features = features * mask
        logits = self._head(features)
        truth = torch.from_numpy(labels).to(self._place)
        return functional.cross_entropy(logits, truth), (logits.argmax(1) == truth).sum()

    def _gradients(self, loss: Array, chosen: list[int]) -> list[Array]:
        return list(torch.autograd.grad(loss, [self._parameters[i] for i in chosen]))

    @torch.no_grad()
    def _update(self, chosen: list[int], gradients: list[Array]) -> None:
        weights: list[Array] = [self._parameters[i] for i in chosen]
        slots = {name: [by[i] for i in chosen] for name, by in self._slots.items()}
        self._optimiser.update(weights, gradients, slots, self._done)
        self._done += 1

    def _shrink(self, chosen: list[int]) -> None:
        """The proximal step of the group lasso, after an update."""
        rate = self._optimiser.rate(self._done - 1)
        amount = self._coefficient * rate / friction(self._settings)
        weights = torch_prune.weights_of(self._network, self._head)
        torch_prune.shrink(self._groups, weights, amount, {self.tensors[i].name for i in chosen})

    def _pixels(self, images: Images) -> Array:
        """(batch, 3, height, width), 0 to 255; the channels of a pixel stay together in memory."""
        return torch.from_numpy(images).to(self._place).permute(0, 3, 1, 2).float()

    def _augment(self, pixels: Array, step: int) -> Array:
        """Random mirror and rotation; with neither, the images as they are."""
        batch = len(pixels)
        if self._augmentation["flip"]:
            flipped = torch.from_numpy(self._random(step, 0).random(batch) < 0.5).to(self._place)
            pixels = torch.where(flipped[:, None, None, None], pixels.flip(3), pixels)
        if turn := self._augmentation["rotation"]:
            angles = self._random(step, 1).uniform(-turn, turn, batch)
            pixels = _rotated(pixels, 2 * math.pi * angles)
        return pixels

    def _random(self, step: int, use: int) -> np.random.Generator:
        """Randomness of its own for each use in each step."""
        return np.random.default_rng([self._seed, 2, use, step])

    # Timing.

    def _runs(self, images: Images, labels: Labels) -> list[Callable[[], object]]:
        """A step under the selection and a forward pass, each until its result is there."""
        return [
            lambda: self.train_step(images, labels, 0),
            lambda: float(self._loss(images, labels, 0)[0].detach()),
        ]

    def _update_seconds(self, images: Images, labels: Labels, repeats: int) -> Floats:
        """Seconds of the update of each tensor: of all together, by their sizes."""
        everything = list(range(len(self._parameters)))
        gradients = self._gradients(self._loss(images, labels, 0)[0], everything)
        taken = [
            self._stopwatch(lambda: self._update(everything, gradients))
            for _ in range(WARM_UP + repeats)
        ]
        sizes = np.array([t.size for t in self.tensors], dtype=np.float64)
        return np.asarray(float(np.median(taken[WARM_UP:])) * sizes / sizes.sum())

    def _stopwatch(self, run: Callable[[], object]) -> float:
        """Seconds until everything that `run` asks for is there."""

        def to_the_end() -> None:
            run()
            self._wait()

        self._wait()
        return wall_clock(to_the_end)

    def _wait(self) -> None:
        if self._place.type == "cuda":
            torch.cuda.synchronize()

    # What there is and what changes.

    def _order(self) -> list[nn.Parameter]:
        images = np.zeros((1, self._size, self._size, 3), np.uint8)
        parameters = [*self._network.parameters(), *self._head.parameters()]

        def forward() -> None:
            self._head(self._network(self._recipe.preprocess(self._pixels(images))))

        return torch_graph.order_of_use(forward, parameters)

    def _describe(self) -> list[Tensor]:
        names = {
            id(parameter): (module, layer, name)
            for root, prefix in ((self._network, ""), (self._head, "head"))
            for layer, module in root.named_modules(prefix=prefix)
            for name, parameter in module.named_parameters(recurse=False)
        }
        found = []
        for parameter in self._parameters:
            module, layer, name = names[id(parameter)]
            kind = torch_zoo.kind(module, name)
            shape = tuple(parameter.shape)
            full = f"{layer}.{name}" if layer else name
            found.append(Tensor(full, shape, kind, module is self._head, layer or name))
        return found

    def _keep(self, kept: channels.Kept) -> None:
        arrays = channels.cut(self._groups, kept, self._arrays())
        torch_prune.narrow(self._network, self._head, arrays)
        self._network.to(self._place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._kept = {name: old[kept[name]] for name, old in self._kept.items()}
        weights = torch_prune.weights_of(self._network, self._head)
        self._parameters = [weights[t.name] for t in self.tensors]
        for slots in self._slots.values():
            values = {self.tensors[i].name: value.cpu().numpy() for i, value in slots.items()}
            smaller = channels.cut(self._groups, kept, values)
            for i in slots:
                slots[i] = torch.zeros_like(self._parameters[i])
                slots[i].copy_(torch.from_numpy(smaller[self.tensors[i].name]))
        self.tensors = self._describe()
        self.select(self._mask)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        weights = torch_prune.weights_of(self._network, self._head)
        return {name: w.detach().cpu().numpy() for name, w in weights.items()}

    def _make_slots(self, chosen: list[int]) -> None:
        for slots in self._slots.values():
            for i in chosen:
                if i not in slots:
                    slots[i] = torch.zeros_like(self._parameters[i])

    def _changing(self) -> dict[str, Array]:
        """What training changes, by name; slots of those tensors that were ever selected."""
        found = {f"tensor/{i}": p.detach() for i, p in enumerate(self._parameters)}
        for name, slots in self._slots.items():
            found |= {f"slot/{name}/{i}": slots[i] for i in sorted(slots)}
        return found

    @contextmanager
    def _all_selected(self) -> Iterator[None]:
        """Every tensor gets a gradient inside, slots included; the selection is as before after."""
        mask, slots = self._mask, {name: dict(by) for name, by in self._slots.items()}
        self.select(np.ones(len(self.tensors), dtype=bool))
        try:
            yield
        finally:
            self._slots = slots
            self.select(mask)

    @contextmanager
    def _untouched(self) -> Iterator[dict[str, Array]]:
        """Whatever happens inside, weights, optimiser and counters are as before; a copy of them,
        by the names of a state, is what it gives."""
        changing, done = self._changing(), self._done
        before = {name: value.clone() for name, value in changing.items()}
        try:
            yield before
        finally:
            for name, value in changing.items():
                value.copy_(before[name])
            self._done = done


def _rotated(pixels: Array, angles: Floats) -> Array:
    """Square images turned by an angle each (radians, anticlockwise); what comes in at the
    border is reflected."""
    cos, sin, zero = np.cos(angles), np.sin(angles), np.zeros(len(angles))
    matrix = np.stack([cos, -sin, zero, sin, cos, zero], axis=1).reshape(-1, 2, 3)
    theta = torch.from_numpy(matrix).to(pixels)
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def _prediction_layer(features: int, classes: int) -> nn.Linear:
    """As Keras starts it: Glorot's uniform weights, no bias."""
    head = nn.Linear(features, classes)
    nn.init.xavier_uniform_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _check_state(state: State, changing: dict[str, Array]) -> None:
    """Raises ValueError where a state does not have exactly these arrays."""
    expected: dict[str, Any] = {name: (tuple(v.shape), "float32") for name, v in changing.items()}
    expected["iterations"] = ((), "int64")
    if expected.keys() != state.keys():
        raise ValueError(f"names differ: {sorted(expected.keys() ^ state.keys())[:5]}")
    for name, wanted in expected.items():
        if (state[name].shape, state[name].dtype) != wanted:
            raise ValueError(f"{name} is {state[name].dtype}{state[name].shape}")


def _numbers(values: Iterator[Array]) -> Floats:
    return np.array([float(v) for v in values], dtype=np.float64)
