"""Federated training from Snakemake: a server, two parties, emulated links, figures."""

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from .conftest import Call, jobs_planned, snakemake_command

pytestmark = pytest.mark.slow

CONFIG = f"--configfile={Path(__file__).with_name('federated_tiny.yaml')}"
FIGURES = ("din_auc", "din_staleness")
TARGETS = [f"figures/{name}.pdf" for name in FIGURES]
RUN = "results/tiny/local/federated/5g/compressed-seed0"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A folder in which the tiny figures have been made."""
    folder = tmp_path_factory.mktemp("federated")
    subprocess.run(snakemake_command(folder, *TARGETS, CONFIG), env=environment, check=True)
    return folder


def test_figures_are_made_from_nothing_with_their_numbers_beside_them(finished: Path) -> None:
    for name in FIGURES:
        for ending in ("pdf", "png", "csv"):
            assert (finished / f"figures/{name}.{ending}").stat().st_size > 100
    auc = pd.read_csv(finished / "figures/din_auc.csv")
    assert list(auc["scheme"].unique()) == ["compressed", "centralised"]
    assert dict(zip(auc["scheme"], auc["timing"], strict=True)) == {
        "compressed": "emulated",
        "centralised": "measured",
    }
    assert auc["test_auc"].between(0.3, 1).all()
    assert list(pd.read_csv(finished / "figures/din_staleness.csv")["K"]) == [0, 2]


def test_a_result_has_every_party_and_its_link(finished: Path) -> None:
    result = json.loads((finished / RUN / "result.json").read_text())
    assert result["provenance"]["kind"] == "emulated"
    assert {name: link["context"] for name, link in result["links"].items()} == {
        "a": "5g",
        "b": "5g",
    }
    parties = pd.read_csv(finished / RUN / "parties.csv")
    assert list(parties["party"]) == ["a", "b", "a", "b"]
    # 8 bit up, float32 down: of 48 numbers for each of 64 samples, in 12 steps.
    assert parties["up_bytes"].between(12 * 64 * 48, 1.5 * 12 * 64 * 48).all()
    assert parties["down_bytes"].between(4 * 12 * 64 * 48, 4.5 * 12 * 64 * 48).all()


def test_made_again_there_is_nothing_to_do(finished: Path, snakemake: Call) -> None:
    said = snakemake(*TARGETS, CONFIG, folder=finished)
    assert said.returncode == 0
    assert "Nothing to be done" in said.stdout


def test_another_slowdown_of_a_party_trains_again_what_sends(
    finished: Path, snakemake: Call
) -> None:
    slower = finished / "slower.yaml"
    slower.write_text("federated: {parties: {b: {slowdown: 4}}}\n")
    words = ["--dry-run", "--configfile", CONFIG.partition("=")[2], str(slower)]
    planned = jobs_planned(snakemake(TARGETS[1], *words, folder=finished).stdout)
    assert planned == {"federated_run_spec": 2, "federated_run": 2, "figure": 1}
