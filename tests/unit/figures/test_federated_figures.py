"""Figures of federated training, drawn from recorded runs."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from core.bench import din
from core.errors import ConfigError, DataError
from core.figures.draw import draw
from core.figures.federated_results import read_federated_run
from tests.unit.figures.federated_recorded import EPOCHS, make_federated_run

SCHEMES = ["compressed", "serial", "centralised"]
AUC: dict[str, Any] = {"kind": "din_auc", "schemes": SCHEMES, "contexts": ["wifi"]}
STALENESS: dict[str, Any] = {
    "kind": "din_staleness",
    "schemes": ["replay"],
    "contexts": ["wifi"],
    "vary": {"staleness": [0, 2, 5]},
}


def drawn(entry: dict[str, Any], paths: list[Path], folder: Path) -> pd.DataFrame:
    draw("din", entry, paths, {}, {"testing": "exclude"}, folder / "din.pdf")
    assert (folder / "din.pdf").read_bytes().startswith(b"%PDF")
    return pd.read_csv(folder / "din.csv")


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """In no order."""
    return [make_federated_run(tmp_path, s, seed) for seed in (1, 0) for s in reversed(SCHEMES)]


def test_auc_has_a_point_for_each_scheme_seed_and_epoch(runs: list[Path], tmp_path: Path) -> None:
    table = drawn(AUC, runs, tmp_path)
    assert len(table) == 3 * 2 * EPOCHS
    assert list(table["scheme"].unique()) == SCHEMES
    own = table[(table["scheme"] == "serial") & (table["seed"] == 1)]
    assert own["hours"].tolist() == pytest.approx([10 / 3600, 20 / 3600, 30 / 3600])
    assert own["sent (MiB)"].tolist() == pytest.approx([8, 16, 24])
    assert own["test_auc"].tolist() == pytest.approx([0.63, 0.65, 0.67])
    assert set(table[table["scheme"] == "centralised"]["sent (MiB)"]) == {0}


def test_staleness_has_a_point_for_each_k(tmp_path: Path) -> None:
    runs = [
        make_federated_run(tmp_path, "replay", s, staleness=k) for k in (5, 0, 2) for s in (0, 1)
    ]
    table = drawn(STALENESS, runs, tmp_path)
    assert table["K"].tolist() == [0, 0, 2, 2, 5, 5]
    assert table["seconds per step"].tolist()[::2] == pytest.approx([1, 1 / 3, 1 / 6])
    assert table["last test_auc"].tolist()[:2] == pytest.approx([0.66, 0.67])


def test_runs_that_do_not_belong_together_are_refused(runs: list[Path], tmp_path: Path) -> None:
    other = make_federated_run(tmp_path / "other", "serial", 3, scale="demo")
    with pytest.raises(ConfigError, match="runs of more than one scale"):
        drawn(AUC, [*runs, other], tmp_path)
    with pytest.raises(ConfigError, match="no run of serial with seed 0: add its folder"):
        drawn(AUC, [run for run in runs if run.name != "serial-0-"], tmp_path)
    again = make_federated_run(tmp_path / "again", "serial", 0)
    with pytest.raises(ConfigError, match="two runs of the same"):
        drawn(AUC, [*runs, again], tmp_path)
    stranger = make_federated_run(tmp_path, "replay")
    with pytest.raises(ConfigError, match="ran replay, not in"):
        drawn(AUC, [*runs, stranger], tmp_path)
    with pytest.raises(ConfigError, match="has K = 5, not in"):
        drawn(STALENESS | {"vary": {"staleness": [0, 2]}}, [stranger], tmp_path)
    with pytest.raises(ConfigError, match="give the folder of at least one"):
        drawn(AUC, [], tmp_path)


def test_a_damaged_run_is_named(tmp_path: Path) -> None:
    run = make_federated_run(tmp_path, "serial")
    table = pd.read_csv(run / "parties.csv")
    table.iloc[:-1].to_csv(run / "parties.csv", index=False)
    with pytest.raises(DataError, match=r"parties\.csv has not one row for each epoch and party"):
        read_federated_run(run)
    table.assign(up_bytes="x").to_csv(run / "parties.csv", index=False)
    with pytest.raises(DataError, match="column up_bytes, row 1 is not a finite number"):
        read_federated_run(run)
    (run / "result.json").unlink()
    with pytest.raises(DataError, match="finish this run first"):
        read_federated_run(run)


def test_the_benchmark_compares_auc_seconds_and_bytes(tmp_path: Path, runs: list[Path]) -> None:
    slow = {
        ("serial", n): read_federated_run(
            make_federated_run(tmp_path / str(n), "serial", slowdown=n)
        )
        for n in (1, 2)
    }
    report = din.report([read_federated_run(run) for run in runs], slow)
    assert report.figures["auc"]["serial"] == {
        "mean": 0.665,
        "least": 0.66,
        "greatest": 0.67,
        "seeds": 2,
    }
    assert report.figures["auc_lost"]["serial"] == 0
    assert report.figures["seconds_per_epoch"] == {"serial": {"1x": 10.0, "2x": 10.0}}
    assert report.figures["bytes_per_epoch"]["serial"]["b"]["up_bytes"] == 2 * 2**20
    assert report.figures["bytes_per_epoch"]["centralised"] == {}
    assert report.exceeded() == {}


def test_the_benchmark_times_the_last_party_slower() -> None:
    keys = din.slower_keys(din.pipeline_runs.config())
    assert {key.name for (scheme, _), key in keys.items() if scheme == "serial"} == {
        "serial-seed0",
        "serial-slowdown2-seed0",
        "serial-slowdown4-seed0",
    }
