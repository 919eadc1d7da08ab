"""What is computed does not depend on where: K = 0 is ordinary training, bit for bit; K > 0 is what
one process does that keeps gradients back for K steps."""

import csv
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from core.errors import ConfigError
from core.models.blocks import NETWORKS, build, prepare
from core.spec import RunSpec
from core.split.batches import Batch
from core.split.costs import Load
from core.split.decision import Choice
from core.split.part import _seed
from core.split.run import _check_features
from tests.split.conftest import CLASSES, STEPS, Trained, make_batches, make_spec

Train = Callable[..., Trained]


def blocks_of(spec: RunSpec) -> list[nn.Module]:
    return build(spec["model"]["name"], CLASSES, spec["seed"], size=spec["data"]["size"])


def loss_of(spec: RunSpec, outputs: Any, batch: Batch) -> Any:
    """Written out, of classes and of images with masks."""
    wanted = torch.from_numpy(batch.wanted)
    if spec["model"]["name"] != "chairs":
        return nn.functional.cross_entropy(outputs, wanted)
    images = wanted.permute(0, 3, 1, 2) / 255.0
    mask = nn.functional.binary_cross_entropy_with_logits(outputs[:, 3:], images[:, 3:])
    return nn.functional.mse_loss(outputs[:, :3], images[:, :3]) + 0.1 * mask


def optimiser_of(spec: RunSpec, blocks: list[nn.Module]) -> torch.optim.SGD:
    """One for the whole network: PyTorch's own, with the spec's numbers written out."""
    trained = [p for block in blocks for p in block.parameters() if p.requires_grad]
    return torch.optim.SGD(trained, 0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)


def through(spec: RunSpec, blocks: list[nn.Module], first: int, x: Any, step: int) -> Any:
    for index, block in enumerate(blocks, first):
        block.train()
        torch.manual_seed(_seed(spec["seed"], step, index))
        x = block(x)
    return x


def unsplit(spec: RunSpec) -> tuple[list[nn.Module], list[float]]:
    """Plain training of the whole network."""
    blocks, batches, losses = blocks_of(spec), make_batches(spec), []
    optimiser = optimiser_of(spec, blocks)
    steps = spec["training"]["steps"]
    for step in range(spec["training"]["epochs"] * steps):
        optimiser.param_groups[0]["lr"] = 0.01 if step < steps else 0.005
        batch = batches.at(step)
        inputs = prepare(spec["model"]["name"], torch.from_numpy(batch.inputs))
        logits = through(spec, blocks, 0, inputs, step)
        loss = loss_of(spec, logits, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return blocks, losses


@pytest.fixture(scope="session")
def whole() -> Callable[..., tuple[list[nn.Module], list[float]]]:
    """Unsplit training of a model, once."""
    found: dict[Any, Any] = {}
    torch.set_num_threads(1)

    def of(model: str, **changes: Any) -> Any:
        key = (model, *changes.items())
        if key not in found:
            found[key] = unsplit(make_spec(model, cut=0, **changes))
        return found[key]

    return of


def assert_same(trained: Trained, blocks: list[nn.Module]) -> None:
    for index, block in enumerate(blocks):
        for name, value in block.state_dict().items():
            array = trained.state[f"{index}/weights/{name}"]
            assert np.array_equal(array, value.numpy()), f"block {index}, {name}"


@pytest.mark.parametrize("cut", range(NETWORKS["bilstm"].blocks + 1))
def test_without_staleness_a_cut_network_trains_as_the_whole_one(
    cut: int, train: Train, whole: Any
) -> None:
    blocks, losses = whole("bilstm")
    trained = train(make_spec("bilstm", cut=cut))
    assert_same(trained, blocks)
    means = [np.mean(losses[:STEPS]), np.mean(losses[STEPS:])]
    assert [row["train_loss"] for row in trained.progress.rows] == pytest.approx(means, rel=1e-12)


@pytest.fixture
def probing(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of the time it takes, the link may be measured before every step."""
    monkeypatch.setattr("core.split.front.PROBE_SHARE", 1e9)


class Script:
    """Moves the cut when it is told, in the place of the decision engine."""

    load = Load()

    def __init__(self, choices: dict[int, Choice]) -> None:
        self._choices = choices

    def observe(self, choice: Choice, edge_s: float, cloud_s: float) -> None:
        """It knows what it wants."""

    def due(self, step: int) -> bool:
        return step in self._choices

    def consider(self, step: int, link: Any, staleness: int) -> Any:
        return _Move(step, self._choices[step])

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


@dataclass
class _Move:
    step: int
    choice: Choice


@pytest.mark.slow
@pytest.mark.usefixtures("probing")
@pytest.mark.parametrize("model", NETWORKS)
def test_at_every_cut_a_step_is_that_of_the_whole_network(
    model: str, train: Train, whole: Any
) -> None:
    """The cut moves on by a block before every step, so that every block changes sides with its
    optimiser and every cut trains once; nothing of the result may tell."""
    n = NETWORKS[model].blocks - (NETWORKS[model].front == "cloud")  # its last block stays there
    once = {"epochs": 1, "steps": n + 1}
    blocks, losses = whole(model, **once)
    script = Script({step: Choice(step, "none", "none") for step in range(1, n + 1)})
    trained = train(make_spec(model, cut=0, **once), script)
    lines = list(csv.DictReader(trained.iterations.splitlines()))
    assert [int(line["cut"]) for line in lines] == list(range(n + 1))
    assert [float(line["loss"]) for line in lines] == losses
    assert_same(trained, blocks)


@pytest.mark.usefixtures("probing")
def test_blocks_that_move_to_and_fro_change_nothing(train: Train, whole: Any) -> None:
    n = NETWORKS["bilstm"].blocks
    cuts = {2: 1, 3: n, 4: n - 1, 5: 0, 6: 3}
    script = Script({step: Choice(cut, "none", "none") for step, cut in cuts.items()})
    trained = train(make_spec("bilstm", cut=2), script)
    assert_same(trained, whole("bilstm")[0])
    assert [c["cut"] for c in trained.progress.choices] == [2, *cuts.values()]


def delayed(spec: RunSpec, k: int) -> list[nn.Module]:
    """Feature replay in one process, from its description: gradients wait for k steps."""
    blocks, batches, cut = blocks_of(spec), make_batches(spec), spec["scheme"]["cut"]
    edge, cloud = blocks[:cut], blocks[cut:]
    optimisers = optimiser_of(spec, edge), optimiser_of(spec, cloud)
    waiting: deque[tuple[int, Any, Any]] = deque()

    def apply() -> None:
        step, inputs, gradient = waiting.popleft()
        norms = [m for b in edge for m in b.modules() if isinstance(m, nn.BatchNorm2d)]
        kept = [{k: v.clone() for k, v in m.state_dict().items()} for m in norms]
        features = through(spec, edge, 0, inputs, step)
        optimisers[0].zero_grad()
        features.backward(gradient)
        optimisers[0].step()
        for norm, state in zip(norms, kept, strict=True):  # a batch counts once
            for key in ("running_mean", "running_var", "num_batches_tracked"):
                getattr(norm, key).copy_(state[key])

    for step in range(2 * STEPS):
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = 0.01 if step < STEPS else 0.005
        batch = batches.at(step)
        inputs = prepare(spec["model"]["name"], torch.from_numpy(batch.inputs))
        with torch.no_grad():
            features = through(spec, edge, 0, inputs, step)
        features.requires_grad_()
        logits = through(spec, cloud, cut, features, step)
        loss = loss_of(spec, logits, batch)
        optimisers[1].zero_grad()
        loss.backward()
        optimisers[1].step()
        waiting.append((step, inputs, features.grad))
        if len(waiting) > k:
            apply()
        if (step + 1) % STEPS == 0:
            while waiting:
                apply()
    return blocks


@pytest.mark.parametrize("k", [1, 2, 3])
def test_stale_gradients_are_applied_as_in_one_process(k: int, train: Train) -> None:
    spec = make_spec("mobilenet_v3_large", cut=7, staleness=k)
    assert_same(train(spec), delayed(spec, k))


def test_opportunistic_training_is_never_later_than_allowed(train: Train) -> None:
    trained = train(make_spec("mobilenet_v3_large", cut=7, staleness=2, mode="opportunistic"))
    rows = [line.split(",") for line in trained.iterations.splitlines()]
    late = rows[0].index("late")
    assert len(rows) == 1 + 2 * STEPS
    assert all(0 <= int(row[late]) <= 2 for row in rows[1:])


def test_each_step_has_one_line(train: Train) -> None:
    trained = train(make_spec("mobilenet_v3_large", cut=7, staleness=3))
    lines = trained.iterations.splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [str(i) for i in range(2 * STEPS)]


def test_the_distribution_of_every_block_with_weights_is_kept(train: Train) -> None:
    (kept,) = train(make_spec("vgg19_bn", cut=7)).progress.weights
    state = build("vgg19_bn", CLASSES, 7)
    with_weights = [str(i) for i, block in enumerate(state) if list(block.parameters())]
    assert kept["epoch"] == 2
    assert sorted(kept["blocks"], key=int) == with_weights


def test_to_a_cut_among_frozen_blocks_no_gradient_comes_back(train: Train, tmp_path: Path) -> None:
    # The first block, the embedding, is frozen.
    for cut, returns in ((1, False), (2, True)):
        spec = make_spec("bilstm", cut=cut, staleness=2)
        steps = csv.DictReader(train(spec, folder=tmp_path / str(cut)).iterations.splitlines())
        sizes = [(int(step["up_bytes"]) > 0, int(step["down_bytes"]) > 0) for step in steps]
        assert sizes == [(True, returns)] * 8


def test_error_feedback_does_nothing_to_a_cut_among_frozen_blocks(
    train: Train, tmp_path: Path
) -> None:
    lossy = {"cut": 1, "staleness": 2, "uplink": "int8"}
    for kind in ("published", "none"):
        train(make_spec("bilstm", feedback=kind, **lossy), folder=tmp_path / kind)
    lines = [(tmp_path / kind / "iterations.csv").read_text() for kind in ("published", "none")]
    losses = [[row["loss"] for row in csv.DictReader(text.splitlines())] for text in lines]
    assert losses[0] == losses[1]


def test_what_is_too_large_to_be_sent_is_an_error_before_training() -> None:
    spec = make_spec("resnet50_cifar", cut=1, test_batch=5000)
    text = r"scheme\.cut = 1: features of a batch take 312 MiB, at most 256 are sent; lower "
    text += r"training\.batch and training\.test_batch to 4096 at most, or take a later cut"
    with pytest.raises(ConfigError, match=text):
        _check_features(spec)
    most = make_spec("resnet50_cifar", cut=1, test_batch=4096)
    _check_features(most)


@pytest.mark.parametrize("cut", [0, None])
def test_raw_inputs_too_large_to_be_sent_are_an_error_where_cut_0_may_be(cut: int | None) -> None:
    samples = 256 * 2**20 // (3 * 16 * 16)  # uint8
    _check_features(make_spec("resnet50_cifar", cut=cut, test_batch=samples))
    which = r"scheme\.cut" if cut == 0 else "a chosen cut"
    text = rf"{which} = 0: raw inputs of a batch take 256 MiB, .* to {samples} at most"
    with pytest.raises(ConfigError, match=text):
        _check_features(make_spec("resnet50_cifar", cut=cut, test_batch=samples + 9))
