"""Runs as jobs of a real Slurm: the same bits, also when the node dies."""

import csv
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from core.bench.slurm_cluster import STATUS, Slurm, is_installed, wait

from .conftest import ROOT, TINY, snakemake_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_installed(), reason="Slurm is not installed, or not for this user"),
]

RUNS = "results/tiny/local/torch/efficientnet_lite0-elpv"
RESULT = f"{RUNS}/full-seed0/result.json"
SNAPSHOTS = f"{RUNS}/full-seed0.snapshots"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    slurm = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny setting with PyTorch, long enough to be stopped in the middle."""
    tiny = yaml.safe_load(TINY.read_text()) | {"framework": "torch"}
    tiny["training"] |= {"epochs": 2, "snapshot_minutes": 0.01}
    path = tmp_path_factory.mktemp("config") / "long.yaml"
    path.write_text(yaml.safe_dump(tiny))
    return path


def on_slurm(folder: Path, *words: str) -> list[str]:
    command = snakemake_command(folder, *words)[:-1]
    command = [word for word in command if not word.startswith("--cores")]
    return [
        *command,
        f"--workflow-profile={ROOT / 'profiles' / 'slurm'}",
        *STATUS,
    ]


def numbers(folder: Path) -> list[dict[str, str]]:
    """Of every epoch, without times."""
    with (folder / RUNS / "full-seed0/epochs.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if not k.endswith("_s")} for row in rows]


def test_a_run_whose_node_dies_goes_on_at_another_with_the_bits_of_a_local_one(
    cluster: Slurm, config: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    there, here, log = tmp_path / "there", tmp_path / "here", tmp_path / "snakemake.log"
    reached = {**environment, "PATH": f"{cluster.path}:{environment['PATH']}"}
    words = (RESULT, f"--configfile={config}")
    with log.open("w") as said:
        running = subprocess.Popen(on_slurm(there, *words), env=reached, stdout=said, stderr=said)
    try:
        wait(lambda: any((there / SNAPSHOTS).glob("step-*")) or running.poll() is not None, 300)
        assert running.poll() is None, log.read_text()
        [job, node] = cluster("squeue", "-h", "-o", "%i %N").split()
        cluster.kill(node)
        # Slurm lets a job that lost its node wait for two minutes.
        wait(lambda: "PENDING" in cluster("squeue", "-h", "-o", "%T"))
        cluster("scontrol", "update", f"jobid={job}", "starttime=now")
        assert running.wait(300) == 0, log.read_text()
    finally:
        running.kill()
    result = json.loads((there / RESULT).read_text())
    assert result["resumed"] == 1
    # Data, weights, profile and run; specs are written where Snakemake runs.
    assert log.read_text().count("has been submitted") == 4

    for part in ("data", "weights", "tiny/local/torch/profiles"):
        shutil.copytree(there / "results" / part, here / "results" / part)
    subprocess.run(snakemake_command(here, *words), env=environment, check=True)
    assert numbers(here) == numbers(there)
    assert json.loads((here / RESULT).read_text())["provenance"] == result["provenance"]
