"""Whole runs through the command line: whatever dies in the middle, the same command ends with the
bits of a run that nothing happened to."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from core.spec import RunSpec
from core.split.config import SplitKey
from tests.split.conftest import make_spec

STEPS = 10
EMULATED = {
    "name": "fast",
    "title": "Fast",
    "timing": "emulated",
    "up": {"rate_mbit": 200, "delay_ms": 1, "jitter_ms": 0},
    "down": {"rate_mbit": 200, "delay_ms": 1, "jitter_ms": 0},
    "trace": None,
    "outages": [],
}

pytestmark = pytest.mark.slow


@pytest.fixture
def spec(stripes: Path) -> RunSpec:
    """Two short epochs over an emulated link, K = 2, a snapshot after every step."""
    content = make_spec("mobilenet_v3_large", cut=9, staleness=2, steps=STEPS // 2).content
    content["training"] |= {"snapshot_minutes": 1e-6, "test_samples": 4}
    content["data"] = {"name": "stripes", "folder": str(stripes), "size": 32, "classes": 2}
    content["context"] = EMULATED
    content["timing"] = "emulated"
    content["scheme"] |= {"uplink": "int4", "feedback": "published"}
    return RunSpec(content)


def start(spec: RunSpec, folder: Path, *words: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    spec.save(folder / "spec.yaml")
    command = [sys.executable, "-m", "core", "run", str(folder / "spec.yaml")]
    command += ["--out", str(folder / "run"), *words]
    environment = os.environ | {"TMPDIR": str(folder)}  # the lock of the device
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    _, said = process.communicate(timeout=240)
    assert process.returncode == code, said
    return said


def wait_for_step(folder: Path, step: int) -> None:
    """Until the edge has applied the gradient of a step."""
    file = folder / "run.snapshots" / "iterations.csv"
    deadline = time.monotonic() + 120
    while not (file.exists() and len(file.read_text().splitlines()) > step + 1):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def child(process: subprocess.Popen[str], word: str) -> psutil.Process:
    (found,) = [c for c in psutil.Process(process.pid).children() if word in c.cmdline()]
    return found


def end_of(folder: Path) -> dict[str, np.ndarray]:
    """Every array of both sides' last snapshots."""
    found = {}
    for side in ("edge", "cloud"):
        files = (folder / "run.snapshots" / side).glob("step-*.safetensors")
        last = max(files, key=lambda file: file.stat().st_mtime_ns)
        found |= {f"{side}/{name}": array for name, array in load_file(last).items()}
    return found


def losses(folder: Path) -> list[tuple[str, str]]:
    with (folder / "run" / "iterations.csv").open() as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[RunSpec], Path]:
    """The run that nothing happens to, once."""
    done: dict[str, Path] = {}

    def run(spec: RunSpec) -> Path:
        if spec.digest not in done:
            done[spec.digest] = tmp_path_factory.mktemp("unbroken")
            finish(start(spec, done[spec.digest]))
        return done[spec.digest]

    return run


@pytest.fixture
def same_as(unbroken: Callable[[RunSpec], Path]) -> Callable[[RunSpec, Path], None]:
    def check(spec: RunSpec, folder: Path) -> None:
        wanted, found = end_of(unbroken(spec)), end_of(folder)
        assert wanted.keys() == found.keys()
        differing = [
            name for name, array in wanted.items() if not np.array_equal(array, found[name])
        ]
        assert differing == []
        assert losses(folder) == losses(unbroken(spec))
        assert [step for step, _ in losses(folder)] == [str(i) for i in range(STEPS)]

    return check


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
@pytest.mark.parametrize("side", ["edge", "cloud", "link"])
def test_a_run_goes_on_whatever_dies(
    side: str, number: int, spec: RunSpec, tmp_path: Path, same_as: Callable[[RunSpec, Path], None]
) -> None:
    process = start(spec, tmp_path)
    wait_for_step(tmp_path, 3)
    if side == "edge":
        process.send_signal(number)
        process.wait(60)
        process = start(spec, tmp_path)
    else:
        child(process, "cloud" if side == "cloud" else "core.split.link").send_signal(number)
    finish(process)
    same_as(spec, tmp_path)


def test_ctrl_c_in_a_terminal_takes_a_snapshot_of_both_sides(
    spec: RunSpec, tmp_path: Path, same_as: Callable[[RunSpec, Path], None]
) -> None:
    process = start(spec, tmp_path)
    wait_for_step(tmp_path, 2)
    process.send_signal(signal.SIGINT)
    said = finish(process, code=130)
    assert "stopped; the same command goes on from here" in said
    said = finish(start(spec, tmp_path))
    assert "going on from a snapshot" in said
    same_as(spec, tmp_path)


def test_children_end_with_a_run_that_is_killed(spec: RunSpec, tmp_path: Path) -> None:
    process = start(spec, tmp_path)
    wait_for_step(tmp_path, 1)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == 2
    process.kill()
    process.wait()
    assert psutil.wait_procs(children, timeout=30)[1] == []


def test_a_finished_run_is_left_as_it_is(
    spec: RunSpec, unbroken: Callable[[RunSpec], Path]
) -> None:
    folder = unbroken(spec)
    before = (folder / "run" / "result.json").stat().st_mtime_ns
    assert "is finished already" in finish(start(spec, folder))
    assert (folder / "run" / "result.json").stat().st_mtime_ns == before


def test_a_result_says_where_it_comes_from(
    spec: RunSpec, unbroken: Callable[[RunSpec], Path]
) -> None:
    folder = unbroken(spec)
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["provenance"]["kind"] == "emulated"
    assert result["provenance"]["digest"] == spec.digest
    assert result["link"]["context"] == "fast"
    assert result["link"]["up"]["bytes"] > 0
    assert [c["cut"] for c in result["choices"]] == [9]
    assert (result["resumed"], result["best"]["cut"]) == (0, 9)


def test_lost_snapshots_of_the_cloud_are_named(spec: RunSpec, tmp_path: Path) -> None:
    process = start(spec, tmp_path)
    wait_for_step(tmp_path, 2)
    process.kill()
    process.wait()
    cloud = tmp_path / "run.snapshots" / "cloud"
    for file in cloud.iterdir():
        file.rename(file.with_suffix(".elsewhere"))
    said = finish(start(spec, tmp_path), code=9)
    assert "bring those of the cloud back, or delete both to begin again" in said


# Two machines: the sides are started by hand.


@pytest.fixture
def by_hand(spec: RunSpec, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `split` verbs with the spec; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []
    spec.save(tmp_path / "spec.yaml")

    def call(verb: str, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "core", "split", verb, *words]
        environment = os.environ | {"TMPDIR": str(tmp_path)}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.wait()


def port_of(cloud: subprocess.Popen[str]) -> str:
    assert cloud.stderr is not None
    for line in cloud.stderr:
        if "listens on port" in line:
            return line.split("port ")[1].split(";")[0]
    raise AssertionError("the cloud did not start")


def test_both_sides_by_hand(
    by_hand: Callable[..., subprocess.Popen[str]],
    spec: RunSpec,
    tmp_path: Path,
    same_as: Callable[[RunSpec, Path], None],
) -> None:
    certificates, file = str(tmp_path / "certificates"), str(tmp_path / "spec.yaml")
    finish(by_hand("certificates", certificates))
    words = [file, "--certificates", certificates]
    snapshots = str(tmp_path / "run.snapshots" / "cloud")
    cloud = by_hand("cloud", *words, "--snapshots", snapshots, "--listen", "127.0.0.1:0")
    port = port_of(cloud)
    out = str(tmp_path / "run")
    finish(by_hand("edge", *words, "--cloud", f"127.0.0.1:{port}", "--out", out))
    finish(cloud)
    same_as(spec, tmp_path)


def test_a_cloud_that_is_not_there_is_named_with_what_was_tried(
    by_hand: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    certificates, file = str(tmp_path / "certificates"), str(tmp_path / "spec.yaml")
    finish(by_hand("certificates", certificates))
    words = [file, "--certificates", certificates, "--patience", "3"]
    edge = by_hand("edge", *words, "--cloud", "127.0.0.1:9", "--out", str(tmp_path / "run"))
    said = finish(edge, code=9)
    assert "the cloud at 127.0.0.1:9 cannot be reached" in said
    assert "Snapshots are safe: the same command goes on" in said


def test_another_spec_is_refused(
    by_hand: Callable[..., subprocess.Popen[str]], spec: RunSpec, tmp_path: Path
) -> None:
    certificates, file = str(tmp_path / "certificates"), str(tmp_path / "spec.yaml")
    finish(by_hand("certificates", certificates))
    other = RunSpec(spec.content | {"seed": spec["seed"] + 1})
    other.save(tmp_path / "other.yaml")
    own = ["--certificates", certificates]
    snapshots = str(tmp_path / "cloud")
    cloud = by_hand("cloud", file, *own, "--snapshots", snapshots, "--listen", "127.0.0.1:0")
    words = [str(tmp_path / "other.yaml"), *own, "--cloud", f"127.0.0.1:{port_of(cloud)}"]
    said = finish(by_hand("edge", *words, "--out", str(tmp_path / "run")), code=9)
    assert "refused" in said
    assert "spec" in said


def test_names_of_runs_can_be_read_back() -> None:
    key = SplitKey("local", "t", "lte", "replay", 3, (("staleness", 5), ("uplink", "delta+int8")))
    assert SplitKey.parse("local", "t", "lte", key.name) == key
