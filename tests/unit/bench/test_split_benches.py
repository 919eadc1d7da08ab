from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from core import schema
from core.bench import cuts, trace
from core.bench.codec_accuracy import analyse
from core.figures.split_results import SplitRun
from core.spec import RunSpec
from core.split import config as split
from core.split.contexts import SHIPPED, Context
from core.split.costs import CodecCosts, Costs, PerMib
from core.split.decision import Choice
from core.split.simulate import Scheme, SimulatedLink, simulate

PROJECT = Path(__file__).parents[3]


def recorded(uplink: str, feedback: str, seed: int, accuracies: list[float], up: int) -> SplitRun:
    """A run of two steps with these test accuracies."""
    spec = {"seed": seed, "scheme": {"name": "compressed", "uplink": uplink, "feedback": feedback}}
    epochs = pd.DataFrame({"test_accuracy": accuracies})
    steps = pd.DataFrame({"up_bytes": [up, up], "down_bytes": [8, 8]})
    return SplitRun(Path(f"{uplink}-{feedback}-{seed}"), spec, {}, epochs, steps)


def test_a_codec_is_compared_with_the_plain_run_of_the_same_seed():
    found = analyse(
        [
            recorded("none", "none", 0, [0.70, 0.80], 400),
            recorded("none", "none", 1, [0.60, 0.50], 400),
            recorded("int8", "published", 0, [0.79, 0.70], 100),
            recorded("int8", "published", 1, [0.58, 0.62], 100),
        ]
    )
    assert found["int8, feedback published"] == {
        "accuracy": {"mean": 70.5, "lowest": 62, "highest": 79},
        "against_plain": {"mean": 0.5, "lowest": -1, "highest": 2},
        "up_bytes": 100,
        "down_bytes": 8,
    }
    assert found["none, feedback none"]["against_plain"]["mean"] == 0


def costs(blocks: int) -> Costs:
    """Equal blocks whose features shrink by half from each to the next."""
    seconds = 0.01 * np.arange(blocks + 1)
    mib = 0.5 ** np.arange(blocks + 1)
    codecs = {
        name: CodecCosts.of_features(mib * share * 2**20, 5e4, *[PerMib(0, 0)] * 2, mib)
        for name, share in (("int8_channel", 0.25), ("none", 1.0))
    }
    return Costs(seconds, 1.3 * seconds, seconds[::-1].copy(), codecs, np.full(blocks, 1e5))


@pytest.fixture
def moving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict, split.SplitKey]:
    """The shipped configuration, and the run of figure split_decision with its spec written."""
    content = schema.read_yaml(PROJECT / "config/config.yaml")
    (ours,) = split.figures(content)[trace.FIGURE].runs
    devices = {
        path.stem: schema.read_yaml(path) for path in (PROJECT / "config/devices").glob("*.yaml")
    }
    monkeypatch.setattr(trace, "PROJECT", tmp_path)
    folder = tmp_path / ours.folder(content)
    folder.mkdir(parents=True)
    spec = split.run_spec(content, ours, devices, SHIPPED)
    RunSpec(spec).save(folder / "spec.yaml")
    return content, ours


def test_hindsight_runs_the_fixed_cuts_that_are_fastest_on_the_trace_and_both_ends(moving):
    content, ours = moving
    blocks, each = 18, costs(18)
    found = trace.fixed(content, ours, each)
    link = SimulatedLink.of(Context.of(trace._spec(content, ours)["context"]))

    def seconds(cut: int, uplink: str) -> float:
        return simulate(each, link, Scheme(Choice(cut, uplink, "none"), 3), 160).seconds

    everywhere = sorted(seconds(c, u) for c in range(1, blocks) for u in ("int8_channel", "none"))
    inner = [key for name, key in found.items() if name.startswith("cut ")]
    chosen = sorted(seconds(dict(k.options)["cut"], dict(k.options)["uplink"]) for k in inner)
    assert chosen == pytest.approx(everywhere[: trace.RUN_UP])
    assert {key.scheme for key in inner} == {"compressed"}
    assert found["all_cloud"] == replace(ours, scheme="all_cloud")
    assert found["all_edge"].context == split.NO_CONTEXT
    assert all(dict(key.options)["steps"] == 160 for key in found.values())


def test_places_that_come_near_to_the_best_run_longer_and_so_does_the_whole_system():
    content = schema.read_yaml(PROJECT / "config/config.yaml")
    seconds = {"cut 0": 1.0, "cut 1": 1.3, "cut 2": 1.31, "cut 5": 1.1, cuts.OURS: 0.5}
    runs = {name: SimpleNamespace(overall_s=each) for name, each in seconds.items()}
    found = cuts.finalists(content, "wifi", runs, seed=2)
    assert list(found) == ["cut 0", "cut 1", "cut 5", cuts.OURS]
    short = cuts.keys_of(content, "wifi")
    assert all(dict(key.options)["steps"] == cuts.LONGER for key in found.values())
    for name, key in found.items():
        options = dict(short[name].options) | {"steps": cuts.LONGER}
        assert (key.scheme, key.context) == (short[name].scheme, short[name].context)
        assert key.seed == 2
        assert dict(key.options) == options


def test_the_whole_system_is_compared_with_the_best_place_of_the_same_round():
    def ran(seconds: float, cut: int = 0) -> SimpleNamespace:
        return SimpleNamespace(overall_s=seconds, steps=pd.DataFrame({"cut": [1, cut]}))

    # The machine is twice as slow in the second round: no place lost or won anything by that.
    rounds = [
        {"cut 0": ran(1.0), "cut 1": ran(1.2), cuts.OURS: ran(1.04, 1)},
        {"cut 0": ran(2.0), "cut 1": ran(2.4), cuts.OURS: ran(2.06, 1)},
        {"cut 0": ran(1.1), "cut 1": ran(1.1), cuts.OURS: ran(1.1, 0)},
    ]
    found = cuts.compare(rounds)
    assert found["best"] == "cut 0"
    assert found["step_s"]["cut 0"] == [1.1, 1.0, 2.0]
    assert found["step_s"][cuts.OURS] == [1.1, 1.04, 2.06]
    assert found["lost"] == 0.03
    assert found["lost_quartiles"] == [0.015, 0.035]
    assert found["lost_by_choice"] == 0.2  # of cut 1, where two of three runs ended
    assert found["chosen_cuts"] == [1, 1, 0]


def test_a_choice_that_was_not_run_longer_loses_what_the_whole_system_lost():
    def ran(seconds: float, cut: int = 0) -> SimpleNamespace:
        return SimpleNamespace(overall_s=seconds, steps=pd.DataFrame({"cut": [cut]}))

    found = cuts.compare([{"cut 0": ran(1.0), cuts.OURS: ran(1.5, 3)}])
    assert found["lost"] == found["lost_by_choice"] == 0.5
