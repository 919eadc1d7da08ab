"""Entries of figures of split training, and which runs and profiles they are drawn from."""

import re
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigError
from core.figures.results import Settings
from core.figures.split_kinds import SPLIT_KINDS, check_split_entry
from core.figures.split_matching import run_in, split_matched
from core.figures.split_results import read_profile, read_split_run
from tests.unit.figures.split_recorded import make_profile, make_split_run

SETTINGS = Settings({}, testing=False)
BASE = {
    "task": "cifar10_mobilenet_v3",
    "schemes": ["replay", "serial"],
    "contexts": ["lte", "wifi"],
}
THROUGHPUT: dict[str, Any] = {"kind": "split_throughput", **BASE}
REPLAY: dict[str, Any] = {
    "kind": "split_replay",
    **BASE,
    "schemes": ["replay"],
    "vary": {"staleness": [0, 3]},
}


def matched(entry: dict[str, Any], folders: list[Path]) -> list[Path]:
    check_split_entry(entry)
    runs = split_matched(entry, [read_split_run(folder) for folder in folders], SETTINGS)
    return [run.folder for run in runs]


def folders_of(root: Path, schemes: list[str], **changes: Any) -> list[Path]:
    return [
        make_split_run(root / f"{context}-{scheme}", scheme, context, **changes)
        for context in ("lte", "wifi")
        for scheme in schemes
    ]


def test_runs_come_in_the_order_of_the_entry(tmp_path: Path) -> None:
    folders = folders_of(tmp_path, ["replay", "serial"])
    assert matched(THROUGHPUT, folders[::-1]) == folders


def test_one_run_that_sends_nothing_stands_for_every_context(tmp_path: Path) -> None:
    entry = THROUGHPUT | {"schemes": ["all_edge", "serial"]}
    alone = make_split_run(tmp_path / "alone", "all_edge", staleness=0)
    folders = [*folders_of(tmp_path, ["serial"]), alone]
    assert matched(entry, folders) == folders
    runs = [read_split_run(folder) for folder in folders]
    assert [run_in(runs, c, "all_edge").folder for c in ("lte", "wifi")] == [alone, alone]
    assert run_in(runs, "wifi", "serial").folder == folders[1]


def test_varied_settings_are_told_apart(tmp_path: Path) -> None:
    entry = REPLAY | {"contexts": ["wifi"]}
    late, soon = (make_split_run(tmp_path / f"k{k}", staleness=k) for k in (3, 0))
    assert matched(entry, [late, soon]) == [soon, late]
    with pytest.raises(ConfigError, match="no run of scheme replay with staleness 0 in context wi"):
        matched(entry, [late])
    other = make_split_run(tmp_path / "k5", staleness=5)
    with pytest.raises(ConfigError, match="k5 has staleness 5, which the figure does not vary"):
        matched(entry, [late, soon, other])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": "paper"}, r"runs of more than one scale: demo \(.*\); paper \(.*\); draw them"),
        ({"model": {"name": "vgg19_bn"}}, "runs of more than one model: mobilenet_v3_large .*vgg"),
        ({"data": {"name": "cifar10"}}, "runs of more than one dataset: elpv .*; cifar10"),
        (
            {"edge": {"name": "pi", "title": "Pi", "slowdown": 1}},
            r"runs of more than one edge: this host, AMD EPYC, emulated 4× slower .*; Pi \(",
        ),
        (
            {"cloud": {"name": "server", "title": "Server", "slowdown": 1}},
            "runs of more than one cloud: this host .*; Server",
        ),
        ({"network": "5g"}, r"serial ran in context 5g, not in \['lte', 'wifi'\]"),
        ({"scheme": "jointdnn"}, r"serial ran scheme jointdnn, not in \['replay', 'serial'\]"),
        ({"scheme": "replay"}, "two runs of scheme replay, give one: "),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folders = folders_of(tmp_path, ["replay"])
    other = {"scheme": "serial", "network": "wifi"} | changes
    folders.append(make_split_run(tmp_path / "serial", **other))
    with pytest.raises(ConfigError, match=message):
        matched(THROUGHPUT, folders)


def test_no_run_and_files_too_many_or_too_few_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run to draw: give the folder of at least one"):
        matched(THROUGHPUT, [])
    simulated = {"kind": "split_simulated", "networks": ["vgg19_bn"], "contexts": ["wifi"]}
    with pytest.raises(ConfigError, match="kind split_simulated is drawn from no files, 1 were"):
        matched(simulated, folders_of(tmp_path, ["replay"])[:1])
    entry = {"kind": "split_profile", "task": "t"}
    edge = read_profile(make_profile(tmp_path / "edge.json"))
    with pytest.raises(ConfigError, match="draws two profiles, of the edge and of the cloud; 1 we"):
        split_matched(entry, [edge], SETTINGS)
    cloud = read_profile(make_profile(tmp_path / "cloud.json", batch=64))
    with pytest.raises(ConfigError, match=r"edge.json and .*cloud.json differ in batch: they are"):
        split_matched(entry, [edge, cloud], SETTINGS)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "split_pie"}, "kind is 'split_pie', allowed: split_throughput, split_accuracy"),
        ({"kind": "split_profile"}, "no key task, which kind split_profile needs"),
        (THROUGHPUT | {"vary": {}}, "key vary, which kind split_throughput does not have"),
        (
            THROUGHPUT | {"kind": "split_accuracy", "steps": 20},
            "key steps, which kind split_accuracy does not have",
        ),
        (
            THROUGHPUT | {"kind": "split_decision"},
            "schemes is replay, serial; kind split_decision draws one",
        ),
        (REPLAY | {"schemes": []}, "schemes is none; kind split_replay draws one"),
        (
            REPLAY | {"vary": {"uplink": ["int8", "none"]}},
            "vary has uplink; kind split_replay varies staleness",
        ),
        (
            REPLAY | {"vary": {"staleness": [3]}},
            "kind split_replay needs at least two values of vary.staleness",
        ),
    ],
)
def test_bad_entry_is_refused(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_split_entry(entry)


def test_every_kind_has_a_module() -> None:
    folder = Path(__file__).parents[3] / "core/figures"
    assert all((folder / f"{kind}.py").exists() for kind in SPLIT_KINDS)
