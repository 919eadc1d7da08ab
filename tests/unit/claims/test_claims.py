import csv
import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.claims.appendix import appendix
from core.claims.book import read_book
from core.claims.table import counts, markdown, rows, write
from core.claims.verdict import judge, reaches
from core.errors import ConfigError
from core.planning.configuration import BOOK, PROJECT, read

PAPER = PROJECT / "config/paper.yaml"


# The verdict.


@pytest.mark.parametrize(
    ("value", "direction", "reached"),
    [
        (94.9, "higher", False), (95.0, "higher", True), (150.0, "higher", True),
        (105.1, "lower", False), (105.0, "lower", True), (10.0, "lower", True),
        (94.9, "equal", False), (95.0, "equal", True),
        (105.0, "equal", True), (105.1, "equal", False),
    ],
)  # fmt: skip
def test_a_number_reaches_the_published_one_within_its_tolerance(value, direction, reached):
    assert reaches(value, 100.0, direction, 0.05) == reached


GOOD, BAD = 100.0, 50.0
TABLE = {
    (): "not run",
    (GOOD,): "reproduced",
    (BAD,): "not reproduced",
    (GOOD, GOOD): "reproduced",
    (BAD, BAD): "not reproduced",
    (GOOD, BAD): "within noise",  # their mean misses, one of them does not
    (GOOD, GOOD, 99.0): "reproduced",
}


@pytest.mark.parametrize(("values", "expected"), TABLE.items())
def test_the_verdict_over_its_whole_table(values, expected):
    assert judge(values, 100.0, "higher", 0.05, comparable=True) == expected
    other = "not comparable" if values else "not run"
    assert judge(values, 100.0, "higher", 0.05, comparable=False) == other
    mirrored = [200 - value for value in values]
    assert judge(mirrored, 100.0, "lower", 0.05, comparable=True) == expected


def test_nothing_that_is_not_comparable_is_ever_reproduced():
    for direction, tolerance in product(("higher", "lower", "equal"), (0.0, 0.5, 1.0)):
        assert judge([100.0] * 3, 100.0, direction, tolerance, False) == "not comparable"


# The book.


def shipped(*files: Path, words: tuple[str, ...] = ()) -> Any:
    return read(files, words)


@pytest.mark.parametrize("files", [(), (PAPER,)])
def test_every_shipped_claim_is_about_runs_that_exist(files):
    config = shipped(*files, words=("device=published",) if files else ())
    claims = read_book(config)
    assert len(claims) == len(yaml.safe_load(BOOK.read_text()))
    assert all(claim.run for claim in claims)


ENTRY = {
    "statement": "ElasticTrainer takes half of the hours",
    "source": "a paper",
    "figure": "fig15a",
    "run": {"scheme": "elastic"},
    "over": {"scheme": "full"},
    "metric": "hours",
    "published": 0.5,
    "direction": "lower",
    "tolerance": 0.1,
}


def book(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "claims.yaml"
    entry = {k: v for k, v in (ENTRY | changes).items() if v is not None}
    path.write_text(yaml.safe_dump({"half": entry}))
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"figure": "fig99"}, r"half\.figure = 'fig99': there is no such figure"),
        ({"run": {"scheme": "elastic", "rho": 0.9}}, r"half\.run = .*: figure fig15a has no such"),
        ({"over": {"scheme": "prunetrain"}}, r"half\.over = .*: figure fig15a has no such run"),
        ({"metric": "speed"}, r"half\.metric = 'speed': no run has that \(known: best_accuracy"),
        ({"direction": None}, "half: missing direction"),
        ({"tolerance": None}, "half: missing tolerance"),
        ({"tolerance": 2}, r"half\.tolerance = 2: must be"),
        ({"accuracy": 60}, "accuracy belongs to metric hours_to"),
    ],
)  # fmt: skip
def test_a_claim_without_sense_is_an_error_that_names_it(tmp_path: Path, changes, said):
    with pytest.raises(ConfigError, match=said):
        read_book(shipped(), book(tmp_path, **changes))


# From runs to verdicts.


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_claim_run: Any) -> Any:
    """Write finished runs of the claim with each seed; its row."""
    monkeypatch.chdir(tmp_path)

    def run(hours: dict[str, list[float]], **changes: Any) -> dict[str, Any]:
        config = shipped(PAPER, words=("device=published",))
        path = book(tmp_path, **changes)
        (claim,) = read_book(config, path)
        for part, folders in (("elastic", claim.run), ("full", claim.over)):
            ((folder, *_),) = folders
            for seed, each in enumerate(hours[part]):
                make_claim_run(folder.with_name(folder.name.replace("seed0", f"seed{seed}")), each)
        (claim,) = read_book(config, path)
        return rows([claim])[0]

    return run


@pytest.fixture
def make_claim_run() -> Any:
    """Write a run of two epochs that takes so many hours in all."""

    def make(folder: Path, hours: float) -> None:
        scheme = {"name": folder.name.split("-")[0], "rho": 0.5}
        spec = {
            "kind": "elastic", "scale": make.scale, "seed": int(folder.name[-1]),
            "framework": "tensorflow",
            "device": {"name": "jetson_tx2", "title": "TX2", "timing": make.timing},
            "model": {"name": "resnet50"}, "data": {"name": "caltech_birds2011"}, "scheme": scheme,
        }  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").write_text(json.dumps({"spec": spec, "machine": {}}))
        parts = "data_s forward_s backward_update_s compile_s selection_s testing_s".split()
        columns = (
            "epoch train_loss train_accuracy test_loss test_accuracy selected_tensors "
            "selected_parameters multiply_adds snapshot_s"
        ).split()
        line = dict.fromkeys(columns, 0.5) | dict.fromkeys(parts, hours * 3600 / 2 / 5)
        with (folder / "epochs.csv").open("w") as file:
            writer = csv.DictWriter(file, line)
            writer.writeheader()
            writer.writerows([line | {"epoch": 1}, line | {"epoch": 2}])

    make.scale, make.timing = "paper", "measured"
    return make


def test_a_changed_result_changes_its_verdict(ran):
    found = ran({"elastic": [1.0], "full": [2.0]})
    assert (found["verdict"], found["measured"], found["seeds"]) == ("reproduced", 0.5, 1)
    assert found["timing"] == "measured"
    assert ran({"elastic": [1.5], "full": [2.0]})["verdict"] == "not reproduced"


def test_a_quotient_is_taken_seed_by_seed_and_has_its_spread(ran):
    found = ran({"elastic": [1.0, 1.4, 1.0], "full": [2.0, 2.0]})
    assert found["seeds"] == 2  # the third has no full training
    assert (found["lowest"], found["highest"]) == (pytest.approx(0.5), pytest.approx(0.7))
    assert found["verdict"] == "within noise"


def test_demo_scale_and_emulated_times_are_never_held_against_the_paper(ran, make_claim_run):
    make_claim_run.scale = "demo"
    found = ran({"elastic": [1.0], "full": [2.0]})
    assert found["verdict"] == "not comparable"
    assert found["why"] == "demo scale: another setting than the published one"
    make_claim_run.scale, make_claim_run.timing = "paper", "emulated"
    assert ran({"elastic": [1.0], "full": [2.0]})["why"] == "times are emulated"


def test_hours_of_another_board_are_not_comparable_and_their_ratio_is(ran):
    hours = {"elastic": [1.0], "full": [2.0]}
    assert ran(hours, device="raspberry_pi_4b")["verdict"] == "reproduced"
    (claim,) = read_book(
        shipped(PAPER, words=("device=published",)),
        book(Path.cwd(), over=None, device="raspberry_pi_4b"),
    )
    found = rows([claim])[0]
    assert found["verdict"] == "not comparable"
    assert found["why"] == "hours of jetson_tx2, published of raspberry_pi_4b"


def test_what_was_not_run_says_so_and_the_table_holds_every_claim(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = rows(read_book(shipped(PAPER, words=("device=published",))))
    assert {each["verdict"] for each in found} == {"not run"}
    assert counts(found) == f"{len(found)} not run"
    write(found, tmp_path / "claims")
    assert len(json.loads((tmp_path / "claims.json").read_text())) == len(found)
    with (tmp_path / "claims.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(found)
    assert (tmp_path / "claims.md").read_text() == markdown(found)
    assert markdown(found).count("\n| ") == len(found) + 1


def test_the_appendix_numbers_every_claim_and_says_how_it_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = shipped(PAPER, words=("device=published",))
    claims = read_book(config)
    text = appendix(config, claims, ["--configfile config/paper.yaml"])
    assert [f"**C{i}**" in text for i in range(1, len(claims) + 1)] == [True] * len(claims)
    for figure in {claim.entry["figure"] for claim in claims}:
        command = f"snakemake figures/{figure}.pdf --cores 1 --configfile config/paper.yaml"
        assert text.count(command) == 1
    first = next(line for line in text.splitlines() if "**C1**" in line)
    assert "Figure 15a" in first
    assert "best test accuracy (%) at least 64.6 (published 68)" in first
    # Four runs of figure 15a, read off the paper: 1.92 + 3.59 + 1.31 + 2.47 h.
    assert "32 human-minutes, then 9.3 h on jetson_tx2. Shows C1, C2, C3, C4." in text


def test_what_was_not_metered_is_no_number(ran, make_claim_run):
    found = ran({"elastic": [1.0], "full": [2.0]}, metric="joules")
    assert found["verdict"] == "not run"
    assert found["measured"] is None
