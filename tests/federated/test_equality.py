"""What is computed does not depend on who holds the columns: K = 0 is centralised training, bit for
bit; K > 0 is what one process does that keeps gradients back for K steps."""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from core.federated.network import make_party, make_server
from core.federated.silos import SERVER, open_party, open_server
from core.spec import RunSpec
from core.split import codec as codecs
from core.training.order import epoch_order
from tests.federated.conftest import (
    BATCH,
    COLUMNS,
    STEPS,
    THREE,
    Run,
    Trained,
    assert_same,
    centralised,
    make_spec,
)

Make = Callable[..., Run]


class Reference:
    """The network in one process, from its description: plain PyTorch, one loop."""

    def __init__(self, run: Run) -> None:
        spec = run.spec
        silos = [
            open_party(run.silos / p["party"], spec, len(p["columns"])) for p in spec["parties"]
        ]
        self.rows = [silo.rows["train"] for silo in silos]
        self.labels = open_server(run.silos / SERVER, spec).labels["train"]
        genres = silos[0].genres
        assert genres is not None
        self.parties = [make_party(spec, i, genres)._held[i].module for i in range(len(silos))]
        self.upper = make_server(spec)._held[len(silos)].module.train()
        self.spec = spec
        self.losses: list[float] = []

    def optimiser(self, modules: list[nn.Module]) -> torch.optim.SGD:
        parameters = [p for module in modules for p in module.parameters()]
        return torch.optim.SGD(parameters, 0.1, momentum=0.5)

    def samples(self, step: int) -> Any:
        epoch, place = divmod(step, STEPS)
        order = epoch_order(self.spec["seed"], epoch, len(self.labels))
        return order[place * BATCH : (place + 1) * BATCH]

    def rate(self, step: int, *optimisers: torch.optim.SGD) -> None:
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = 0.1 if step < STEPS else 0.1 * 0.1

    def loss(self, features: Any, samples: Any) -> Any:
        loss = nn.functional.cross_entropy(
            self.upper(features), torch.from_numpy(self.labels[samples])
        )
        self.losses.append(loss.item())
        return loss

    def together(self) -> None:
        """One graph, one optimiser: nothing is divided."""
        optimiser = self.optimiser([*self.parties, self.upper])
        for step in range(2 * STEPS):
            self.rate(step, optimiser)
            samples = self.samples(step)
            features = [
                party(torch.from_numpy(rows[samples]))
                for party, rows in zip(self.parties, self.rows, strict=True)
            ]
            total = features[0]
            for other in features[1:]:
                total = total + other
            optimiser.zero_grad()
            self.loss(total, samples).backward()
            optimiser.step()

    def delayed(self, k: int, codec: str, corrects: bool) -> None:
        """Gradients wait for k steps and are applied to features that are made again."""
        upper = self.optimiser([self.upper])
        lower = [self.optimiser([party]) for party in self.parties]
        waiting: deque[tuple[int, Any, list[Any]]] = deque()
        coders = [codecs.make(codec, self.spec["seed"], 1) for _ in self.parties]

        def apply() -> None:
            step, gradient, lost = waiting.popleft()
            samples = self.samples(step)
            for i, party in enumerate(self.parties):
                features = party(torch.from_numpy(self.rows[i][samples]))
                own = gradient - lost[i] * gradient * gradient if corrects else gradient
                lower[i].zero_grad()
                features.backward(own)
                lower[i].step()

        for step in range(2 * STEPS):
            self.rate(step, upper, *lower)
            samples = self.samples(step)
            sent, lost = [], []
            for i, party in enumerate(self.parties):
                with torch.no_grad():
                    features = party(torch.from_numpy(self.rows[i][samples])).numpy()
                _, decoded = coders[i].encode_decoded(features, step, samples)
                sent.append(torch.from_numpy(decoded))
                lost.append(torch.from_numpy(decoded - features))
            total = sent[0]
            for other in sent[1:]:
                total = total + other
            total.requires_grad_()
            upper.zero_grad()
            self.loss(total, samples).backward()
            upper.step()
            waiting.append((step, total.grad, lost))
            if len(waiting) > k:
                apply()
            if (step + 1) % STEPS == 0:
                while waiting:
                    apply()

    def check(self, trained: Trained) -> None:
        for index, module in enumerate([*self.parties, self.upper]):
            for name, value in module.state_dict().items():
                array = trained.state[f"{index}/weights/{name}"]
                assert np.array_equal(array, value.numpy()), f"block {index}, {name}"
        means = [np.mean(self.losses[:STEPS]), np.mean(self.losses[STEPS:])]
        assert trained.losses == pytest.approx(means, rel=1e-12)


@pytest.mark.parametrize("columns", [COLUMNS, THREE], ids=["two", "three"])
def test_without_staleness_parties_train_as_one_process(
    columns: dict[str, list[int]], make_run: Make
) -> None:
    run = make_run(make_spec(columns))
    trained, reference = run.train(), Reference(run)
    reference.together()
    reference.check(trained)


def test_centralised_training_has_the_same_bits_and_scores(make_run: Make) -> None:
    run = make_run(make_spec())
    trained = run.train()
    alone = centralised(make_spec(name="centralised"), run.silos)
    assert_same(trained.state, alone.state)
    for one, other in zip(trained.progress.rows, alone.progress.rows, strict=True):
        for key in ("train_loss", "test_loss", "test_auc", "test_accuracy"):
            assert one[key] == other[key], key
    assert alone.progress.parties == []


@pytest.mark.parametrize(
    ("k", "codec", "feedback"),
    [(1, "none", "none"), (3, "none", "none"), (10, "none", "none"), (2, "int8", "published")],
)
def test_stale_gradients_are_applied_as_in_one_process(
    k: int, codec: str, feedback: str, make_run: Make
) -> None:
    run = make_run(make_spec(staleness=k, uplink=codec, feedback=feedback))
    trained, reference = run.train(), Reference(run)
    reference.delayed(k, codec, feedback == "published")
    reference.check(trained)


def test_another_seed_is_another_run(make_run: Make) -> None:
    one = make_run(make_spec(), "one").train()
    content = make_spec().content | {"seed": 8}
    other = make_run(RunSpec(content), "other").train()
    assert one.losses != other.losses


def test_whichever_way_rows_lie_in_a_silo_they_are_aligned(make_run: Make) -> None:
    """A party has sorted its rows in another way; their names came along."""
    from tests.federated.test_silos import shuffled

    straight = make_run(make_spec(), "straight").train()
    run = make_run(make_spec(), "shuffled")
    shuffled(run.silos / "b")
    assert_same(run.train().state, straight.state)


def test_a_slow_party_is_waited_for_and_changes_nothing(make_run: Make) -> None:
    fast = make_run(make_spec(staleness=2), "fast").train()
    content = make_spec(staleness=2).content
    content["parties"][1]["slowdown"] = 20
    content["timing"] = "emulated"
    slow = make_run(RunSpec(content), "slow").train()
    assert_same(fast.state, slow.state)
    worked = {row["party"]: row["work_s"] for row in slow.progress.parties}
    assert worked["b"] > worked["a"]


def test_no_party_is_ever_further_ahead_than_it_may(make_run: Make) -> None:
    """Of features that were sent and whose gradient was not applied there are at most K + 1."""
    run = make_run(make_spec(staleness=2))
    party, seen = run.party("a"), []
    send = party._send_features

    def counted() -> None:
        send()
        seen.append(len(party._pending))

    party._send_features = counted  # type: ignore[method-assign]
    server = run.make_server()
    run.start("a", party)
    run.start("b")
    server.run()
    assert max(seen) == 3
    assert len(seen) == 2 * STEPS
