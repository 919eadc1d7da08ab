"""The sides of a run of split training on boards: one of them, both, or the whole run."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from core.devices.backoff import Backoff
from core.devices.dispatch import carry
from core.devices.hosts import Host, host
from core.devices.job import Job, base, name_of
from core.spec import RunSpec
from core.split import profiles
from core.split import run as split_run
from core.training.run_folder import snapshots
from tests.devices.conftest import NAME, Sshd
from tests.split.conftest import make_spec

pytestmark = pytest.mark.slow

OUT = Path("results/split")
STEPS = 10
SECOND = "raspberry_pi_5"
MIDWAY = 4  # steps
UNBROKEN: dict[str, list[tuple[str, str]]] = {}


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


@pytest.fixture
def second(sshd: Sshd, here: Path) -> Path:
    """Another board, with a folder of its own; its folder."""
    path = sshd.hosts(here)
    entries = yaml.safe_load(path.read_text())
    entries[SECOND] = entries[NAME] | {"folder": str(here / "second")}
    path.write_text(yaml.safe_dump(entries))
    return here / "second"


def core(here: Path, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "core", *words]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=here, env=environment)


def start(here: Path, edge: str = NAME) -> "subprocess.Popen[str]":
    words = ["run", str(OUT / "spec.yaml"), "--out", str(OUT)]
    return core(here, "devices", "run", edge, "--", *words)


def finish(process: "subprocess.Popen[str]", code: int = 0) -> str:
    _, said = process.communicate(timeout=240)
    assert process.returncode == code, said
    return said


def heard(process: "subprocess.Popen[str]", text: str) -> None:
    """Until it says so."""
    said = []
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line)
        if text in line:
            return
    raise AssertionError("".join(said))


def after(log: Path, steps: int) -> None:
    """Until so many steps are done."""
    deadline = time.monotonic() + 120
    while not (log.exists() and len(log.read_text().splitlines()) > steps):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def signalled(board: Path, part: str, number: int) -> None:
    """Send a signal to what runs for a side on a board."""
    state = board / "jobs" / name_of(str(OUT), part) / "state.json"
    os.killpg(json.loads(state.read_text())["child"], number)


def state_of(board: Path, part: str = "") -> tuple[str, int | None]:
    state = board / "jobs" / name_of(str(OUT), part) / "state.json"
    found = json.loads(state.read_text())
    return found["state"], found["exit_code"]


def losses(out: Path) -> list[tuple[str, str]]:
    with (out / "iterations.csv").open() as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


def unbroken(spec: RunSpec, here: Path) -> list[tuple[str, str]]:
    """Of both sides here; once, since the network and the names of devices alter no number."""
    key = json.dumps([spec["scheme"], spec["training"]])
    if key not in UNBROKEN:
        out = here / "unbroken"
        split_run.run(spec, out, 60)
        UNBROKEN[key] = losses(out)
    return UNBROKEN[key]


def test_an_edge_on_a_board_trains_with_the_cloud_here_as_both_here_would(board, here, spec):
    said = finish(start(here))
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
    after(snapshots(here / "board/work" / base() / OUT) / "iterations.csv", MIDWAY)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    said = finish(start(here))
    assert f"{OUT} runs on {NAME} already; watching it" in said
    assert losses(here / OUT) == unbroken(spec, here)


def placed(spec: RunSpec, cloud: str = SECOND, edge: str = NAME, **changes: object) -> RunSpec:
    """The same with each side on its device, by way of an emulated link."""
    way = {"rate_mbit": 200, "delay_ms": 1, "jitter_ms": 0}
    context = {"name": "fast", "title": "Fast", "timing": "emulated", "up": way, "down": way}
    content = spec.content | {"timing": "emulated"} | changes
    content["context"] = context | {"trace": None, "outages": []}
    for side, name in (("edge", edge), ("cloud", cloud)):
        content[side] = content[side] | {"name": name}
    found = RunSpec(content)
    found.save(OUT / "spec.yaml")
    return found


def test_two_boards_train_as_one_host_would_while_others_are_killed(second, here, spec):
    """The dispatcher, and the cloud while it is watched and while it is not."""
    spec, board = placed(spec), here / "board"
    log = snapshots(board / "work" / base() / OUT) / "iterations.csv"
    process = start(here)
    after(log, 2)
    process.kill()
    process.communicate()
    signalled(board, "", signal.SIGSTOP)  # it would be done before anybody comes back
    assert state_of(second, "cloud") == ("running", None)

    process = start(here)
    heard(process, f"the cloud of {OUT} runs on {SECOND} already; watching it")
    heard(process, f"{OUT} runs on {NAME} already; watching it")
    signalled(second, "cloud", signal.SIGKILL)
    heard(process, f"{SECOND}: the cloud of {OUT} ended with exit code 137; it goes on from its")
    signalled(board, "", signal.SIGCONT)
    said = finish(process)
    assert f"{SECOND}: the cloud listens on port" in said  # its log is followed, too

    assert losses(here / OUT) == unbroken(spec, here)
    result = json.loads((here / OUT / "result.json").read_text())
    assert result["resumed"] == 1  # for the cloud; the dispatcher cost nothing
    # Each side has its own key; no data went to the cloud; what it left came here.
    work = second / "work" / base()
    keys = sorted(path.name for path in (snapshots(work / OUT) / "certificates").iterdir())
    assert keys == ["ca.crt", "cloud.crt", "cloud.key"]
    assert not (work / "results/data").exists()
    assert not (snapshots(work / OUT) / "edge").exists()
    for folder in (here, work):
        assert list((snapshots(folder / OUT) / "cloud").glob("step-000000010-*"))
    assert (here / OUT / "trace_cloud.csv").exists()
    said = finish(start(here))
    assert f"{OUT} is finished already" in said


def test_stop_ends_an_edge_here_and_its_cloud_and_the_same_command_goes_on(second, here, spec):
    spec = placed(spec, edge="local")
    process = start(here, "local")
    after(snapshots(here / OUT) / "iterations.csv", MIDWAY)
    ended = finish(core(here, "devices", "stop", str(OUT)))
    assert f"{OUT} has ended here; the cloud of {OUT} has ended on {SECOND}" in ended
    finish(process, 143)
    assert state_of(second, "cloud")[0] == "ended"
    assert not (snapshots(here / OUT) / "process").exists()
    finish(start(here, "local"))
    assert losses(here / OUT) == unbroken(spec, here)
    assert json.loads((here / OUT / "result.json").read_text())["resumed"] == 1


def test_a_cloud_that_cannot_go_on_is_said_at_once_and_its_edge_ended(second, here, spec):
    placed(spec)
    process = start(here)
    after(snapshots(here / "board/work" / base() / OUT) / "iterations.csv", 2)
    signalled(here / "board", "", signal.SIGSTOP)
    child = json.loads(next(second.glob("jobs/*/state.json")).read_text())["child"]
    (second / "jobs").rename(second / "moved")
    (second / "jobs").touch()
    os.killpg(child, signal.SIGKILL)
    began = time.monotonic()
    signalled(here / "board", "", signal.SIGCONT)
    said = finish(process, 12)
    assert time.monotonic() - began < 60
    assert f"error: {SECOND}: {second}/jobs" in said
    assert f"; the edge of {OUT} is ended" in said
    assert state_of(here / "board")[0] == "ended"


def test_stop_ends_both_boards_and_new_certificates_let_them_meet_again(second, here, spec):
    """Half made ones, and an address that changed."""
    placed(spec)
    process = start(here)
    after(snapshots(here / "board/work" / base() / OUT) / "iterations.csv", 2)
    process.kill()
    process.communicate()
    ended = finish(core(here, "devices", "stop", str(OUT)))
    for what in (f"{OUT} has ended on {NAME} (exit", f"the cloud of {OUT} has ended on {SECOND} ("):
        assert what in ended
    before = (snapshots(here / OUT) / "certificates/ca.crt").read_bytes()
    (snapshots(here / OUT) / "certificates/cloud.key").unlink()
    process = start(here)
    heard(process, f"{OUT} runs on {NAME}")
    assert (snapshots(here / OUT) / "certificates/ca.crt").read_bytes() != before
    # Meanwhile another dispatcher would wait; this one is killed, and the cloud has a new address.
    process.kill()
    process.communicate()
    for board, part in ((here / "board", ""), (second, "cloud")):
        signalled(board, part, signal.SIGSTOP)
    (snapshots(here / OUT) / "address").write_text("192.0.2.1:5000")
    process = start(here)
    heard(process, f"{OUT} goes by another address or other certificates; it is started again")
    finish(process)
    assert [step for step, _ in losses(here / OUT)] == [str(i) for i in range(STEPS)]


def test_a_cloud_that_leads_gets_no_image_and_its_edge_sends_what_was_generated(
    second, here, few_chairs
):
    shutil.copytree(few_chairs, here / "results/data")
    content = make_spec("chairs", cut=5, staleness=2, steps=STEPS // 2).content
    content["training"] |= {"snapshot_minutes": 1e-6, "test_samples": 4}
    content["data"] = {"name": "few", "folder": "results/data", "size": 16, "classes": 4}
    OUT.mkdir(parents=True)
    spec = placed(RunSpec(content))
    said = finish(start(here))
    assert f"{OUT} runs on {SECOND} (" in said
    assert f"the edge of {OUT} runs on {NAME} (" in said
    data = second / "work" / base() / "results/data"
    names = ["manifest.json", "test_inputs.npy", "train_inputs.npy"]
    assert sorted(path.name for path in data.iterdir()) == names
    assert losses(here / OUT) == unbroken(spec, here)
    assert (here / OUT / "samples.npz").stat().st_size > 100
    assert (here / OUT / "trace_edge.csv").exists()


def test_both_sides_on_one_board_are_one_run_there(second, here, spec):
    spec = placed(spec, cloud=NAME)
    said = finish(start(here))
    assert f"{OUT} runs on {NAME} (" in said
    assert losses(here / OUT) == unbroken(spec, here)
    assert not second.exists()


def test_blocks_are_profiled_on_a_board_without_any_data(board, here, spec):
    shutil.rmtree(here / "results/data")
    words = ["split", "profile", str(OUT / "spec.yaml"), "--side", "edge", "--repeats", "1"]
    job = Job.of([*words, "--out", "results/profiles/edge.json"], "main")
    carry(board, job, Backoff(first=0.1, patience=60))
    found = profiles.load(here / "results/profiles/edge.json")
    assert (found["blocks"], found["device"]["name"]) == (18, NAME)
