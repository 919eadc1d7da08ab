"""Reading the folder of a run, and cumulative time."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import DataError
from core.figures.results import read_run, tidy

MakeRun = Callable[..., Path]


def edit(folder: Path, old: str, new: str) -> Path:
    """Replace text in the epochs of a run; return the file."""
    path = folder / "epochs.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_hours_are_the_recorded_seconds_added_up_with_and_without_testing(
    make_run: MakeRun,
) -> None:
    run = read_run(make_run())
    # Seconds of training by hand: 1 + 4 + 6 + 9 + 0.5, 1 + 4 + 6, 1.5 + 4.5 + 6.5 + 1 + 0.25.
    assert (3600 * run.hours(testing=False)).tolist() == pytest.approx([20.5, 31.5, 45.25])
    # And 2, 2, 2.5 of testing. The first epoch keeps its own duration, however long.
    assert (3600 * run.hours(testing=True)).tolist() == pytest.approx([22.5, 35.5, 51.75])


def test_table_holds_percent_for_accuracy_and_loss_as_it_is(make_run: MakeRun) -> None:
    run = read_run(make_run("elastic"))
    accuracy = tidy([run], ["E"], "test_accuracy", testing=True)
    assert accuracy["y"].tolist() == pytest.approx([70, 78, 83])
    assert set(accuracy["quantity"]) == {"test_accuracy (%)"}
    loss = tidy([run], ["E"], "test_loss", testing=True)
    assert loss["y"].tolist() == [0.62, 0.5, 0.45]
    assert set(loss["quantity"]) == {"test_loss"}


def test_run_knows_scheme_budget_timing_and_the_processor_of_this_host(make_run: MakeRun) -> None:
    run = read_run(make_run("elastic"))
    assert (run.scale, run.scheme, run.rho, run.timing) == ("demo", "elastic", 0.5, "measured")
    assert run.device == "this host, Intel Xeon Processor @ 2.10GHz"
    assert read_run(make_run("full")).rho is None


def test_board_is_named_by_its_title_alone(make_run: MakeRun) -> None:
    board = {"name": "jetson_tx2", "title": "NVIDIA Jetson TX2"}
    assert read_run(make_run(device=board)).device == "NVIDIA Jetson TX2"


@pytest.mark.parametrize("name", ["result.json", "epochs.csv"])
def test_unfinished_run_is_named(make_run: MakeRun, name: str) -> None:
    folder = make_run()
    (folder / name).unlink()
    message = f"{folder / name} does not exist: finish this run first"
    with pytest.raises(DataError, match=re.escape(message)):
        read_run(folder)


@pytest.mark.parametrize("name", ["result.json", "epochs.csv"])
def test_damaged_file_is_named(make_run: MakeRun, name: str) -> None:
    folder = make_run()
    for content in (b"", b'"\xff\xfe{,,\n\n'):
        (folder / name).write_bytes(content)
        with pytest.raises(DataError, match=re.escape(f"{folder / name} is not ")):
            read_run(folder)


def test_missing_key_of_the_result_is_named(make_run: MakeRun) -> None:
    path = make_run() / "result.json"
    result = json.loads(path.read_text())
    del result["spec"]["device"]["timing"]
    path.write_text(json.dumps(result))
    with pytest.raises(DataError, match=re.escape(f"{path} has no spec.device.timing")):
        read_run(path.parent)
    path.write_text("[]")
    with pytest.raises(DataError, match=re.escape(f"{path} has no spec.scale")):
        read_run(path.parent)


def test_kind_of_timing_is_one_of_three(make_run: MakeRun) -> None:
    folder = make_run(device={"timing": "guessed"})
    message = "spec.device.timing is 'guessed', allowed: measured, emulated, simulated"
    with pytest.raises(DataError, match=re.escape(f"{folder / 'result.json'}: {message}")):
        read_run(folder)


def test_missing_column_is_named(make_run: MakeRun) -> None:
    path = edit(make_run(), "testing_s", "testing_seconds")
    with pytest.raises(DataError, match=re.escape(f"{path} has no column testing_s")):
        read_run(path.parent)


def test_run_without_an_epoch_is_refused(make_run: MakeRun) -> None:
    path = make_run() / "epochs.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match=re.escape(f"{path} holds no epoch")):
        read_run(path.parent)


@pytest.mark.parametrize("value", ["nan", "", "inf", "n/a", "fast"])
def test_value_that_is_no_number_is_named_with_its_place(make_run: MakeRun, value: str) -> None:
    path = edit(make_run(), "0.78", value)
    message = f"{path}: column test_accuracy, row 2 is not a finite number"
    with pytest.raises(DataError, match=re.escape(message)):
        read_run(path.parent)


@pytest.mark.parametrize("number", ["1", "3", "2.5"])
def test_lost_or_doubled_epoch_is_refused(make_run: MakeRun, number: str) -> None:
    path = edit(make_run(), "\n2,0.5", f"\n{number},0.5")
    message = f"{path}: column epoch must count 1, 2, ... without gap or repetition"
    with pytest.raises(DataError, match=re.escape(message)):
        read_run(path.parent)


def test_negative_duration_is_refused(make_run: MakeRun) -> None:
    path = edit(make_run(), "4.5", "-4.5")
    with pytest.raises(DataError, match=re.escape(f"{path} holds a negative duration")):
        read_run(path.parent)
