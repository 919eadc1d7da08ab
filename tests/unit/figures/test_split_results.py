"""What figures of split training read: folders of runs and profiles, and what is refused."""

import json
import re
from pathlib import Path

import pytest

from core.errors import ConfigError, DataError
from core.figures.split_results import read_profile, read_split_run
from tests.unit.figures.split_recorded import make_profile, make_split_run


def edit(folder: Path, name: str, old: str, new: str) -> Path:
    """Replace text in a file of a run, once."""
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_run_tells_what_it_was(tmp_path: Path) -> None:
    run = read_split_run(make_split_run(tmp_path / "a", staleness=3, uplink="int8"))
    assert (run.scale, run.model, run.dataset) == ("demo", "mobilenet_v3_large", "elpv")
    assert (run.scheme, run.context, run.timing) == ("replay", "wifi", "emulated")
    assert run.edge == "this host, AMD EPYC, emulated 4× slower"
    assert run.cloud == "this host"
    assert run.has({"staleness": 3, "uplink": "int8", "feedback": "none"})
    assert not run.has({"staleness": 1})
    assert run.best_accuracy == 80
    assert run.steps["uplink"].tolist() == ["int8"] * 20
    # 10 s for the first step, 1 s for the others; 3 s of tests after each epoch of ten.
    assert (3600 * run.hours(testing=False)).tolist() == pytest.approx([19, 29])
    assert (3600 * run.hours(testing=True)).tolist() == pytest.approx([22, 35])


def test_codec_none_is_no_missing_value(tmp_path: Path) -> None:
    run = read_split_run(make_split_run(tmp_path / "a"))
    assert set(run.steps["uplink"]) == {"none"}


def test_steady_time_leaves_out_the_start_and_the_emptying_of_the_pipeline(tmp_path: Path) -> None:
    # Two epochs of ten steps, K = 1: the last step of each is applied at once, in no time.
    epoch = [9.0, 9, 9, 9, 9, 9, 9, 1, 3, 0.01]
    run = read_split_run(make_split_run(tmp_path / "a", taken=[*epoch, 7, *[1, 3] * 4, 0.01]))
    steady = run.steady()
    # Rounds of two steps; from 7 of the first epoch: (7, 8) alone is too short, then 10 to 18.
    assert steady.rounds == 7
    assert (steady.low, steady.median, steady.high) == pytest.approx((2, 2, 2))
    assert steady.staleness == 1


def test_wait_that_comes_once_in_a_round_counts_by_its_part(tmp_path: Path) -> None:
    """The median of single differences would not see it."""
    taken = [0.5, 0.5, 0.5, 2.5] * 10
    run = read_split_run(make_split_run(tmp_path / "a", staleness=3, taken=taken))
    assert run.steady().median == pytest.approx(1.0)


def test_quartiles_are_those_of_the_rounds(tmp_path: Path) -> None:
    taken = [5.0] * 10 + [1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    run = read_split_run(make_split_run(tmp_path / "a", staleness=0, taken=taken))
    steady = run.steady()
    # After a third (7 steps of 20): two differences of 5 s in the first epoch, nine of the second.
    values = sorted([5, 5, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    assert (steady.low, steady.median, steady.high) == (4.5, values[5], 7.5)


def test_too_short_a_run_has_no_steady_time(tmp_path: Path) -> None:
    folder = make_split_run(tmp_path / "a", staleness=5, taken=[1.0] * 12)
    message = (
        f"{folder / 'iterations.csv'}: no 2 steps in a row with 0 under way after the first third "
        "of 12 steps; train more of them"
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_split_run(folder).steady()


def test_run_without_tests_has_no_accuracy(tmp_path: Path) -> None:
    run = read_split_run(make_split_run(tmp_path / "a", accuracies=[None]))
    assert run.steady().median == 1
    with pytest.raises(ConfigError, match="column test_accuracy is empty: this run tested nothing"):
        _ = run.best_accuracy


@pytest.mark.parametrize("name", ["result.json", "epochs.csv", "iterations.csv"])
def test_unfinished_run_is_named(tmp_path: Path, name: str) -> None:
    folder = make_split_run(tmp_path / "a")
    (folder / name).unlink()
    message = f"{folder / name} does not exist: finish this run first"
    with pytest.raises(DataError, match=re.escape(message)):
        read_split_run(folder)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("result.json", "{", "", "is not JSON"),
        ("result.json", '"slowdown": 4', '"slow": 4', "has no spec.edge.slowdown; delete"),
        ("result.json", '"title": "Wi-Fi", ', "", "has no spec.context.title; delete"),
        ("result.json", '"timing": "emulated"', '"timing": "guessed"', "spec.timing is 'guessed'"),
        ("epochs.csv", "training_s", "train_s", "has no column training_s; delete the folder"),
        ("epochs.csv", "0.6,10", "fast,10", "column test_accuracy, row 1 is not a finite number"),
        ("epochs.csv", "\n2,", "\n3,", "column epoch must count 1, 2, ... without gap"),
        ("epochs.csv", "19.0", "-19.0", "holds a negative duration"),
        ("iterations.csv", "late", "delay", "has no column late; delete the folder"),
        ("iterations.csv", "uplink,", "up,", "has no column uplink; delete the folder"),
        ("iterations.csv", "\n3,1,13.0", "\n3,1,", "column seconds, row 4 is not a finite number"),
        ("iterations.csv", "\n3,1", "\n4,1", "column step must count 0, 1, ... without gap"),
        ("iterations.csv", "\n3,1,13.0", "\n3,1,11.5", "column seconds must not fall; delete"),
        ("iterations.csv", "2400000.0", "quick", "column up_rate, row 2 is not a finite number"),
    ],
)
def test_damaged_run_is_named_with_its_place(
    tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    path = edit(make_split_run(tmp_path / "a"), name, old, new)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + re.escape(message)):
        read_split_run(path.parent)


def test_run_without_a_step_is_refused(tmp_path: Path) -> None:
    path = make_split_run(tmp_path / "a") / "iterations.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match=re.escape(f"{path} holds no step; delete the folder")):
        read_split_run(path.parent)


def test_damaged_profile_is_named(tmp_path: Path) -> None:
    path = make_profile(tmp_path / "edge.json")
    assert read_profile(path).content["blocks"] == 3
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"forward_s": [0.1]}))
    with pytest.raises(DataError, match=r"forward_s has 1 entries, must have 3; delete it"):
        read_profile(path)
    del content["codecs"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=re.escape(f"profile {path} has no codecs; delete it")):
        read_profile(path)
    path.unlink()
    with pytest.raises(DataError, match=re.escape(f"profile {path} cannot be read")):
        read_profile(path)
