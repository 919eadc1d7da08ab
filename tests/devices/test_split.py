"""The edge of a run of split training on a board, the cloud here."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.devices.backoff import Backoff
from core.devices.dispatch import carry
from core.devices.hosts import Host, host
from core.devices.job import Job, base
from core.spec import RunSpec
from core.split import profiles
from core.split import run as split_run
from core.training.run_folder import snapshots
from tests.devices.conftest import NAME, Sshd
from tests.split.conftest import make_spec

pytestmark = pytest.mark.slow

OUT = Path("results/split")
STEPS = 10


@pytest.fixture
def board(sshd: Sshd, here: Path) -> Host:
    return host(NAME, sshd.hosts(here))


@pytest.fixture
def spec(here: Path, stripes: Path) -> RunSpec:
    """Two epochs, K = 2, a snapshot after every step, data and spec at relative paths."""
    content = make_spec("mobilenet_v3_large", cut=9, staleness=2, steps=STEPS // 2).content
    content["training"] |= {"snapshot_minutes": 1e-6, "test_samples": 4}
    content["edge"] = content["edge"] | {"name": NAME}
    shutil.copytree(stripes, here / "results/data")
    content["data"] = {"name": "stripes", "folder": "results/data", "size": 32, "classes": 2}
    found = RunSpec(content)
    OUT.mkdir(parents=True)
    found.save(OUT / "spec.yaml")
    return found


def start(here: Path) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "core", "devices", "run", NAME, "--"]
    words += ["run", str(OUT / "spec.yaml"), "--out", str(OUT)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=here, env=environment)


def losses(out: Path) -> list[tuple[str, str]]:
    with (out / "iterations.csv").open() as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


def unbroken(spec: RunSpec, here: Path) -> list[tuple[str, str]]:
    out = here / "unbroken"
    split_run.run(spec, out, 60)
    return losses(out)


def test_an_edge_on_a_board_trains_with_the_cloud_here_as_both_here_would(board, here, spec):
    process = start(here)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert f"the cloud of {OUT} waits here, at 127.0.0.1:" in said
    assert losses(here / OUT) == unbroken(spec, here)
    work = here / "board/work" / base()
    # Each side has its own: no snapshot and no key of the cloud went to the board.
    assert list((snapshots(work / OUT) / "edge").glob("step-*"))
    assert not (snapshots(work / OUT) / "cloud").exists()
    keys = sorted(path.name for path in (snapshots(work / OUT) / "certificates").iterdir())
    assert keys == ["ca.crt", "edge.crt", "edge.key"]
    mode = (snapshots(work / OUT) / "certificates/edge.key").stat().st_mode
    assert mode & 0o077 == 0
    assert (here / "board").stat().st_mode & 0o077 == 0


def test_the_laptop_with_the_cloud_dies_and_the_same_command_goes_on(board, here, spec):
    process = start(here)
    log = snapshots(here / "board/work" / base() / OUT) / "iterations.csv"
    deadline = time.monotonic() + 120
    while not (log.exists() and len(log.read_text().splitlines()) > 4):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    process = start(here)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert f"{OUT} runs on {NAME} already; watching it" in said
    assert losses(here / OUT) == unbroken(spec, here)


def test_blocks_are_profiled_on_a_board_without_any_data(board, here, spec):
    shutil.rmtree(here / "results/data")
    words = ["split", "profile", str(OUT / "spec.yaml"), "--side", "edge", "--repeats", "1"]
    job = Job.of([*words, "--out", "results/profiles/edge.json"], "main")
    carry(board, job, Backoff(first=0.1, patience=60))
    found = profiles.load(here / "results/profiles/edge.json")
    assert (found["blocks"], found["device"]["name"]) == (18, NAME)
