"""The benchmarks that time steps, on a tiny network: that they run, and what they say."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from core.bench import Report, realised, snapshot, tasks, timing

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def task() -> Iterator[tasks.Task]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tasks.SETTINGS, "tiny", ("efficientnet_lite0", 32, 4))
        patch.setattr(tasks, "REPEATS", 2)
        yield tasks.make_task("torch", "tiny")


def test_predictions_are_compared_with_selections_that_were_never_profiled(task, monkeypatch):
    monkeypatch.setattr(timing, "SELECTIONS", 2)
    found = timing._figures(task)
    assert found["tensors"] == 149
    assert 0 < found["forward_share"] < 1
    assert found["worst_prediction_error"] >= found["prediction_error"] >= 0
    assert found["closure"] >= 0


def test_a_rho_below_the_smallest_is_infeasible_and_the_others_are_measured(task, monkeypatch):
    monkeypatch.setattr(realised, "BUDGETS", (0.4, 0.7))
    ours = task.timing
    full = ours.forward / 0.45  # so that the forward pass takes 45 % of a step
    scale = (full - ours.forward) / ours.backward
    parts = {part: scale * getattr(ours, part) for part in ("t_dw", "t_reach", "t_through")}
    slow = dataclasses.replace(ours, full=full, **parts)
    found = realised.shares(dataclasses.replace(task, timing=slow))
    assert found["0.4"] == {"infeasible": True}
    assert found["forward_share"] == pytest.approx(0.45)
    assert 0.45 <= found["smallest_rho"] < 0.5  # rounded
    assert found["0.7"]["tensors"] > 0
    assert found["0.7"]["predicted"] <= 0.7
    assert 1 <= len(found["0.7"]["attempts"]) <= realised.CORRECTIONS + 1
    assert found["0.7"]["corrected_deviation"] >= 0


def test_only_feasible_budgets_have_a_limit(monkeypatch):
    off, close = ({"deviation": d, "corrected_deviation": d / 2} for d in (0.18, 0.01))
    one = {"0.4": {"infeasible": True}, "0.5": off, "0.7": close}
    monkeypatch.setattr(realised, "SETTINGS", {"tiny": None})
    monkeypatch.setattr(realised, "make_task", lambda *_: None)
    monkeypatch.setattr(realised, "shares", lambda _: one)
    report = realised.run()
    assert report.limits == {
        "tiny/0.5/deviation": 0.1, "tiny/0.5/corrected_deviation": 0.1,
        "tiny/0.7/deviation": 0.1, "tiny/0.7/corrected_deviation": 0.1,
    }  # fmt: skip
    assert report.exceeded() == {"tiny/0.5/deviation": 0.18}


def test_a_snapshot_is_timed_and_its_share_of_an_epoch_told(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task.backend.select(np.ones(len(task.timing.tensors), dtype=bool))
    found = snapshot._figures(task, steps=10)
    assert found["mib"] > 10  # weights and momentum of 3.6 million numbers, half of them random
    assert found["saves_per_epoch"] == 1
    assert found["overhead"] == pytest.approx(found["save_s"] / found["epoch_s"], rel=0.5)


def test_a_limit_is_looked_up_by_the_path_of_its_figure():
    report = Report({"a": {"b": 2, "c": 1}}, {"a/b": 1, "a/c": 1})
    assert report.exceeded() == {"a/b": 2}
