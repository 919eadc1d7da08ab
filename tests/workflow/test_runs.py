"""The workflow from end to end, and stopped on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import yaml

from core.training.run_folder import only_one

from .conftest import ROOT, TINY, Call, jobs_planned, snakemake_command

pytestmark = pytest.mark.slow

PROJECT_PATH = os.environ | {"PYTHONPATH": str(ROOT)}
TARGET = "figures/fig15a.pdf"
CONFIG = f"--configfile={TINY}"
TASK = "results/tiny/local/tensorflow/efficientnet_lite0-elpv"
LONG = "results/tiny/local/torch/efficientnet_lite0-elpv/elastic-rho0.5-seed0"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """A folder in which the tiny figure has been made."""
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run(snakemake_command(folder, TARGET, CONFIG), env=environment, check=True)
    return folder


def test_a_figure_is_made_from_nothing_with_its_numbers_beside_it(finished: Path) -> None:
    for ending in ("pdf", "png", "csv"):
        assert (finished / f"figures/fig15a.{ending}").stat().st_size > 100
    for run in ("elastic-rho0.5-seed0", "full-seed0", "head-seed0", "bn_bias-seed0"):
        result = json.loads((finished / TASK / run / "result.json").read_text())
        assert result["spec"]["scale"] == "tiny"
        assert result["provenance"]["kind"] == "measured"


def test_made_again_there_is_nothing_to_do(finished: Path, snakemake: Call) -> None:
    said = snakemake(TARGET, CONFIG, folder=finished)
    assert said.returncode == 0
    assert "Nothing to be done" in said.stdout


def test_drawing_again_trains_nothing(finished: Path, snakemake: Call) -> None:
    (finished / TARGET).unlink()
    planned = snakemake(TARGET, CONFIG, "--dry-run", folder=finished).stdout
    assert set(jobs_planned(planned)) == {"figure"}
    assert snakemake(TARGET, CONFIG, folder=finished).returncode == 0


def test_a_bundle_draws_the_figure_elsewhere_without_data_weights_or_training(
    finished: Path, snakemake: Call, tmp_path: Path
) -> None:
    core, bundle, there = [sys.executable, "-m", "core"], tmp_path / "b.tar.gz", tmp_path / "there"
    made = ["bundle", "--out", str(bundle), "--configfile", str(TINY)]
    subprocess.run([*core, *made], cwd=finished, env=PROJECT_PATH, check=True)
    subprocess.run([*core, "verify", bundle, "--into", there], env=PROJECT_PATH, check=True)
    assert not (there / "results/data").exists()
    wanted = (there / "figures/fig15a.csv").read_bytes()
    for ending in ("pdf", "png", "csv"):
        (there / f"figures/fig15a.{ending}").unlink()
    again = (TARGET, "claims", f"--configfile={there / 'configuration.yaml'}")
    planned = jobs_planned(snakemake(*again, "--dry-run", folder=there).stdout)
    assert planned == {"figure": 1, "claims": 1, "claims_config": 1}
    done = snakemake(*again, folder=there)
    assert done.returncode == 0, done.stdout
    assert (there / "figures/fig15a.csv").read_bytes() == wanted
    assert "tiny scale: another setting" in (there / "results/claims.md").read_text()


# Other figures, about the runs of figure 15a.
SHARED = {
    "fig13": {"model": ["resnet50"], "vary": [{"rho": [0.5]}]},
    "fig17a": {"schemes": ["elastic", "full", "head", "bn_bias"], "vary": [{"rho": [0.5]}]},
    "fig18": {"vary": [{"rho": [0.5]}]},
    "fig21a": {"vary": [{"rho": [0.5]}]},
    "fig22a": {"schemes": ["elastic", "full"], "vary": [{"rho": [0.5]}]},
    "fig23b": {"schemes": ["elastic", "full"], "vary": [{"rho": [0.5]}]},
    "measure_trace": {"vary": [{"rho": [0.5]}]},
    "table1": {"model": ["resnet50"], "vary": [{"rho": [0.5]}]},
    "speedup": {
        "kind": "speedup_table",
        "dataset": ["caltech_birds2011"],
        "model": ["resnet50"],
        "device": "jetson_tx2",
        "schemes": ["elastic", "full", "head", "bn_bias"],
    },
}


def test_other_kinds_of_figures_are_drawn_from_the_same_runs(
    finished: Path, snakemake: Call, tmp_path: Path
) -> None:
    other = yaml.safe_load(TINY.read_text()) | {"figures": SHARED}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    words = [*(f"figures/{name}.pdf" for name in SHARED), f"--configfile={tmp_path / 'other.yaml'}"]
    planned = snakemake(*words, "--dry-run", folder=finished).stdout
    assert jobs_planned(planned) == {"figure": len(SHARED)}
    done = snakemake(*words, folder=finished)
    assert done.returncode == 0, done.stdout
    bars = pd.read_csv(finished / "figures/fig17a.csv")
    accuracy = bars[bars.quantity.str.contains("accuracy")].set_index("scheme").y
    for run, scheme in (("full-seed0", "full"), ("elastic-rho0.5-seed0", "elastic")):
        epochs = pd.read_csv(finished / TASK / run / "epochs.csv")
        assert accuracy[scheme] == pytest.approx(100 * epochs.test_accuracy.max())
    peaks = pd.read_csv(finished / "figures/fig22a.csv")
    assert (peaks[peaks.quantity == "peak memory (GiB)"].y > 0.1).all()
    costs = pd.read_csv(finished / "figures/fig23b.csv")
    energy = costs[costs.quantity.str.startswith("energy")]
    assert (energy.y.isna() == energy.missing.notna()).all()  # joules, or the reason
    recorded = pd.read_csv(finished / "figures/measure_trace.csv")
    assert recorded["memory (MiB)"].max() > 100
    assert {"begin", "selection", "epoch", "snapshot"} <= set(recorded.event)
    maps = pd.read_csv(finished / "figures/fig21a.csv")
    assert 0 < maps["selected"].sum() < len(maps)


def test_pytorch_trains_the_same_figure(finished: Path, snakemake: Call) -> None:
    words = ("figures/fig15a_ego.pdf", CONFIG, "--config", "framework=torch")
    done = snakemake(*words, folder=finished)
    assert done.returncode == 0, done.stdout
    run = finished / TASK.replace("tensorflow", "torch") / "elastic-rho0.5-seed0"
    result = json.loads((run / "result.json").read_text())
    assert "torch" in result["versions"]
    assert result["selections"][0]["tensors"]
    assert pd.read_csv(run / "epochs.csv")["multiply_adds"].gt(0).all()


def test_another_budget_trains_only_the_elastic_run(
    finished: Path, snakemake: Call, tmp_path: Path
) -> None:
    other = yaml.safe_load(TINY.read_text()) | {"elastic": {"rho": 0.6}}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    config = f"--configfile={tmp_path / 'other.yaml'}"
    planned = snakemake(TARGET, config, "--dry-run", folder=finished).stdout
    assert set(jobs_planned(planned)) == {"figure", "run", "run_spec"}, planned
    assert "Training elastic-rho0.6-seed0" in planned
    assert "Training full" not in planned


def test_other_training_measures_the_device_again_before_it_trains(
    finished: Path, snakemake: Call, tmp_path: Path
) -> None:
    other = yaml.safe_load(TINY.read_text())
    other["training"]["epochs"] = 2
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    config = f"--configfile={tmp_path / 'other.yaml'}"
    planned = snakemake(TARGET, config, "--dry-run", folder=finished).stdout
    assert set(jobs_planned(planned)) == {"figure", "profile", "profile_spec", "run", "run_spec"}


def test_the_other_time_axis_only_draws_again(
    finished: Path, snakemake: Call, tmp_path: Path
) -> None:
    other = yaml.safe_load(TINY.read_text()) | {"time_axis": {"testing": "exclude"}}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    config = f"--configfile={tmp_path / 'other.yaml'}"
    planned = snakemake(TARGET, config, "--dry-run", folder=finished).stdout
    assert set(jobs_planned(planned)) == {"figure"}


def test_a_run_that_another_machine_has_is_waited_for(finished: Path, tmp_path: Path) -> None:
    """Another machine of a cluster, which shares the folder and not the lock of the device."""
    folder = finished / TASK / "full-seed0"
    command = [sys.executable, "-m", "core", "run", folder / "spec.yaml", "--out", folder]
    elsewhere = PROJECT_PATH | {"TMPDIR": str(tmp_path)}
    with only_one(folder):
        second = subprocess.Popen(command, cwd=finished, env=elsewhere, stderr=subprocess.PIPE)
        assert second.stderr is not None
        assert b"waiting for another process that holds" in second.stderr.readline()
    assert b"is finished already" in second.communicate()[1]
    assert second.returncode == 0


def wait_for_training(folder: Path) -> None:
    """Until the elastic run has written a snapshot inside an epoch."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if list(folder.glob(f"{LONG}.snapshots/step-*")):
            return
        time.sleep(0.05)
    raise AssertionError("training never began")


@pytest.fixture
def long_run(tmp_path: Path) -> Path:
    """A configuration in which the elastic run is long enough to be stopped in an epoch."""
    tiny = yaml.safe_load(TINY.read_text())
    tiny["framework"] = "torch"  # starts sooner
    tiny["training"] |= {"epochs": 4, "snapshot_minutes": 0.01}
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(tiny))
    return tmp_path / "long.yaml"


@pytest.fixture
def training(
    finished: Path, environment: dict[str, str], tmp_path: Path, long_run: Path
) -> "Iterator[tuple[Path, subprocess.Popen[bytes]]]":
    """A folder, and the Snakemake that trains there in a session of its own."""
    folder = tmp_path / "work"
    (folder / "results").mkdir(parents=True)
    for shared in ("data", "weights"):
        (folder / "results" / shared).symlink_to(finished / "results" / shared)
    command = snakemake_command(folder, "figures/fig15a_ego.pdf", f"--configfile={long_run}")
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        wait_for_training(folder)
        yield folder, process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_with_all_its_processes_the_same_command_goes_on(
    training: "tuple[Path, subprocess.Popen[bytes]]",
    snakemake: Call,
    long_run: Path,
    way: signal.Signals,
) -> None:
    folder, process = training
    os.killpg(process.pid, way)
    assert process.wait() != 0
    ended = snakemake("figures/fig15a_ego.pdf", f"--configfile={long_run}", folder=folder)
    assert ended.returncode == 0, ended.stdout
    assert "going on from a snapshot" in ended.stdout
    result = json.loads((folder / LONG / "result.json").read_text())
    assert result["resumed"] == 1


def test_a_run_whose_snakemake_was_killed_is_waited_for_and_not_trained_twice(
    training: "tuple[Path, subprocess.Popen[bytes]]", snakemake: Call, long_run: Path
) -> None:
    folder, process = training
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    ended = snakemake("figures/fig15a_ego.pdf", f"--configfile={long_run}", folder=folder)
    assert ended.returncode == 0, ended.stdout
    assert "waiting for another process that holds" in ended.stdout
    assert "is finished already" in ended.stdout
    result = json.loads((folder / LONG / "result.json").read_text())
    assert result["resumed"] == 0
