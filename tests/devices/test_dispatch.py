"""Runs on a board behind a real SSH server: they end as they would here, whatever is cut."""

import csv
import errno
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from core.devices import board as board_program
from core.devices import dispatch
from core.devices.backoff import Backoff
from core.devices.check import check
from core.devices.connection import Connection
from core.devices.dispatch import carry
from core.devices.hosts import Host, host
from core.devices.job import Job, base
from core.elastic import run as elastic_run
from core.errors import BoardError, BusyError, ConfigError, UnreachableError
from core.files import digest
from core.spec import RunSpec
from core.training.run_folder import snapshots
from tests.devices.conftest import NAME, Sshd

QUICK = Backoff(first=0.1, longest=1, patience=60)
OUT = "results/run"
METRICS = "epoch train_loss train_accuracy test_loss test_accuracy selected_tensors".split()

Task = Callable[..., Path]


@pytest.fixture
def board(sshd: Sshd, here: Path) -> Host:
    return host(NAME, sshd.hosts(here))


def job_of(spec: Path) -> Job:
    return Job.of(["run", str(spec), "--out", str(spec.parent)], "main")


def work(here: Path) -> Path:
    """What the board has of this working directory."""
    return here / "board/work" / base()


def metrics(out: Path) -> list[list[str]]:
    with (out / "epochs.csv").open() as file:
        return [[row[name] for name in METRICS] for row in csv.DictReader(file)]


def arrays(out: Path) -> dict[str, np.ndarray]:
    return load_file(max(snapshots(out).glob("step-*.safetensors")))


def assert_as_here(here: Path, spec: Path) -> None:
    """The results that came back, and the last snapshot there, are those of a run here."""
    unbroken = here / "unbroken"
    elastic_run.run(RunSpec.load(spec), unbroken)
    assert metrics(here / OUT) == metrics(unbroken)
    one, other = arrays(unbroken), arrays(work(here) / OUT)
    assert [k for k in one if one[k].tobytes() != other[k].tobytes()] == []


def result(here: Path) -> dict:
    return json.loads((here / OUT / "result.json").read_text())


def after_steps(here: Path, steps: int) -> None:
    """Until the run on the board has taken so many."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        names = [f.name for f in snapshots(work(here) / OUT).glob("step-*.safetensors")]
        if any(int(name[5:14]) >= steps for name in names):
            return
        time.sleep(0.01)
    raise AssertionError(f"step {steps} never came")


def meanwhile(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def test_a_run_on_a_board_ends_with_the_bits_of_one_here(board, here, task, caplog):
    spec = task()
    with caplog.at_level(logging.INFO, "core"):
        carry(board, job_of(spec), QUICK)
    assert_as_here(here, spec)
    said = [record.message for record in caplog.records]
    assert any(text.startswith(f"{NAME}: epoch 3/3") for text in said), said
    assert sorted(p.name for p in (here / OUT).iterdir() if p.is_file()) == [
        "epochs.csv",
        "result.json",
        "spec.yaml",
        "trace.csv",
    ]

    # The same command again: nothing is sent, run or fetched.
    before = (here / OUT / "result.json").stat().st_mtime_ns
    caplog.clear()
    carry(board, job_of(spec), QUICK)
    assert (here / OUT / "result.json").stat().st_mtime_ns == before
    assert not any("runs on" in record.message for record in caplog.records)


@pytest.mark.slow
def test_a_cut_connection_costs_nothing_and_each_line_is_said_once(sshd, board, here, task, caplog):
    spec = task()

    def cut() -> None:
        for steps in (2, 6, 10):
            after_steps(here, steps)
            sshd.cut()

    with caplog.at_level(logging.INFO, "core"):
        thread = meanwhile(cut)
        carry(board, job_of(spec), QUICK)
        thread.join()
    assert_as_here(here, spec)
    assert result(here)["resumed"] == 0
    said = [record.message for record in caplog.records]
    assert sum("trying again" in text for text in said) >= 1
    for epoch in (1, 2, 3):
        assert sum(text.startswith(f"{NAME}: epoch {epoch}/3") for text in said) == 1


def command(here: Path, spec: Path) -> "subprocess.Popen[str]":
    """The dispatcher as a process of its own."""
    words = [sys.executable, "-m", "core", "devices", "run", NAME, "--", "run", str(spec)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(
        [*words, "--out", str(spec.parent)],
        stderr=subprocess.PIPE, text=True, cwd=here, env=environment,
    )  # fmt: skip


@pytest.mark.slow
def test_a_killed_dispatcher_finds_its_run_again(board, here, task):
    spec = task(epochs=20)  # it must not end while dispatchers start
    process = command(here, spec)
    after_steps(here, 2)
    process.kill()
    process.communicate()

    process = command(here, spec)
    said = next(line for line in process.stderr if "jetson" in line)
    assert f"{OUT} runs on {NAME} already; watching it" in said
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert f"{OUT} goes on on {NAME}; the same command finds it again" in said

    process = command(here, spec)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert_as_here(here, spec)
    assert result(here)["resumed"] == 0
    assert len(result(here)["legs"]) == 1


def states(here: Path) -> dict:
    (path,) = (here / "board/jobs").glob("*/state.json")
    return json.loads(path.read_text())


@pytest.mark.slow
def test_a_run_that_is_killed_on_the_board_goes_on_from_its_snapshot(board, here, task, caplog):
    spec = task()

    def kill() -> None:
        after_steps(here, 4)
        (supervisor,) = pids(here)
        os.kill(supervisor, signal.SIGKILL)
        os.killpg(states(here)["child"], signal.SIGKILL)

    thread = meanwhile(kill)
    carry(board, job_of(spec), QUICK)
    thread.join()
    assert f"{NAME}: {OUT} was killed; it goes on from its last snapshot" in caplog.text
    assert_as_here(here, spec)
    assert result(here)["resumed"] == 1


def pids(here: Path) -> list[int]:
    """Of the supervisor: the parent of the run."""
    child = states(here)["child"]
    found = subprocess.run(["ps", "-o", "ppid=", "-p", str(child)], capture_output=True, text=True)
    return [int(found.stdout)]


@pytest.mark.slow
def test_a_board_that_is_lost_is_replaced_and_the_run_goes_on_there(
    board, sshd, here, task, caplog, monkeypatch
):
    spec = task()
    monkeypatch.setattr(dispatch, "SNAPSHOT_S", 0.2)
    monkeypatch.setattr(dispatch, "KEPT", 10)  # those before the end
    carry(board, job_of(spec), QUICK)
    assert_as_here(here, spec)

    # Snapshots came here at intervals; another board goes on from the newest one. That of the end
    # came or did not: the board was lost before.
    for last in snapshots(here / OUT).glob("step-000000018-*"):
        last.unlink()
    assert list(snapshots(here / OUT).glob("step-*.safetensors"))
    (here / OUT / "result.json").unlink()
    other = host(NAME, sshd.hosts(here, folder=str(here / "other")))
    carry(other, job_of(spec), QUICK)
    assert result(here)["resumed"] >= 1
    assert metrics(here / OUT) == metrics(here / "unbroken")


def test_a_run_is_running_only_while_something_of_this_boot_holds_the_lease(tmp_path):
    job = tmp_path / "jobs/x"
    job.mkdir(parents=True)
    lease = tmp_path / "lease.json"
    lease.write_text(json.dumps({"job": "x"}))

    def state(boot: str) -> str:
        content = {"state": "running", "boot": boot, "beat": 0}
        (job / "state.json").write_text(json.dumps(content))
        return board_program.status(tmp_path, {"job": "x"})["state"]

    here = board_program._boot()
    assert state("the one before") == "rebooted"
    assert state(here) == "lost"
    lock = board_program._take_lease(tmp_path)
    assert state(here) == "running"
    lease.write_text(json.dumps({"job": "another"}))
    assert state(here) == "lost"
    os.close(lock)


@pytest.mark.slow
def test_one_board_runs_one_thing_at_a_time_and_stop_lets_it_save(board, here, task, caplog):
    first, second = task(epochs=8), task("results/second", epochs=1)
    process = command(here, first)
    after_steps(here, 3)
    with pytest.raises(BusyError, match=rf"{NAME} is taken: .* runs {OUT} there since"):
        carry(board, job_of(second), QUICK)
    changed = task(epochs=4)
    with pytest.raises(BusyError, match=f"runs an earlier form of {OUT}; end it first"):
        carry(board, job_of(changed), QUICK)
    task(epochs=8)  # as it was
    words = [sys.executable, "-m", "core", "devices", "stop", OUT]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(words, cwd=here, env=environment, capture_output=True, text=True)
    assert f"{OUT} has ended on {NAME} (exit code 143)" in ended.stderr
    _, said = process.communicate()
    assert process.returncode == 143, said
    assert f"{OUT} was stopped on {NAME}; the same command goes on" in said
    carry(board, job_of(first), QUICK)
    assert_as_here(here, first)
    assert result(here)["resumed"] == 1


def test_the_error_of_the_command_there_is_the_error_here(board, here, task):
    spec = task(batch=1000)
    with pytest.raises(ConfigError, match=rf"{NAME}: training\.batch = 1000: stripes has only"):
        carry(board, job_of(spec), QUICK)


def test_a_supervisor_that_falls_silent_is_an_error_that_says_where_to_look(
    board, here, task, monkeypatch
):
    monkeypatch.setattr(dispatch, "HEARTBEAT_S", 2.0)
    spec = task(epochs=40)

    def pause() -> None:
        after_steps(here, 2)
        os.kill(pids(here)[0], signal.SIGSTOP)

    thread = meanwhile(pause)
    with pytest.raises(UnreachableError, match=f"what watches over {OUT} has been silent for"):
        carry(board, job_of(spec), Backoff(first=0.1, patience=1))
    thread.join()
    os.kill(pids(here)[0], signal.SIGCONT)
    with Connection(board) as there:
        assert there.ask("stop", job=job_of(spec).name, patience=20)["state"] == "ended"


def test_what_was_brought_and_has_gone_here_is_made_anew_there(board, here, task):
    spec = task()
    carry(board, job_of(spec), QUICK)
    epochs, first = here / OUT / "epochs.csv", (here / OUT / "epochs.csv").read_text()

    for path in (epochs, here / OUT / "result.json"):  # as Snakemake does; snapshots stay
        path.unlink()
    carry(board, job_of(spec), QUICK)
    assert epochs.read_text() == first  # with its times: nothing was trained again

    for path in (epochs, here / OUT / "result.json"):
        path.unlink()
    shutil.rmtree(snapshots(here / OUT))
    carry(board, job_of(spec), QUICK)
    assert epochs.read_text() != first
    assert result(here)["resumed"] == 0
    assert_as_here(here, spec)


def test_with_another_profile_the_result_of_the_old_one_is_not_brought(board, here, task):
    spec = task()
    before = job_of(spec).digest
    carry(board, job_of(spec), QUICK)
    old = result(here)
    profile = here / "results/profile.json"
    profile.write_text(profile.read_text() + "\n")  # says the same, and was measured again
    assert job_of(spec).digest != before
    (here / OUT / "result.json").unlink()
    carry(board, job_of(spec), QUICK)
    assert result(here)["identity"] == elastic_run.identity(RunSpec.load(spec)) != old["identity"]


def test_a_file_that_grows_is_listed_as_it_was_at_one_moment(tmp_path):
    log = tmp_path / "work/base/run/trace.csv"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"")
    stop = threading.Event()

    def grow():
        with log.open("ab", buffering=0) as file:
            while not stop.wait(0.0002):
                file.write(os.urandom(1000))

    thread = meanwhile(grow)
    for _ in range(200):
        ((name, size, sha),) = board_program.files(tmp_path, {"base": "base", "path": "run"})[
            "files"
        ]
        assert hashlib.sha256(log.read_bytes()[:size]).hexdigest() == sha
    stop.set()
    thread.join()
    assert (name, size > 0) == ("run/trace.csv", True)


def test_snapshots_that_change_while_they_are_fetched_come_another_time(board, here, task):
    job = job_of(task())
    there = work(here) / f"{OUT}.snapshots"
    there.mkdir(parents=True)
    for name in ("a-gone.csv", "b-changed.csv", "c-still.csv"):
        (there / name).write_text("as it was")

    class Meanwhile(Connection):
        def ask(self, verb, *more, **question):
            answer = super().ask(verb, *more, **question)
            if verb == "files":
                (there / "a-gone.csv").unlink()
                (there / "b-changed.csv").write_text("something else")
            return answer

    left = snapshots(here / OUT) / f".step-1.safetensors.{'0' * 16}.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    with Meanwhile(board) as connection:
        dispatch._fetch_snapshots(connection, job)
        assert [path.name for path in snapshots(here / OUT).iterdir()] == ["c-still.csv"]
    (there / "a-gone.csv").write_text("here again")
    with Meanwhile(board) as connection, pytest.raises(BoardError, match=r"a-gone\.csv has gone"):
        dispatch._fetch(connection, job.snapshots[0])


def test_a_disk_that_is_full_for_a_while_does_not_hide_how_a_run_ended(tmp_path, monkeypatch):
    root = tmp_path / "board"
    job = root / "jobs/one"
    job.mkdir(parents=True)
    lock = board_program._take_lease(root)
    write, calls = board_program._write, []

    def full(path, content):
        calls.append(content["state"])
        if len(calls) < 4 or calls[-2:] == ["running", "ended"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(board_program, "BEAT_S", 0.05)
    monkeypatch.setattr(board_program, "_write", full)
    command = [sys.executable, "-c", "import time; time.sleep(0.5); raise SystemExit(4)"]
    state = {"state": "running", "digest": "", "boot": board_program._boot()}
    board_program._supervise(job, command, tmp_path, tmp_path, state, lock)
    os.close(lock)
    assert calls[-2:] == ["ended", "ended"]
    assert board_program.status(root, {"job": "one"})["exit_code"] == 4


def test_a_supervisor_whose_job_was_cleaned_away_ends(tmp_path):
    root = tmp_path / "board"
    lock = board_program._take_lease(root)
    job = root / "jobs/one"
    job.mkdir(parents=True)
    command = ["rm", "-r", str(job)]
    state = {"state": "running", "digest": "", "boot": board_program._boot()}
    board_program._supervise(job, command, tmp_path, tmp_path, state, lock)
    os.close(lock)
    assert board_program.status(root, {"job": "one"})["state"] == "none"


def test_two_who_bring_the_same_file_do_not_write_into_one(board, here, tmp_path):
    source = here / "data"
    source.write_bytes(os.urandom(1000))
    sha = digest(source)
    with Connection(board) as there:
        for base_of in ("one", "two"):
            there.ask("missing", files=[sha], base=base_of)
        for base_of in ("one", "two"):
            there.put(source, there.stored(sha, base_of))
        for base_of in ("one", "two"):
            assert there.ask("accept", files=[sha], base=base_of) == {"damaged": []}
        assert there.ask("accept", files=[sha], base="one") == {"damaged": []}  # again
    assert (here / f"board/store/{sha}").read_bytes() == source.read_bytes()


def test_an_upload_goes_on_where_it_was_cut(board, here, task, monkeypatch):
    spec = task()
    large = max((here / "results/data").rglob("*"), key=lambda p: p.stat().st_size)
    sha, half = digest(large), large.stat().st_size // 2
    with Connection(board) as there:
        there.ask("missing", files=[sha], base=base())  # makes the store
        (here / f"board/store/{sha}.{base()}.part").write_bytes(large.read_bytes()[:half])
    starts: dict[str, int] = {}
    put = Connection.put

    def noted(self, source, path, start=0, progress=None):
        starts[Path(source).name] = start
        put(self, source, path, start, progress)

    monkeypatch.setattr(Connection, "put", noted)
    carry(board, job_of(spec), QUICK)
    assert starts[large.name] == half
    assert_as_here(here, spec)


def test_a_run_that_fails_there_again_and_again_is_not_started_for_ever(
    board, here, task, monkeypatch
):
    monkeypatch.setattr(dispatch, "RESTARTS", 0)
    spec = task()

    def kill() -> None:
        after_steps(here, 2)
        (supervisor,) = pids(here)
        os.kill(supervisor, signal.SIGKILL)
        os.killpg(states(here)["child"], signal.SIGKILL)

    meanwhile(kill)
    with pytest.raises(BoardError, match="0 times in a row; look at the board"):
        carry(board, job_of(spec), QUICK)


@pytest.mark.slow
def test_an_environment_on_the_board_is_prepared_and_used(sshd, here, task, caplog):
    board = host(NAME, sshd.hosts(here, python=None))
    with caplog.at_level(logging.INFO, "core"):
        # Made by hand, as docs/install.md says of conda: envs/run takes it as it is.
        made = here / "board/checkout/.envs/main"
        (made / "conda-meta").mkdir(parents=True)
        for name in ("bin", "lib", "pyvenv.cfg"):
            (made / name).symlink_to(Path(sys.prefix) / name)
        for _ in range(2):
            carry(board, Job((), "main"), QUICK)
        assert sum("environment main runs on" in r.message for r in caplog.records) == 2
        spec = task()
        carry(board, job_of(spec), QUICK)
    assert_as_here(here, spec)
    assert dict(check(board))["environments"] == "main"
    log_of_run = (here / "board/jobs" / job_of(spec).name / "log").read_text()
    assert "epoch 3/3" in log_of_run


@pytest.mark.slow
def test_a_run_that_is_killed_alone_is_an_error_that_asks_for_memory(board, here, task):
    spec = task()

    def kill() -> None:
        after_steps(here, 3)
        os.killpg(states(here)["child"], signal.SIGKILL)

    thread = meanwhile(kill)
    with pytest.raises(BoardError, match="was killed there; did the board run out of memory"):
        carry(board, job_of(spec), QUICK)
    thread.join()
    carry(board, job_of(spec), QUICK)
    assert_as_here(here, spec)
    assert result(here)["resumed"] == 1
