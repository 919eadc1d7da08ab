"""Split training from Snakemake: both sides, an emulated link, figures."""

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from .conftest import Call, jobs_planned, snakemake_command

pytestmark = pytest.mark.slow

TINY = Path(__file__).with_name("split_tiny.yaml")
CONFIG = f"--configfile={TINY}"
FIGURES = ("split_throughput", "split_profile", "split_simulated", "split_accuracy")
FIGURES += ("chairs_samples", "chairs_loss")
FIGURES += ("split_energy", "split_memory", "split_trace")
TARGETS = [f"figures/{name}.pdf" for name in FIGURES]
RUN = "results/tiny/local/split/imdb_bilstm/5g/context_aware-steps15-seed0"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A folder in which the tiny figures have been made."""
    folder = tmp_path_factory.mktemp("split")
    subprocess.run(snakemake_command(folder, *TARGETS, CONFIG), env=environment, check=True)
    return folder


def test_figures_are_made_from_nothing_with_their_numbers_beside_them(finished: Path) -> None:
    for name in FIGURES:
        for ending in ("pdf", "png", "csv"):
            assert (finished / f"figures/{name}.{ending}").stat().st_size > 100
    table = pd.read_csv(finished / "figures/split_throughput.csv")
    assert list(table["scheme"]) == ["context_aware", "serial", "all_edge"]
    assert set(table["timing"]) == {"emulated"}
    assert (table["seconds per step"] > 0).all()


def test_images_are_generated_and_no_accuracy_is_claimed(finished: Path) -> None:
    table = pd.read_csv(finished / "figures/chairs_samples.csv")
    assert table["squared error"].notna().sum() == 12
    losses = pd.read_csv(finished / "figures/chairs_loss.csv")
    assert set(losses["scheme"]) == {"context_aware", "all_edge"}
    assert (losses["test_loss"] > 0).all()
    run = finished / "results/tiny/local/split/chairs/5g/context_aware-seed0"
    assert json.loads((run / "result.json").read_text())["edge"]["peak_mib"] > 0


def test_the_whole_system_chose_a_cut_on_a_link_that_it_measured(finished: Path) -> None:
    result = json.loads((finished / RUN / "result.json").read_text())
    assert 0 <= result["choices"][0]["cut"] <= 5
    steps = pd.read_csv(finished / RUN / "iterations.csv")
    assert len(steps) == 15
    if result["choices"][-1]["cut"] < 5:
        assert steps["delay_s"].iloc[-1] > 0.008  # one way, of the context


def test_both_sides_say_what_they_cost(finished: Path) -> None:
    peaks = pd.read_csv(finished / "figures/split_memory.csv").set_index("side").y
    assert (peaks > 0.05).all()
    assert set(peaks.index) == {"Edge", "Cloud"}
    recorded = pd.read_csv(finished / "figures/split_trace.csv")
    assert set(recorded.side) == {"edge", "cloud"}
    assert {"begin", "epoch", "snapshot"} <= set(recorded[recorded.side == "edge"].event)
    cloud = json.loads((finished / RUN / "result.json").read_text())["cloud"]["measure"]
    assert cloud["energy"]["joules"] is None
    assert "shares a machine" in cloud["energy"]["why"]


def test_made_again_there_is_nothing_to_do(finished: Path, snakemake: Call) -> None:
    said = snakemake(*TARGETS, CONFIG, folder=finished)
    assert said.returncode == 0
    assert "Nothing to be done" in said.stdout


def test_a_new_slowdown_measures_no_profile_again(finished: Path, snakemake: Call) -> None:
    slower = finished / "slower.yaml"
    slower.write_text("split: {edge: {slowdown: 5}}\n")
    words = ["--dry-run", "--configfile", str(TINY), str(slower)]
    planned = jobs_planned(snakemake(TARGETS[0], *words, folder=finished).stdout)
    assert planned == {"split_run_spec": 3, "split_run": 3, "figure": 1}
