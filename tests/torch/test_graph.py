"""Which operation belongs to which tensor: the paper's rules (MobiSys 2023, page 61), by hand.

Multiply-adds are the measure: they are exact, and what autograd really computes under a mask can
be counted as a whole.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.elastic import torch_graph
from core.elastic.timing import Counts
from core.elastic.torch_backend import TorchBackend
from core.elastic.torch_counting import multiply_adds
from core.errors import ConfigError
from core.models import torch_zoo
from tests.torch.networks import (
    BATCH,
    CLASSES,
    NAMES,
    RANDOM,
    SIZE,
    Small,
    batch_of,
    everything,
    make,
    scaled,
    selecting,
)

PIXELS = SIZE**2


def counted(backend: TorchBackend, *selected: int) -> float:
    """Multiply-adds of the loss and the gradients that a real step computes."""
    chosen = list(selected)
    backend.select(np.isin(np.arange(len(backend.tensors)), chosen))
    images, labels = batch_of(0)

    def step() -> None:
        loss, _ = backend._loss(images, labels, 0)
        if chosen:
            backend._gradients(loss, chosen)

    return multiply_adds(step)


def by_name(backend: TorchBackend, part: Any) -> dict[str, float]:
    return {t.name: count for t, count in zip(backend.tensors, part, strict=True) if count}


# Counts by hand.


def test_convolutions_normalisation_sums_and_dense_layers_are_counted_as_by_hand() -> None:
    backend = make("small")
    counts = backend.count_parts()
    # Outputs times what each sums over; the first convolution's images need no error.
    conv = BATCH * PIXELS * 4 * (3 * 9)
    depth = BATCH * PIXELS * 4 * 9
    point = BATCH * PIXELS * 6 * 4
    head = BATCH * CLASSES * 6
    assert counts.forward == conv + depth + point + head
    kernels = {"depth.weight": depth, "point.weight": point, "head.weight": head}
    assert by_name(backend, counts.t_dw) == {"conv.weight": conv} | kernels
    assert by_name(backend, counts.t_through) == kernels
    assert by_name(backend, counts.t_reach) == {}


def test_attention_is_counted_as_by_hand() -> None:
    backend = make("transformer")
    counts = backend.count_parts()
    length, width = 1 + (SIZE // 4) ** 2, 8
    patches = BATCH * (length - 1) * width * (3 * 4 * 4)
    project = BATCH * length * width * 3 * width  # queries, keys, values
    scores = 2 * BATCH * length * length * width  # and the sums over values
    dense = BATCH * length * width * width
    head = BATCH * CLASSES * width
    assert counts.forward == patches + project + scores + 2 * dense + head
    linear = {
        "attention.in_proj_weight": project,
        "attention.out_proj.weight": dense,
        "dense.weight": dense,
        "head.weight": head,
    }
    assert by_name(backend, counts.t_dw) == {"patches.weight": patches} | linear
    assert by_name(backend, counts.t_through) == linear
    # Attention has no tensors: on the way to the nearest before it.
    assert by_name(backend, counts.t_reach) == {"attention.in_proj_bias": 2 * scores}


def test_random_steps_are_counted_like_others() -> None:
    still, moving = make("small").count_parts(), make("small", **RANDOM).count_parts()
    assert moving.of(np.ones(10, bool)) == still.of(np.ones(10, bool))


def test_counting_leaves_no_trace() -> None:
    backend = make("small")
    backend.select(selecting(backend, 2, -1))
    before, mask = backend.state(), backend._mask.copy()
    backend.count_parts()
    assert backend.state().keys() == before.keys()
    assert [p.requires_grad for p in backend._parameters] == mask.tolist()
    assert (backend._mask == mask).all()


# Complete and disjoint.


@pytest.mark.parametrize("model", ["small", "branches", "transformer"])
def test_the_parts_under_any_selection_are_what_autograd_computes(model: str) -> None:
    backend = make(model)
    counts, n = backend.count_parts(), len(backend.tensors)
    draw = np.random.default_rng(0)
    masks = [np.arange(n) == k for k in range(n)]
    masks += [draw.random(n) < share for share in (0.1, 0.2, 0.4, 0.8) for _ in range(8)]
    for mask in [np.zeros(n, bool), *masks, np.ones(n, bool)]:
        assert counts.of(mask) == counted(backend, *np.flatnonzero(mask)), np.flatnonzero(mask)


@pytest.fixture(scope="module", params=["efficientnet_lite0", "mobilenet_v2", "vgg16", "vit_b16"])
def published(request: pytest.FixtureRequest) -> TorchBackend:
    return make(request.param, image_size=32)


def real(backend: TorchBackend, mask: Any) -> float:
    backend.select(mask)
    images, labels = batch_of(0, size=32)
    chosen = np.flatnonzero(mask).tolist()
    return multiply_adds(lambda: backend._gradients(backend._loss(images, labels, 0)[0], chosen))


def masks_of(n: int) -> list[Any]:
    draw = np.random.default_rng(0)
    masks = [(draw.random(n) < share) & (np.arange(n) >= draw.integers(n)) for share in [0.2] * 3]
    for mask in masks:
        mask[-1] = True
    return [np.ones(n, bool), *masks]


@pytest.mark.slow
def test_published_networks_cost_what_autograd_computes(published: TorchBackend) -> None:
    counts = published.count_parts()
    for mask in masks_of(len(published.tensors)):
        assert counts.of(mask) == real(published, mask), int(mask.argmax())


@pytest.mark.slow
def test_a_shortcut_with_a_convolution_costs_nothing_where_the_main_branch_alone_is_trained() -> (
    None
):
    backend = make("resnet50", image_size=32)
    counts, names = backend.count_parts(), [t.name for t in backend.tensors]
    for name in ("layer1.0.conv2.weight", "layer2.0.bn1.bias", "layer4.0.downsample.0.weight"):
        mask = np.array([n == name for n in names])
        assert counts.of(mask) == real(backend, mask), name
    for mask in masks_of(len(names)):
        assert counts.of(mask) == real(backend, mask), int(mask.argmax())


# Charges.


class Step:
    """A loss of a module, taken apart."""

    def __init__(self, network: nn.Module, *inputs: Tensor) -> None:
        parameters = list(network.named_parameters())
        order = torch_graph.order_of_use(lambda: network(*inputs), [p for _, p in parameters])
        names = {id(p): name for name, p in parameters}
        self.names = [names[id(p)] for p in order]
        loss = network(*inputs).sum()
        self.found = torch_graph.operations(loss, order)

    def operation(self, kind: str) -> torch_graph.Operation:
        (found,) = [o for o in self.found if o.node.name().startswith(kind)]
        return found

    def own(self, kind: str) -> list[str]:
        return [self.names[k] for k in self.operation(kind).own]


def test_modules_are_ordered_by_their_use_not_by_their_registration() -> None:
    registered = [name for name, _ in Small().named_parameters()]
    assert registered[0] == "point.weight"
    assert Step(Small().eval(), torch.rand(2, 3, 8, 8)).names == NAMES[:-2]


def test_a_parameter_used_twice_is_placed_where_it_is_used_first() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.first(self.second(self.first(x)))

    step = Step(Twice(), torch.rand(2, 3))
    assert step.names == ["first.weight", "second.weight"]
    charges = torch_graph.charge(step.found, 2, multiply_adds)
    assert charges.dw == [2 * 18, 18]  # both uses
    assert charges.through == [18, 18]


def test_a_parameter_that_is_never_used_is_refused() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(3, 3), nn.Linear(7, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    with pytest.raises(ConfigError, match=r"never computes with its parameters.*\[\(2, 7\)\]"):
        Step(Unused(), torch.rand(2, 3))


def test_a_dense_layer_owns_its_kernel_through_the_transpose() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5))
    step = Step(network, torch.rand(2, 3))
    kernels = [[step.names[k] for k in o.own] for o in step.found if "Addmm" in o.node.name()]
    assert [sorted(k) for k in kernels] == [["2.bias", "2.weight"], ["0.bias", "0.weight"]]
    charges = torch_graph.charge(step.found, 4, multiply_adds)
    assert charges.dw == [2 * 3 * 4, 0, 2 * 4 * 5, 0]
    assert charges.through == [0, 0, 2 * 4 * 5, 0]


def test_token_and_positions_belong_to_the_operations_that_take_them_in() -> None:
    network = make("transformer")._network
    network.requires_grad_(True)
    step = Step(network, torch.rand(2, 3, SIZE, SIZE))
    assert step.names[:4] == ["patches.weight", "patches.bias", "token", "positions"]
    assert step.own("CatBackward") == ["token"]
    positions = next(o for o in step.found if o.own and step.names[min(o.own)] == "positions")
    assert positions.node.name().startswith("AddBackward")
    assert len(positions.onward) == 1


def test_what_has_no_tensors_is_on_the_way_to_the_nearest_tensor_before_it() -> None:
    step = Step(Small().eval(), torch.rand(2, 3, 8, 8))
    assert step.names[max(step.operation("HardtanhBackward").beyond)] == "norm.bias"
    assert step.names[max(step.operation("SumBackward").beyond)] == "point.weight"
    assert step.names[max(step.operation("AddBackward").beyond)] == "norm_depth.bias"
    assert not step.operation("HardtanhBackward").own


def test_operations_run_alone_record_no_graph() -> None:
    step = Step(Small().eval(), torch.rand(2, 3, 8, 8))
    for operation in step.found:
        results = operation.run_whole()
        for result in results if isinstance(results, tuple) else (results,):
            assert result is None or not result.requires_grad


def test_gradients_of_operations_run_alone_are_those_of_the_whole() -> None:
    network, images = Small().eval(), torch.rand(2, 3, 8, 8)
    step = Step(network, images)
    loss = network(images).sum()
    parameters = dict(network.named_parameters())
    whole = dict(zip(parameters, torch.autograd.grad(loss, [*parameters.values()]), strict=True))
    for operation in step.found:
        for k, edge in operation.own.items():
            (alone,) = operation.run([edge])
            expected = whole[step.names[k]]
            torch.testing.assert_close(alone.reshape(expected.shape), expected)


def test_gradients_computed_together_share_what_they_save() -> None:
    """A measure under which the first gradient of an operation is paid once."""
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    step = Step(network, torch.rand(2, 3))
    runs: list[int] = []

    def measure(run: Any) -> float:
        runs.append(1)
        run()
        return 1.0

    charges = torch_graph.charge(step.found, 4, measure)
    assert charges.through[2] == 1
    # All three together take what the error alone takes. The kernel's transpose is one more.
    assert charges.dw[2:] == [0 + 1, 0]
    assert charges.dw[:2] == [0.5 + 1, 0.5]
    assert len(runs) == 10


# Networks that cannot be counted.


class Fourier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return torch.fft.rfft2(self.conv(images)).abs().mean((2, 3))


class Cumulative(Fourier):
    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images).cumsum(2).mean((2, 3))


@pytest.mark.parametrize(("network", "operation"), [(Fourier, "_fft_r2c"), (Cumulative, "cumsum")])
def test_an_operation_whose_count_is_not_known_is_named(
    network: type[nn.Module], operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = torch_zoo.Network(lambda size: network(), 4, scaled, "old.")
    monkeypatch.setitem(torch_zoo.NETWORKS, "unknown", entry)
    backend = make("unknown")
    backend.select(selecting(backend, -1))
    before = backend._mask.copy()
    with pytest.raises(
        ConfigError,
        match=rf"operation ({operation}) of PyTorch: .* core/elastic/torch_counting\.py",
    ):
        backend.count_parts()
    assert (backend._mask == before).all()


def test_a_grouped_convolution_counts_what_a_loop_over_its_groups_does() -> None:
    x = torch.rand(2, 6, 8, 8, requires_grad=True)
    pieces = [torch.rand(2, 2, 8, 8, requires_grad=True) for _ in range(3)]
    grouped = nn.Conv2d(6, 9, 3, groups=3)
    single = [nn.Conv2d(2, 3, 3) for _ in range(3)]

    def both(run: Any) -> float:
        return multiply_adds(lambda: run().sum().backward())

    parts = both(lambda: torch.cat([c(p) for c, p in zip(single, pieces, strict=True)], 1))
    assert both(lambda: grouped(x)) == parts == 3 * (2 * 9 * 6 * 6 * 2 * 9)


def test_counts_of_nothing_are_the_forward_pass() -> None:
    backend = make("small")
    counts = backend.count_parts()
    assert isinstance(counts, Counts)
    assert counts.of(~everything(backend)) == counts.forward == counted(backend)
