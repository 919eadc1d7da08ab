"""PruneTrain in PyTorch: what is cut out computes as if it were zero, in networks small enough
to check by hand and in every convolutional one of the zoo."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.elastic import channels, torch_prune
from core.elastic.backend import State
from core.elastic.schemes import Penalty
from core.elastic.torch_backend import TorchBackend
from core.errors import ConfigError
from core.models import torch_zoo

Arrays = dict[str, NDArray]
CLASSES, SIZE, BATCH, STEPS = 3, 16, 4, 20
RATE, MOMENTUM = 0.05, 0.9
CONVOLUTIONAL = sorted(set(torch_zoo.NETWORKS) - {"vit_b16"})


class Residual(nn.Module):
    """A residual join, a depthwise convolution with a bias, every vector that can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.a_norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.b, self.b_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.d = nn.Conv2d(4, 4, 3, 2, padding=1, groups=4)
        self.c = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.relu, self.shrink = nn.ReLU6(), nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        a = self.relu(self.a_norm(self.a(images)))
        x = self.b_norm(self.relu(self.b(a)))
        x += a
        x = self.relu(self.c(self.d(self.shrink(x))))
        return torch.flatten(nn.functional.adaptive_avg_pool2d(x, (1, 1)), 1)


def _then(*modules: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), *modules)


POOL = (nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Unpooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        return self.pool(self.conv(images)).flatten(1)


SMALL = {
    "residual": (Residual, 6),
    "in_groups": (lambda: _then(nn.Conv2d(6, 6, 1, groups=3), *POOL), 6),
    "group_norm": (lambda: _then(nn.GroupNorm(2, 6), *POOL), 6),
    "twice": (lambda: _then(*[nn.Conv2d(6, 6, 1)] * 2, *POOL), 6),
    "unpooled": (Unpooled, 24),
}


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, (build, features) in SMALL.items():
            network = torch_zoo.Network(
                lambda size, build=build: build(), features, lambda x: x / 255, "none."
            )
            patch.setitem(torch_zoo.NETWORKS, name, network)
        yield


def make(
    penalty: Penalty | None = "group_lasso", model: str = "residual", optimiser: str = "sgdw"
) -> TorchBackend:
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
    one = {"intra_op": 1, "inter_op": 1}
    backend = TorchBackend(
        {"name": model, "weights": None}, training, CLASSES, STEPS, 7, one, penalty
    )
    fill(everything(backend), np.random.default_rng(0))
    backend.select(np.ones(len(backend.tensors), dtype=bool))
    return backend


def everything(backend: TorchBackend) -> dict[str, Any]:
    """Statistics of normalisation too."""
    return torch_prune.weights_of(backend._network, backend._head)


def values(backend: TorchBackend) -> Arrays:
    return {name: w.detach().cpu().numpy().copy() for name, w in everything(backend).items()}


@torch.no_grad()
def fill(weights: dict[str, Any], draw: np.random.Generator) -> None:
    """Weights with which the signal neither fades nor grows; no vector is zero."""
    for name, weight in weights.items():
        if weight.ndim > 1:
            value = draw.normal(0, np.sqrt(2 / np.prod(weight.shape[1:])), weight.shape)
        elif name.endswith(("weight", "var")):
            value = draw.uniform(0.5, 1.5, weight.shape)
        else:
            value = draw.normal(0, 0.2, weight.shape)
        weight.copy_(torch.from_numpy(np.asarray(value)))


def batch_of(number: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    draw = np.random.default_rng(number)
    pixels = draw.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    return pixels, draw.integers(0, CLASSES, BATCH)


def train(backend: TorchBackend, steps: range) -> list[float]:
    return [backend.train_step(*batch_of(step), step)[0] for step in steps]


def at(s: channels.Slice, places: Any) -> Any:
    """Index of these channels in the array of a slice."""
    return (*[slice(None)] * s.axis, places)


@torch.no_grad()
def kill(groups: Any, weights: dict[str, Any], dead: dict[str, list[int]], vectors: bool) -> None:
    """Set the kernels of channels to zero, on all sides, and their vectors too if asked."""
    for group in groups:
        for s in group.slices:
            if s.weighs or vectors:
                weights[s.array][at(s, dead.get(group.name, []))] = 0


def differing(one: State, other: State) -> set[str]:
    same = {k for k in one.keys() & other.keys() if one[k].tobytes() == other[k].tobytes()}
    return (one.keys() | other.keys()) - same


DEAD = {"a": [1, 3], "c": [0, 4, 5]}


@pytest.fixture
def half_dead() -> TorchBackend:
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
        ("a.weight", 0), ("b.weight", 1), ("b.weight", 0), ("d.weight", 0), ("c.weight", 1),
    }  # fmt: skip
    norms = {
        f"{n}_norm.{p}" for n in "ab" for p in ("weight", "bias", "running_mean", "running_var")
    }
    assert {s.array for s in first.slices} - {s.array for s in first.kernels} == (
        norms | {"a.bias", "b.bias", "d.bias"}
    )
    assert {(s.array, s.axis) for s in second.slices} == {("c.weight", 0), ("head.weight", 1)}


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ("in_groups", "1 of the network is of type Conv2d in groups"),
        ("group_norm", "1 of the network is of type GroupNorm"),
        ("twice", "1 of the network is of type Conv2d and used more than once"),
        ("unpooled", "flatten of the network is of type flatten"),
    ],
)
def test_modules_that_are_not_known_are_named_before_training(model: str, what: str) -> None:
    with pytest.raises(ConfigError, match=rf"layer {what}.*say it in core/elastic/torch_prune.py"):
        make(model=model)
    assert train(make("l1", model), range(1))[0] > 0


# The penalty and its proximal step.


def slow_norms(backend: TorchBackend, arrays: Arrays) -> dict[str, list[float]]:
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
    expected = sum(sum(norms) for norms in slow_norms(backend, values(backend)).values())
    assert backend.penalty() == pytest.approx(expected, rel=1e-6)


def shrunk(backend: TorchBackend, arrays: Arrays, amount: float) -> Arrays:
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
    assert train(plain, range(1)) == train(penalised, range(1))  # the loss of the data alone
    expected = shrunk(penalised, values(plain), RATE * scale * 4.0)
    assert any((e == 0).all() for e in expected["c.weight"]) == (optimiser == "sgdw")
    for name, value in values(penalised).items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-5, atol=1e-7, err_msg=name)


def test_a_tensor_that_is_not_selected_does_not_shrink() -> None:
    backend = make()
    backend.select(np.array([t.name != "c.weight" for t in backend.tensors]))
    before = values(backend)
    backend.set_penalty(1.0)
    train(backend, range(1))
    after = values(backend)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {t.name for t in backend.tensors} - {"c.weight"}


def test_l1_adds_its_subgradient_to_kernels_alone() -> None:
    plain, penalised = make(None), make("l1")
    kernels = {t.name for t in plain.tensors if t.kind == "kernel"}
    assert kernels == {"a.weight", "b.weight", "d.weight", "c.weight", "head.weight"}
    before = values(plain)
    assert penalised.penalty() == pytest.approx(sum(np.abs(before[k]).sum() for k in kernels))
    penalised.set_penalty(0.3)
    assert train(plain, range(1)) == train(penalised, range(1))
    after = values(penalised)
    for name, value in values(plain).items():
        expected = value - RATE * 0.3 * np.sign(before[name]) * (name in kernels)
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-6)
    assert penalised.prune(1e9) == 0


def test_under_a_heavy_penalty_channels_die_and_training_goes_on() -> None:
    backend = make()
    backend.set_penalty(1.0)
    before = backend.penalty()
    train(backend, range(4))
    assert backend.penalty() < before / 2
    assert 0 < backend.prune(1e-4) < 8
    assert backend.prune(1e-4) == 0
    assert all(loss > 0 for loss in train(backend, range(4, 8)))


# Cutting.


def test_a_network_without_dead_channels_computes_as_if_they_were_zero(
    half_dead: TorchBackend,
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
        "a.weight": (2, 3, 3, 3), "a.bias": (2,), "a_norm.weight": (2,), "a_norm.bias": (2,),
        "b.weight": (2, 2, 1, 1), "b.bias": (2,), "b_norm.weight": (2,), "b_norm.bias": (2,),
        "d.weight": (2, 1, 3, 3), "d.bias": (2,), "c.weight": (3, 2, 3, 3), "head.weight": (3, 3),
    }  # fmt: skip
    assert "(2, 2, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), groups=2)" in repr(
        backend._network
    )


def test_slots_and_the_count_of_steps_follow(half_dead: TorchBackend) -> None:
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


def test_multiply_adds_fall_to_those_of_the_smaller_network(half_dead: TorchBackend) -> None:
    mask = np.ones(len(half_dead.tensors), dtype=bool)
    assert half_dead.count_parts().forward == multiply_adds(4, 6)
    half_dead.prune(1e-4)
    after = half_dead.count_parts()
    assert after.forward == multiply_adds(2, 3)
    # Each gradient costs as much as the forward pass, but the images need none.
    assert after.of(mask) == 3 * multiply_adds(2, 3) - BATCH * 2 * 27 * 16**2
    before = half_dead.state()
    steps, _ = half_dead.time_step(*batch_of(0), 1)
    assert steps[0] > 0
    assert not differing(half_dead.state(), before)


def test_a_group_keeps_its_last_channel() -> None:
    backend = make()
    assert backend.prune(1e9) == 8
    assert len(train(backend, range(2))) == 2


def test_a_resumed_run_goes_on_with_the_same_bits(half_dead: TorchBackend) -> None:
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


def test_a_state_of_a_larger_network_is_refused(half_dead: TorchBackend) -> None:
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
    torch.set_num_threads(1)
    network, recipe = torch_zoo.build(name, 32, None)
    head = nn.Linear(recipe.features, CLASSES)
    weights, draw = torch_prune.weights_of(network, head), np.random.default_rng(1)
    fill(weights, draw)
    groups = torch_prune.groups(network, head)
    assert len(groups) > 10
    dead = {
        g.name: draw.choice(g.channels, g.channels // 3, replace=False).tolist()
        for g in groups[::2]
    }
    kill(groups, weights, dead, vectors=True)
    arrays = {n: w.detach().numpy().copy() for n, w in weights.items()}
    images = recipe.preprocess(torch.from_numpy(draw.uniform(0, 255, (2, 3, 32, 32))).float())
    with torch.no_grad():
        before = head(network(images)).numpy()
    kept = channels.alive(groups, arrays, 1e-4)
    assert all(len(kept[g.name]) == g.channels - len(dead.get(g.name, [])) for g in groups)
    torch_prune.narrow(network, head, channels.cut(groups, kept, arrays))
    with torch.no_grad():
        after = head(network(images)).numpy()
    assert sum(p.numel() for p in network.parameters()) < 0.9 * sum(a.size for a in arrays.values())
    assert np.abs(before).max() > 0.1
    np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())


@pytest.mark.slow
def test_a_vision_transformer_is_refused() -> None:
    with pytest.raises(ConfigError, match="PruneTrain cuts channels of convolutional networks"):
        torch_prune.groups(torch_zoo.build("vit_b16", 32, None)[0], nn.Linear(768, CLASSES))
