"""Whole runs through the command line: whatever dies in the middle, the same command ends with the
bits of a run that nothing happened to."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from core.data.chairs import IMAGES
from core.spec import RunSpec
from core.split import samples
from core.split.config import SplitKey
from tests.split.conftest import make_spec

ROOT = Path(__file__).parents[2]
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


def plain(stripes: Path) -> RunSpec:
    """Two short epochs over an emulated link, K = 2, a snapshot after every step."""
    content = make_spec("mobilenet_v3_large", cut=9, staleness=2, steps=STEPS // 2).content
    content["training"] |= {"snapshot_minutes": 1e-6, "test_samples": 4}
    content["data"] = {"name": "stripes", "folder": str(stripes), "size": 32, "classes": 2}
    content["context"] = EMULATED
    content["timing"] = "emulated"
    content["scheme"] |= {"uplink": "int4", "feedback": "published"}
    return RunSpec(content)


@pytest.fixture
def spec(stripes: Path) -> RunSpec:
    return plain(stripes)


@pytest.fixture
def turned(few_chairs: Path) -> RunSpec:
    """The same with the front in the cloud, at once on a plateau, over a link of two rates."""
    adam = {"name": "adam", "learning_rate": 1e-3, "momentum": 0, "nesterov": False}
    adam |= {"weight_decay": 0, "milestones": [], "factor": 0.5, "epsilon": 1e-6, "patience": 0}
    content = make_spec("chairs", cut=5, staleness=2, steps=STEPS // 2, optimiser=adam).content
    content["training"] |= {"snapshot_minutes": 1e-6, "test_samples": 4}
    content["training"]["augmentation"] = {"flip": True, "crop": 1, "transform": 0.5}
    content["data"] = {"name": "few", "folder": str(few_chairs), "size": 16, "classes": 4}
    content["context"] = EMULATED | {"up": EMULATED["up"] | {"rate_mbit": 100}}  # type: ignore[operator]
    content["timing"] = "emulated"
    content["scheme"] |= {"uplink": "int8", "feedback": "published"}
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


@pytest.mark.parametrize(
    ("side", "number"),
    [
        ("edge", signal.SIGTERM),
        ("edge", signal.SIGKILL),
        ("cloud", signal.SIGKILL),
        ("link", signal.SIGKILL),
    ],
    ids=["edge-term", "edge-kill", "cloud-kill", "link-kill"],
)
def test_a_run_goes_on_whatever_dies(
    side: str, number: int, spec: RunSpec, tmp_path: Path, same_as: Callable[[RunSpec, Path], None]
) -> None:
    process = start(spec, tmp_path)
    wait_for_step(tmp_path, 3)
    if side == "edge":
        process.send_signal(number)
        assert process.wait(60) != 0  # and had not finished before
        process = start(spec, tmp_path)
    else:
        child(process, "cloud" if side == "cloud" else "core.split.link").send_signal(number)
    finish(process)
    same_as(spec, tmp_path)


@pytest.mark.parametrize("side", ["front in the cloud", "back on the edge"])
def test_a_turned_run_goes_on_whichever_side_is_killed(
    side: str, turned: RunSpec, tmp_path: Path, same_as: Callable[[RunSpec, Path], None]
) -> None:
    process = start(turned, tmp_path)
    wait_for_step(tmp_path, 6)  # past the end of an epoch, with another learning rate
    if side == "front in the cloud":
        process.kill()
        assert process.wait(60) != 0  # and had not finished before
        process = start(turned, tmp_path)
    else:
        child(process, "edge").kill()
    finish(process)
    same_as(turned, tmp_path)


def test_a_turned_run_says_what_went_which_way(
    turned: RunSpec, unbroken: Callable[[RunSpec], Path]
) -> None:
    folder = unbroken(turned)
    result = json.loads((folder / "run" / "result.json").read_text())
    assert result["link"]["up"]["bytes"] > result["link"]["down"]["bytes"]
    assert result["edge"]["peak_mib"] > 0
    with (folder / "run" / "iterations.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert int(last["up_bytes"]) > 3 * int(last["down_bytes"])  # gradients are not compressed
    assert len(samples.read(folder / "run")["generated"]) > 0
    assert result["best"]["test_loss"] == min(row["test_loss"] for row in epochs(folder))


def epochs(folder: Path) -> list[dict[str, float]]:
    with (folder / "run" / "epochs.csv").open() as file:
        return [{"test_loss": float(row["test_loss"])} for row in csv.DictReader(file)]


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


class Killed(NamedTuple):
    """What a run left that was killed hard after some steps. alive: of its children."""

    folder: Path
    children: list[psutil.Process]
    alive: list[psutil.Process]


@pytest.fixture(scope="module")
def killed(stripes: Path, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    folder = tmp_path_factory.mktemp("killed")
    process = start(plain(stripes), folder)
    wait_for_step(folder, 2)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    return Killed(folder, children, psutil.wait_procs(children, timeout=30)[1])


def test_children_end_with_a_run_that_is_killed(killed: Killed) -> None:
    assert len(killed.children) == 2
    assert killed.alive == []


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


def test_lost_snapshots_of_the_cloud_are_named(
    spec: RunSpec, killed: Killed, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(killed.folder, tmp_path / "copy"))
    for file in (folder / "run.snapshots" / "cloud").iterdir():
        file.rename(file.with_suffix(".elsewhere"))
    said = finish(start(spec, folder), code=9)
    assert "bring those of the cloud back, or delete both to begin again" in said


# Two machines: the sides are started by hand.


@pytest.fixture
def by_hand(spec: RunSpec, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `split` verbs with the spec; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []
    spec.save(tmp_path / "spec.yaml")

    def call(verb: str, *words: str, folder: Path | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "core", "split", verb, *words]
        environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder
        )
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of those of both sides, made by their verb."""
    folder = str(tmp_path_factory.mktemp("sides") / "certificates")
    command = [sys.executable, "-m", "core", "split", "certificates", folder]
    subprocess.run(command, check=True)
    return folder


def port_of(cloud: subprocess.Popen[str]) -> str:
    assert cloud.stderr is not None
    for line in cloud.stderr:
        if "listens on port" in line:
            return line.split("port ")[1].split(";")[0]
    raise AssertionError("the cloud did not start")


def test_both_sides_by_hand(
    by_hand: Callable[..., subprocess.Popen[str]],
    certificates: str,
    spec: RunSpec,
    tmp_path: Path,
    same_as: Callable[[RunSpec, Path], None],
) -> None:
    file = str(tmp_path / "spec.yaml")
    words = [file, "--certificates", certificates]
    snapshots = str(tmp_path / "run.snapshots" / "cloud")
    cloud = by_hand("cloud", *words, "--snapshots", snapshots, "--listen", "127.0.0.1:0")
    port = port_of(cloud)
    out = str(tmp_path / "run")
    finish(by_hand("edge", *words, "--cloud", f"127.0.0.1:{port}", "--out", out))
    finish(cloud)
    same_as(spec, tmp_path)


def test_both_sides_of_a_turned_run_by_hand_and_the_cloud_without_images(
    by_hand: Callable[..., subprocess.Popen[str]],
    certificates: str,
    turned: RunSpec,
    tmp_path: Path,
    unbroken: Callable[[RunSpec], Path],
) -> None:
    """The cloud's copy of the data has no images, and of the run the edge alone has some."""
    own = Path(turned["data"]["folder"])
    for side in ("cloud", "edge"):
        data = tmp_path / side / "data"
        data.mkdir(parents=True)
        for file in own.iterdir():
            if side == "edge" or file.name not in IMAGES:
                (data / file.name).write_bytes(file.read_bytes())
        turned.save(tmp_path / side / "spec.yaml")
        text = (tmp_path / side / "spec.yaml").read_text().replace(str(own), "data")
        (tmp_path / side / "spec.yaml").write_text(text)
    words = ["spec.yaml", "--certificates", certificates, "--out", "run"]
    cloud = by_hand("cloud", *words, "--listen", "127.0.0.1:0", folder=tmp_path / "cloud")
    address = f"127.0.0.1:{port_of(cloud)}"
    finish(by_hand("edge", *words, "--cloud", address, folder=tmp_path / "edge"))
    finish(cloud)
    assert losses(tmp_path / "cloud") == losses(unbroken(turned))
    assert not (tmp_path / "cloud" / "run" / samples.NAME).exists()
    assert len(samples.read(tmp_path / "edge" / "run")["wanted"]) > 0


def test_a_side_is_told_what_it_has_to_be_given(
    by_hand: Callable[..., subprocess.Popen[str]], turned: RunSpec, spec: RunSpec, tmp_path: Path
) -> None:
    turned.save(tmp_path / "turned.yaml")
    words = ["--certificates", str(tmp_path), "--listen", "127.0.0.1:0"]
    said = finish(by_hand("cloud", str(tmp_path / "turned.yaml"), *words), code=2)
    assert "the cloud has the first blocks, so it leads: give --out FOLDER" in said
    said = finish(by_hand("cloud", str(tmp_path / "spec.yaml"), *words), code=2)
    assert "the cloud has the last blocks, so it follows: give --snapshots FOLDER" in said


def test_a_cloud_that_is_not_there_is_named_with_what_was_tried(
    by_hand: Callable[..., subprocess.Popen[str]], certificates: str, tmp_path: Path
) -> None:
    file = str(tmp_path / "spec.yaml")
    words = [file, "--certificates", certificates, "--patience", "1"]
    edge = by_hand("edge", *words, "--cloud", "127.0.0.1:9", "--out", str(tmp_path / "run"))
    said = finish(edge, code=9)
    assert "the cloud at 127.0.0.1:9 cannot be reached" in said
    assert "Snapshots are safe: the same command goes on" in said


def test_another_spec_is_refused(
    by_hand: Callable[..., subprocess.Popen[str]],
    certificates: str,
    spec: RunSpec,
    tmp_path: Path,
) -> None:
    file = str(tmp_path / "spec.yaml")
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
