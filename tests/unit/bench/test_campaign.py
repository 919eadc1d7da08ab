"""The benchmarks of what is around a campaign: its papers, and Slurm."""

import json
from pathlib import Path

import pytest

from core.bench import campaign, slurm
from core.errors import DataError, MissingPackageError
from core.planning.configuration import read
from core.planning.jobs import planned
from core.results import TRAINING_SECONDS
from core.spec import RunSpec

COLUMNS = ("epoch", "test_accuracy", "test_loss", "multiply_adds", *TRAINING_SECONDS, "testing_s")
EPOCHS = f"{','.join(COLUMNS)}\n{','.join(['1'] * len(COLUMNS))}\n"


def test_without_a_finished_run_there_is_nothing_to_measure(tmp_path: Path):
    with pytest.raises(DataError, match=r"no finished run; `snakemake campaign` makes some"):
        campaign.measured(tmp_path)


@pytest.mark.slow
def test_report_claims_bundle_and_verification_of_a_folder_are_timed(tmp_path: Path):
    (run,) = planned(read([], []), ["fig15a_ego"])
    folder = tmp_path / run.folder
    folder.mkdir(parents=True)
    provenance = {"digest": RunSpec(run.spec).digest, "kind": "measured", "device": "local"}
    result = {"spec": run.spec, "provenance": provenance | {"recipe": 2}, "commit": "0123456789"}
    (folder / "result.json").write_text(json.dumps(result | {"machine": {}, "resumed": 0}))
    (folder / "epochs.csv").write_text(EPOCHS)
    found = campaign.measured(tmp_path)
    assert found.figures["runs"] == 1
    for part in ("report", "claims", "bundle", "verify"):
        assert found.figures[part]["seconds"] > 0
        assert found.figures[part]["mib"] > 0
    assert found.figures["bundle"]["mib"] == found.figures["verify"]["mib"]
    assert found.exceeded() == {}
    # What was measured leaves nothing behind.
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_numbers_of_two_runs_are_compared_without_times(tmp_path: Path):
    for name, row in (("a", "1,0.5,9.1"), ("b", "1,0.5,7.3"), ("c", "1,0.25,9.1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "epochs.csv").write_text(f"epoch,test_accuracy,training_s\n{row}\n")
    assert slurm.different(tmp_path / "a", tmp_path / "b") == 0
    assert slurm.different(tmp_path / "a", tmp_path / "c") == 1
    (tmp_path / "b" / "epochs.csv").write_text("epoch,test_accuracy,training_s\n")
    assert slurm.different(tmp_path / "a", tmp_path / "b") == 2


def test_without_slurm_its_benchmark_says_what_it_needs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(slurm, "is_installed", lambda: False)
    with pytest.raises(MissingPackageError, match=r"needs Slurm \(slurmctld, slurmd, munge\)"):
        slurm.run()
