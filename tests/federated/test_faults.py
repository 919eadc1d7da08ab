"""Whatever dies in the middle, the run ends with the bits of one that nothing happened to."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from core.data import manifest
from core.data.histories import _ARRAYS, FILES
from core.data.parts import PARTS, save
from core.errors import ConfigError, CoreError, PeerError
from core.federated.run import run as run_all
from core.federated.run import run_party
from core.federated.silos import SERVER
from core.spec import RunSpec
from tests.federated.conftest import MOVIES, STEPS, Run, assert_same, histories, make_spec

Make = Callable[..., Run]
OFTEN = {"staleness": 2, "uplink": "delta+int4", "feedback": "published", "snapshot_minutes": 1e-9}


@pytest.mark.parametrize(
    ("name", "at", "feedback"),
    [("a", 1, "published"), ("b", 5, "residual"), ("a", 8, "residual"), ("b", 11, "published")],
)
def test_a_party_that_comes_back_goes_on_with_the_same_bits(
    name: str, at: int, feedback: str, make_run: Make
) -> None:
    """Its thread and its connection end before it sends the features of a step."""
    changes = OFTEN | {"feedback": feedback}
    unbroken = make_run(make_spec(**changes), "unbroken").train()
    run = make_run(make_spec(**changes), "broken")
    dying, again = run.party(name), []
    send = dying._send_features

    def die() -> None:
        if dying._next == at:
            dying._channel.fail(PeerError("dead"))
            again.append(run.start(name))
        send()

    dying._send_features = die  # type: ignore[method-assign]
    server = run.make_server()
    threads = [run.start(n, dying if n == name else None) for n in ("a", "b")]
    progress = server.run()
    for thread in threads + again:
        thread.join(20)
    assert len(again) == 1
    assert progress.legs[-1]["from_step"] <= at
    assert_same(run.state(), unbroken.state)
    assert [row["test_auc"] for row in progress.rows] == [
        row["test_auc"] for row in unbroken.progress.rows
    ]


def test_a_party_that_dies_after_the_last_test_is_waited_for(make_run: Make) -> None:
    run = make_run(make_spec(), "broken")
    dying, again = run.party("b"), []
    expect = dying._expect

    def die(kind: str, step: int) -> object:
        if kind == "finish" and not again:
            dying._channel.fail(PeerError("dead"))
            again.append(run.start("b"))
        return expect(kind, step)

    dying._expect = die  # type: ignore[assignment, method-assign]
    server = run.make_server()
    first = run.start("a")
    run.start("b", dying)
    server.run()
    for thread in [first, *again]:
        thread.join(20)
    assert set(run.errors) == {"b"}  # of the one that died


@pytest.mark.parametrize(
    ("code", "ends"), [(3, 3), (-9, PeerError.exit_code), (1, PeerError.exit_code)]
)
def test_a_party_that_is_given_up_ends_the_run_with_a_code_of_the_table(
    make_run: Make, code: int, ends: int
) -> None:
    run = make_run(make_spec(), "given-up")
    server = run.make_server()
    run.members.give_up("party a died", code)
    with pytest.raises(CoreError, match="party a died") as raised:
        server.run()
    assert raised.value.exit_code == ends


def test_a_server_that_comes_back_goes_on_with_the_same_bits(make_run: Make) -> None:
    """It ends in the middle of an epoch; parties open new sessions with its successor."""
    unbroken = make_run(make_spec(**OFTEN), "unbroken").train()
    run = make_run(make_spec(**OFTEN), "broken")
    server = run.make_server()
    step = server._step

    def stop_at(number: int, rate: float) -> None:
        run.members.settle()  # every side has the snapshot that was asked for last
        if number == 8:
            raise SystemExit(137)
        step(number, rate)

    server._step = stop_at  # type: ignore[method-assign]
    threads = [run.start(name) for name in ("a", "b")]
    with pytest.raises(SystemExit):
        server.run()
    threading.Thread(target=run.members.part, daemon=True).start()  # connections end with it
    progress = run.make_server().run()
    for thread in threads:
        thread.join(20)
    assert run.errors == {}
    assert [leg["from_step"] for leg in progress.legs] == [0, 8]
    assert_same(run.state(), unbroken.state)


# Whole runs through the command line.

EMULATED = {
    "name": "fast",
    "title": "Fast",
    "timing": "emulated",
    "up": {"rate_mbit": 200, "delay_ms": 1, "jitter_ms": 0},
    "down": {"rate_mbit": 200, "delay_ms": 1, "jitter_ms": 0},
    "trace": None,
    "outages": [],
}


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    """The tests' data as a prepared folder, links that are emulated, a party that is slowed so
    that there is time to kill."""
    folder, data = tmp_path / "data", histories()
    folder.mkdir()
    save(folder / "genres.npy", data.genres)
    for part, rows in zip(PARTS, (data.train, data.test), strict=True):
        for what in _ARRAYS:
            save(folder / f"{part}_{what}.npy", getattr(rows, what))
    content = {"kind": "ratings", "name": "none", "history": 10, "movies": MOVIES}
    content |= {"genres": ["x"] * data.genres.shape[1], "entry": "tests"}
    content["splits"] = {"train": {"number": 60}, "test": {"number": 40}}  # type: ignore[assignment]
    manifest.write(folder, content, FILES)
    made = make_spec(**OFTEN).content
    made["data"]["folder"] = str(folder)
    made |= {"context": EMULATED, "timing": "emulated"}
    made["parties"][1]["slowdown"] = 25
    made["training"] |= {"epochs": 4}
    return RunSpec.checked(made, Path("spec.yaml"))


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "core", *words]
    environment = os.environ | {"TMPDIR": str(folder)}  # the lock of the device
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    _, said = process.communicate(timeout=240)
    assert process.returncode == code, said
    return said


def wait_for_step(folder: Path, step: int) -> None:
    """Until every side has a snapshot of this step or a later one."""
    deadline = time.monotonic() + 120
    sides = [folder / "run.snapshots" / name for name in (SERVER, "a", "b")]
    while any(last(side) < step for side in sides):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def last(side: Path) -> int:
    return max((int(file.name[5:14]) for file in side.glob("step-*")), default=-1)


def party_of(process: subprocess.Popen[str], name: str) -> psutil.Process:
    found = None
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.NoSuchProcess):  # one that was killed just now
            words = child.cmdline()
            found = child if words[-1:] == ["--child"] and name in words else found
    assert found is not None
    return found


def end_of(folder: Path) -> dict[str, np.ndarray]:
    """Weights and optimisers in the last snapshot of each side."""
    found = {}
    for name in (SERVER, "a", "b"):
        files = (folder / "run.snapshots" / name).glob(f"step-{4 * STEPS:09d}-*.safetensors")
        arrays = load_file(max(files, key=lambda file: file.stat().st_mtime_ns))
        own = {k.removeprefix("part/"): v for k, v in arrays.items() if k.startswith("part/")}
        found |= own
    return found


@pytest.mark.slow
def test_a_run_goes_on_when_each_side_is_killed(
    spec: RunSpec, tmp_path: Path, make_run: Make
) -> None:
    spec.save(tmp_path / "spec.yaml")
    words = ["run", str(tmp_path / "spec.yaml"), "--out", str(tmp_path / "run")]
    process = start(tmp_path, *words)
    for step, name in ((2, "a"), (4, "b")):
        wait_for_step(tmp_path, step)
        party_of(process, name).send_signal(signal.SIGKILL)
    wait_for_step(tmp_path, 7)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert psutil.wait_procs(children, timeout=30)[1] == []
    process = start(tmp_path, *words)
    wait_for_step(tmp_path, 9)
    process.send_signal(signal.SIGINT)
    assert "stopped; the same command goes on from here" in finish(process, code=130)
    said = finish(start(tmp_path, *words))
    assert "going on from a snapshot" in said
    unbroken = make_run(spec, "unbroken").train()
    assert_same(end_of(tmp_path), unbroken.state)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["last"]["test_auc"] == unbroken.progress.rows[-1]["test_auc"]
    assert result["resumed"] >= 3
    assert result["links"]["a"]["context"] == "fast"
    before = (tmp_path / "run" / "result.json").stat().st_mtime_ns
    run_all(spec, tmp_path / "run")  # is left as it is
    assert (tmp_path / "run" / "result.json").stat().st_mtime_ns == before


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `federated` verbs; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def call(*words: str) -> subprocess.Popen[str]:
        started.append(start(tmp_path, "federated", *words))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_all_sides_by_hand(
    by_hand: Callable[..., subprocess.Popen[str]],
    spec: RunSpec,
    tmp_path: Path,
    make_run: Make,
) -> None:
    spec.content["parties"][1]["slowdown"] = 1
    spec.save(tmp_path / "spec.yaml")
    file, own, silos = (str(tmp_path / n) for n in ("spec.yaml", "certificates", "silos"))
    finish(by_hand("divide", file, "--out", silos))
    finish(by_hand("certificates", file, own))
    words = [file, "--certificates", own]
    out = str(tmp_path / "run")
    server = by_hand("server", *words, "--data", f"{silos}/server", "--listen", "127.0.0.1:0",
                     "--out", out)  # fmt: skip
    assert server.stderr is not None
    line = next(line for line in server.stderr if "listens on port" in line)
    port = line.split("port ")[1].split(";")[0]
    parties = []
    for name in ("a", "b"):
        own_words = ["--name", name, "--data", f"{silos}/{name}", "--server", f"127.0.0.1:{port}"]
        kept = str(tmp_path / "run.snapshots" / name)
        parties.append(by_hand("party", *words, *own_words, "--snapshots", kept))
    for party in parties:
        assert "all is done" in finish(party)
    finish(server)
    unbroken = make_run(spec, "unbroken").train()
    assert_same(end_of(tmp_path), unbroken.state)
    with pytest.raises(ConfigError, match="the spec has no such party, only a, b"):
        run_party(spec, "c", tmp_path, tmp_path, "127.0.0.1:9", tmp_path, 1.0, child=False)
