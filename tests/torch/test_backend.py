"""The PyTorch backend against formulas in NumPy, gradients in double precision, and itself
resumed."""

import gc
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from core.elastic.backend import State
from core.elastic.schemes import Metric
from core.elastic.timing import Timing
from core.elastic.torch_backend import TorchBackend, _rotated
from core.training.order import epoch_order, probe_batch
from tests.torch.networks import (
    BATCH,
    CLASSES,
    DECAY,
    MOMENTUM,
    NAMES,
    RANDOM,
    RATE,
    SIZE,
    STEPS,
    Small,
    batch_of,
    differing,
    everything,
    make,
    selecting,
    train,
)


@pytest.fixture
def backend() -> TorchBackend:
    """The small network, all tensors selected."""
    backend = make()
    backend.select(everything(backend))
    return backend


@pytest.fixture
def partly_trained(backend: TorchBackend) -> TorchBackend:
    """After two steps of some tensors: momentum is not zero, and not every tensor has one."""
    backend.select(selecting(backend, 0, 2, 7, -1))
    train(backend, range(2))
    return backend


class Reference:
    """The same network and loss in double precision; nothing of the backend but its values."""

    def __init__(self, backend: TorchBackend, state: State) -> None:
        self._network, self._head = Small().double().eval(), torch.nn.Linear(6, CLASSES).double()
        self._network.load_state_dict(backend._network.state_dict())  # statistics of batches
        found = dict(self._network.named_parameters())
        found |= {"head.weight": self._head.weight, "head.bias": self._head.bias}
        self._parameters = [found[t.name] for t in backend.tensors]
        with torch.no_grad():
            for i, parameter in enumerate(self._parameters):
                parameter.copy_(torch.from_numpy(state[f"tensor/{i}"]))

    def logits(self, images: NDArray[np.uint8]) -> torch.Tensor:
        pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float64))
        return self._head(self._network(pixels / 128 - 1))

    def losses(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> torch.Tensor:
        logits = self.logits(images)
        return torch.logsumexp(logits, 1) - logits[torch.arange(len(labels)), labels]

    def gradients(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> list[NDArray]:
        self.losses(images, labels).mean().backward()
        return [p.grad.numpy() for p in self._parameters if p.grad is not None]


def sgdw_update(weights: NDArray, gradient: NDArray, momentum: NDArray, step: int) -> NDArray:
    """Loshchilov and Hutter 2019: decay beside the gradient, both under the cosine schedule."""
    rate = RATE * 0.5 * (1 + np.cos(np.pi * step / STEPS))
    return MOMENTUM * momentum - rate * gradient - rate * DECAY * weights


def test_tensors_are_told_from_the_input_to_the_output(backend: TorchBackend) -> None:
    assert [t.name for t in backend.tensors] == NAMES
    assert [t.head for t in backend.tensors] == [n.startswith("head.") for n in NAMES]
    kinds = ["kernel", "bias", "norm", "norm", "kernel", "norm", "norm", "kernel", "kernel", "bias"]
    assert [t.kind for t in backend.tensors] == kinds
    assert [t.layer for t in backend.tensors] == [n.rpartition(".")[0] for n in NAMES]
    assert backend.tensors[0].shape == (4, 3, 3, 3)
    assert backend.tensors[-2].shape == (CLASSES, 6)


# Importance.


def traces(backend: TorchBackend) -> list[Any]:
    """What a probe might leave behind, beside the state."""
    return [
        random.getstate(),
        np.random.get_state()[1].tobytes(),
        torch.get_rng_state().tolist(),
        backend._mask.tolist(),
        [(p.requires_grad, p.grad) for p in backend._parameters],
        torch.is_grad_enabled(),
    ]


@pytest.mark.parametrize("metric", ["update", "gradient", "weight"])
@pytest.mark.parametrize("optimiser", ["sgdw", "adam"])
def test_a_probe_leaves_no_trace(metric: Metric, optimiser: str) -> None:
    backend = make(optimiser=optimiser, **RANDOM)
    backend.select(selecting(backend, 0, 2, 7, -1))
    train(backend, range(2))
    before, beside = backend.state(), traces(backend)
    importance = backend.probe(*batch_of(9), 2, metric)
    assert importance.shape == (len(backend.tensors),)
    assert differing(before, backend.state()) == set()
    assert traces(backend) == beside
    assert importance.tobytes() == backend.probe(*batch_of(9), 2, metric).tobytes()
    with_probe = train(backend, range(2, 4))
    after = backend.state()
    backend.load_state(before)
    assert train(backend, range(2, 4)) == with_probe
    assert differing(after, backend.state()) == set()


def test_a_probe_that_fails_leaves_no_trace_either(partly_trained: TorchBackend) -> None:
    before, beside = partly_trained.state(), traces(partly_trained)
    images, labels = batch_of(9)
    with pytest.raises(IndexError):
        partly_trained.probe(images, labels + CLASSES, 2)
    assert differing(before, partly_trained.state()) == set()
    assert traces(partly_trained) == beside


def test_importance_is_what_one_step_of_the_optimiser_gains(partly_trained: TorchBackend) -> None:
    state, batch = partly_trained.state(), batch_of(9)
    gradients = Reference(partly_trained, state).gradients(*batch)
    expected = []
    for i, gradient in enumerate(gradients):
        weights = state[f"tensor/{i}"].astype(np.float64)
        momentum = state.get(f"slot/momentum/{i}", np.zeros_like(weights))
        expected.append(-np.sum(gradient * sgdw_update(weights, gradient, momentum, step=2)))
    importance = partly_trained.probe(*batch, 2)
    assert importance == pytest.approx(np.array(expected), rel=2e-3, abs=1e-6 * max(expected))
    assert np.abs(expected).min() > 1e-6 * max(expected)  # not noise


def test_the_other_importances_are_the_sizes_of_gradients_and_of_weights(
    partly_trained: TorchBackend,
) -> None:
    state, batch = partly_trained.state(), batch_of(9)
    gradients = Reference(partly_trained, state).gradients(*batch)
    found = partly_trained.probe(*batch, 2, "gradient")
    assert found == pytest.approx(np.array([np.abs(g).sum() for g in gradients]), rel=1e-4)
    weights = [np.abs(state[f"tensor/{i}"].astype(np.float64)).sum() for i in range(len(gradients))]
    assert partly_trained.probe(*batch, 2, "weight") == pytest.approx(np.array(weights), rel=1e-6)


# Steps.


def test_a_step_changes_the_selected_tensors_and_no_others(backend: TorchBackend) -> None:
    for selected in ((-2, -1), (0, 4, 7, -2), (5, 6), (0,)):
        mask = selecting(backend, *selected)
        backend.select(mask)
        before = backend.state()
        train(backend, range(1))
        changed = {f"tensor/{i}" for i in np.flatnonzero(mask)}
        slots = {f"slot/momentum/{i}" for i in np.flatnonzero(mask)}
        assert differing(before, backend.state()) == changed | slots | {"iterations"}
        assert [p.requires_grad for p in backend._parameters] == mask.tolist()
        assert all(p.grad is None for p in backend._parameters)


def test_tensors_have_slots_from_their_first_selection_on_and_keep_them() -> None:
    backend = make()
    assert not any(k.startswith("slot/") for k in backend.state())
    backend.select(selecting(backend, 4))
    train(backend, range(2))
    momentum = backend.state()["slot/momentum/4"]
    assert momentum.any()
    backend.select(selecting(backend, -1))
    train(backend, range(2, 4))
    state = backend.state()
    assert {k for k in state if k.startswith("slot/")} == {"slot/momentum/4", "slot/momentum/9"}
    assert state["slot/momentum/4"].tobytes() == momentum.tobytes()


def test_the_mask_that_was_selected_may_be_changed_afterwards() -> None:
    backend = make()
    mask = selecting(backend, -1)
    backend.select(mask)
    mask[:] = True
    before = backend.state()
    train(backend, range(1))
    assert differing(before, backend.state()) == {"tensor/9", "slot/momentum/9", "iterations"}


def test_a_step_is_that_of_sgd_with_momentum_and_decoupled_decay(
    partly_trained: TorchBackend,
) -> None:
    backend, before = partly_trained, partly_trained.state()
    gradients = Reference(backend, before).gradients(*batch_of(2))
    train(backend, range(2, 3))
    after = backend.state()
    assert after["iterations"] == 3
    for i in np.flatnonzero(selecting(backend, 0, 2, 7, -1)):
        weights, momentum = (
            before[f"{k}/{i}"].astype(np.float64) for k in ("tensor", "slot/momentum")
        )
        update = sgdw_update(weights, gradients[i], momentum, step=2)
        # To the rounding of a single-precision weight, and that of the gradient.
        error = np.abs(after[f"tensor/{i}"] - (weights + update)).max()
        assert error < 2e-7 * np.abs(weights).max() + 1e-4 * np.abs(update).max()


def test_a_step_reports_the_mean_loss_and_the_right_answers(backend: TorchBackend) -> None:
    images, labels = batch_of(0, images=40)
    reference = Reference(backend, backend.state())
    loss, correct = backend.train_step(images, labels, 0)
    assert loss == pytest.approx(reference.losses(images, labels).mean().item(), rel=1e-5)
    assert correct == (reference.logits(images).argmax(1).numpy() == labels).sum() > 0


def test_steps_repeat_for_the_same_seed_and_number_and_differ_for_others() -> None:
    backend = make(**RANDOM)
    backend.select(everything(backend))
    first, batch = backend.state(), batch_of(0)

    def step(number: int) -> tuple[float, int]:
        backend.load_state(first)
        return backend.train_step(*batch, number)

    losses = [step(number)[0] for number in range(6)]
    assert len(set(losses)) == len(losses)
    torch.rand(3)
    np.random.default_rng().random(3)
    assert [step(number)[0] for number in (5, 3, 4, 0, 1, 2)] == [
        losses[i] for i in (5, 3, 4, 0, 1, 2)
    ]
    twin, other = make(**RANDOM), make(seed=8, **RANDOM)
    for same, again in ((True, twin), (False, other)):
        again.select(everything(again))
        assert (differing(first, again.state()) == set()) == same
        again.load_state(first)
        assert (again.train_step(*batch, 0)[0] == losses[0]) == same


def test_no_two_uses_of_randomness_in_a_run_draw_the_same() -> None:
    backend = make(seed=3)
    steps = {
        (use, step): tuple(backend._random(step, use).permutation(30))
        for use in range(3)
        for step in range(30)
    }
    orders = {("order", epoch): tuple(epoch_order(3, epoch, 30)) for epoch in range(30)}
    probes = {
        ("probe", epoch, number): tuple(probe_batch(3, epoch, 30, 30, number))
        for epoch in range(30)
        for number in range(3)
    }
    found = [*steps.values(), *orders.values(), *probes.values()]
    assert len(set(found)) == len(found)


def test_dropout_leaves_out_its_share_of_features_and_scales_the_rest() -> None:
    backend = make(dropout=0.3)
    backend._head.weight.data.fill_(1)
    backend._head.bias.data.zero_()
    images, labels = batch_of(0, images=200)
    seen: list[torch.Tensor] = []
    handle = backend._head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    backend.train_step(images, labels, 4)
    backend.evaluate(images, labels)
    handle.remove()
    dropped, whole = (x.detach().numpy() for x in seen)
    kept = dropped != 0
    assert 0.65 < kept.mean() < 0.75
    assert dropped[kept] == pytest.approx(whole[kept] / 0.7, rel=1e-5)


# Evaluation.


def test_a_part_of_a_batch_counts_like_its_images_one_by_one(backend: TorchBackend) -> None:
    images, labels = batch_of(5, images=5)
    before = backend.state()
    loss, correct = backend.evaluate(images, labels)
    single = [backend.evaluate(images[i : i + 1], labels[i : i + 1]) for i in range(5)]
    assert loss == pytest.approx(sum(s[0] for s in single), rel=1e-5)
    assert correct == sum(s[1] for s in single)
    reference = Reference(backend, before)
    assert loss == pytest.approx(reference.losses(images, labels).sum().item(), rel=1e-5)
    assert correct == (reference.logits(images).argmax(1).numpy() == labels).sum()
    assert differing(before, backend.state()) == set()


def test_evaluation_is_without_augmentation_and_dropout() -> None:
    still, moving = make(), make(**RANDOM)
    batch = batch_of(1)
    assert moving.evaluate(*batch) == still.evaluate(*batch)


@pytest.mark.parametrize("model", ["small", "transformer"])
def test_what_the_network_computes_does_not_depend_on_the_selection(model: str) -> None:
    backend = make(model)
    batch = batch_of(1)
    first = backend.state()
    tested = backend.evaluate(*batch)[0] / BATCH
    for selected in ((), (0,), (5,), (-1,), range(len(backend.tensors))):
        backend.select(selecting(backend, *selected))
        backend.load_state(first)
        assert backend.train_step(*batch, 0)[0] == pytest.approx(tested, rel=1e-6)


# State.


def test_a_state_put_back_continues_with_the_same_bits(partly_trained: TorchBackend) -> None:
    backend, middle = partly_trained, partly_trained.state()
    losses = train(backend, range(2, 5))
    end = backend.state()
    backend.load_state(middle)
    assert differing(middle, backend.state()) == set()
    assert train(backend, range(2, 5)) == losses
    assert differing(end, backend.state()) == set()


def test_a_state_does_not_follow_later_steps(partly_trained: TorchBackend) -> None:
    kept = partly_trained.state()
    copies = {k: v.copy() for k, v in kept.items()}
    train(partly_trained, range(2, 4))
    assert differing(kept, copies) == set()


def test_a_state_that_was_put_in_does_not_follow_later_steps(backend: TorchBackend) -> None:
    kept = backend.state()
    copies = {k: v.copy() for k, v in kept.items()}
    backend.load_state(kept)
    train(backend, range(2))
    assert differing(kept, copies) == set()


SCRIPT = """
import sys
import numpy as np
from core.models import torch_zoo
from tests.torch import networks as here
torch_zoo.NETWORKS |= here.NETWORKS
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
    mask = selecting(backend, 0, 4, 7, -2, -1)
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
        (without("slot/momentum/9"), None),  # as if it had never been selected
        (with_array("tensor/99", np.zeros(4, np.float32)), r"names differ: \['tensor/99'\]"),
        (with_array("slot/velocity/9", np.zeros(5, np.float32)), "names differ"),
        (with_array("slot/momentum/99", np.zeros(4, np.float32)), "network with more tensors"),
        (with_array("slot/momentum/-1", np.zeros(5, np.float32)), "network with more tensors"),
        (with_array("tensor/9", np.zeros(6, np.float32)), r"tensor/9 is float32\(6,\)"),
        (with_array("tensor/9", np.zeros(5, np.float64)), r"tensor/9 is float64\(5,\)"),
        (with_array("iterations", np.array(1.5)), r"iterations is float64\(\)"),
        (with_array("iterations", np.array([1])), r"iterations is int64\(1,\)"),
        (lambda state: {}, "names differ"),
    ],
)
def test_a_state_of_another_network_is_refused_and_changes_nothing(
    damage: Callable[[State], State], text: str | None
) -> None:
    backend = make()
    backend.select(selecting(backend, -2, -1))
    train(backend, range(2))
    good = backend.state()
    train(backend, range(2, 3))
    now = backend.state()
    if text is None:
        backend.load_state(damage(good))
        assert not backend.state()["slot/momentum/9"].any()
        return
    with pytest.raises(ValueError, match=text):
        backend.load_state(damage(good))
    assert differing(now, backend.state()) == set()
    last = train(backend, range(3, 4))
    backend.load_state(now)
    assert train(backend, range(3, 4)) == last


# Augmentation.


def augmented(backend: TorchBackend, images: NDArray[np.float32], step: int) -> NDArray:
    found = backend._augment(torch.from_numpy(images).permute(0, 3, 1, 2), step)
    return found.permute(0, 2, 3, 1).numpy()


def picture(size: int = SIZE) -> NDArray[np.float32]:
    """A smooth picture without any symmetry, so that interpolation errors are small."""
    y, x = np.mgrid[:size, :size] / size
    planes = [128 + 90 * np.sin(3 * x + 2 * y + c) * np.cos(4 * y - x) for c in range(3)]
    return np.stack(planes, axis=-1).astype(np.float32)


def turned(image: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    """The picture turned anticlockwise by Pillow, with its reflections around it."""
    size = len(image)
    around = np.pad(image, ((size, size), (size, size), (0, 0)), mode="symmetric")
    planes = [
        Image.fromarray(around[..., c]).rotate(degrees, Image.Resampling.BILINEAR) for c in range(3)
    ]
    return np.stack([np.asarray(p)[size:-size, size:-size] for p in planes], axis=-1)


def rotated(degrees: float, size: int) -> NDArray[np.float32]:
    image = torch.from_numpy(picture(size)).permute(2, 0, 1)[None]
    return _rotated(image, np.deg2rad([degrees]))[0].permute(1, 2, 0).numpy()


def test_images_are_left_alone_without_augmentation() -> None:
    images = np.stack([picture()] * BATCH)
    assert augmented(make(), images, 3).tobytes() == images.tobytes()


def test_half_of_the_images_are_mirrored() -> None:
    backend = make(augmentation={"flip": True, "rotation": 0.0})
    images = np.stack([picture()] * BATCH)
    mirrored = 0
    for step in range(50):
        for image in augmented(backend, images, step):
            is_mirror = np.array_equal(image, picture()[:, ::-1])
            assert is_mirror or np.array_equal(image, picture())
            mirrored += is_mirror
    assert 70 < mirrored < 130  # of 200, more than four standard deviations


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("quarters", [-1, 0, 1, 2])
def test_quarter_turns_move_every_pixel_to_its_place(quarters: int, size: int) -> None:
    expected = np.rot90(picture(size), quarters)
    assert rotated(90 * quarters, size) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("degrees", [-70, -10, 25, 135])
def test_other_turns_are_those_of_pillow_reflected_at_the_border(degrees: float) -> None:
    assert np.abs(rotated(degrees, 32) - turned(picture(32), degrees)).max() < 0.5


def test_images_are_turned_each_by_an_angle_within_the_limit() -> None:
    limit = 0.2  # of a full turn
    backend = make(augmentation={"flip": False, "rotation": limit})
    images = np.stack([picture()] * BATCH)
    angles = np.arange(-180, 180)
    known = np.stack([turned(picture(), a) for a in angles])
    found = []
    for step in range(10):
        for image in augmented(backend, images, step):
            errors = np.abs(known - image).mean(axis=(1, 2, 3))
            assert errors.min() < 1.5
            found.append(angles[errors.argmin()])
    assert np.abs(found).max() <= 360 * limit + 1
    assert min(found) < -180 * limit
    assert max(found) > 180 * limit
    assert len(set(found)) > 20


# Memory and time.


def tensors_alive() -> int:
    gc.collect()
    return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())


def test_no_graph_and_no_tensor_is_left_behind_by_steps() -> None:
    backend = make(**RANDOM)
    backend.select(everything(backend))
    train(backend, range(2))
    before = tensors_alive()
    draw = np.random.default_rng(0)
    for step in range(50):
        backend.select(draw.random(len(backend.tensors)) < 0.5)
        train(backend, range(step, step + 1))
        backend.evaluate(*batch_of(step))
        if step % 10 == 0:
            backend.probe(*batch_of(step), step)
            backend.time_parts(*batch_of(step), 1)
            backend.count_parts()
    assert tensors_alive() == before


@pytest.mark.parametrize("model", ["small", "transformer"])
def test_the_parts_of_a_step_make_a_profile(model: str) -> None:
    backend = make(model)
    backend.select(selecting(backend, -2, -1))
    train(backend, range(2))
    before = backend.state()
    parts = backend.time_parts(*batch_of(0), 3)
    seconds = np.stack([parts.t_dw, parts.t_reach, parts.t_through])
    n = len(backend.tensors)
    assert seconds.shape == (3, n)
    assert np.isfinite(seconds).all()
    assert (seconds >= 0).all()
    assert parts.forward > 0
    assert parts.t_through[0] == 0  # the images need no error
    assert parts.t_reach[n - 1] > 0  # the loss
    assert backend._mask.all()
    after = {k: v for k, v in backend.state().items() if k in before}
    assert differing(before, after) == set()
    zero = [v for k, v in backend.state().items() if k not in before]
    assert not any(v.any() for v in zero)  # momentum of tensors that were not trained
    if parts.full > parts.forward:  # a busy machine may have taken longer for the forward pass
        timing = Timing.from_parts(backend.tensors, parts, {})
        assert timing.predict(everything(backend)) == pytest.approx(timing.full)


def test_timing_takes_as_many_steps_as_asked_and_leaves_no_trace(
    partly_trained: TorchBackend,
) -> None:
    before, beside = partly_trained.state(), traces(partly_trained)
    for found in partly_trained.time_step(*batch_of(0), 4):
        assert len(found) == 4
        assert min(found) > 0
    assert differing(before, partly_trained.state()) == set()
    assert traces(partly_trained) == beside


def test_a_backend_computes_with_the_threads_it_is_given_and_repeats_itself() -> None:
    make(threads=1)
    assert torch.get_num_threads() == 1
    make(threads=2)
    assert torch.get_num_threads() == 2
    assert torch.are_deterministic_algorithms_enabled()


def test_versions_name_what_computed(backend: TorchBackend) -> None:
    assert backend.versions()["torch"] == torch.__version__
    assert "torchvision" in backend.versions()
