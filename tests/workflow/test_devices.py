"""A device that config/hosts.yaml names does the work; this host only carries and draws."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.devices.conftest import NAME, Sshd, make_sshd
from tests.workflow.conftest import TINY, Call, jobs_planned, snakemake_command
from tests.workflow.test_split import TINY as SPLIT_TINY


@pytest.fixture
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = make_sshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


WORDS = ("figures/fig15a_ego.pdf", "--configfile", str(TINY), "--config", "framework=torch")


@pytest.mark.slow
def test_a_figure_of_a_board_is_profiled_and_trained_there_and_drawn_here(
    snakemake: Call, sshd: Sshd, tmp_path: Path
) -> None:
    sshd.hosts(tmp_path)
    ended = snakemake(*WORDS, f"device={NAME}")
    assert ended.returncode == 0, ended.stdout
    folder = tmp_path / f"results/tiny/{NAME}/torch"
    (result,) = folder.glob("*/elastic-*/result.json")
    assert json.loads(result.read_text())["provenance"]["device"] == NAME
    assert (tmp_path / "figures/fig15a_ego.pdf").exists()
    for job in ("profiles/*elpv.log", "*/elastic-*seed0.log"):
        (log,) = (tmp_path / f"logs/tiny/{NAME}/torch").glob(job)
        assert f"runs on {NAME} (" in log.read_text()
    # What was trained lies on the board, with its snapshots.
    assert list((tmp_path / "board/work").glob("*/results/tiny/*/torch/*/elastic-*.snapshots"))
    again = snakemake("-n", *WORDS, f"device={NAME}")
    assert jobs_planned(again.stdout) == {}


@pytest.mark.slow
def test_a_cloud_is_profiled_and_trains_on_a_board_and_its_edge_here(
    snakemake: Call, sshd: Sshd, tmp_path: Path
) -> None:
    sshd.hosts(tmp_path)
    run = tmp_path / "results/tiny/local/split/imdb_bilstm/loopback/jointdnn-steps9-seed0"
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"split: {{cloud: {{device: {NAME}}}}}")
    words = [str((run / "result.json").relative_to(tmp_path))]
    words += ["--configfile", str(SPLIT_TINY), str(mine)]
    ended = snakemake(*words)
    assert ended.returncode == 0, ended.stdout
    log = (tmp_path / "logs" / run.relative_to(tmp_path / "results")).with_suffix(".log")
    assert f"waits on {NAME}, at 127.0.0.1:" in log.read_text()
    assert json.loads((run / "result.json").read_text())["cloud"]["peak_mib"] > 0
    profile = tmp_path / f"results/tiny/{NAME}/split/profiles/imdb_bilstm-cloud.json"
    assert json.loads(profile.read_text())["device"]["name"] == NAME
    assert list(tmp_path.glob("board/work/*/results/tiny/*/split/profiles/*-cloud.json"))
    again = snakemake("-n", *words)
    assert jobs_planned(again.stdout) == {}


def jobs_on_board(board: Path) -> list[psutil.Process]:
    """What was started there and works below the board's folder: the command, not who watches."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = Path(process.cwd()).is_relative_to(board)
            if inside and process.cmdline()[1:4] == ["-m", "core", "split"]:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


@pytest.mark.slow
def test_of_two_snakemakes_with_one_board_the_second_is_told_and_has_its_turn_later(
    snakemake: Call, sshd: Sshd, environment: dict[str, str], tmp_path: Path
) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        sshd.hosts(folder, folder=str(tmp_path / "board"))
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"split: {{edge: {{device: {NAME}}}}}")
    profile = f"results/tiny/{NAME}/split/profiles/imdb_bilstm-edge.json"
    words = [profile, "--configfile", str(SPLIT_TINY), str(mine)]
    first = subprocess.Popen(
        snakemake_command(folders[0], *words),
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not (jobs := jobs_on_board(tmp_path / "board")):
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < end, "nothing was started on the board"
        time.sleep(0.05)
    jobs[0].send_signal(signal.SIGSTOP)  # so that it is there for as long as it takes
    try:
        second = snakemake(*words, folder=folders[1])
    finally:
        jobs[0].send_signal(signal.SIGCONT)
    assert second.returncode != 0
    assert f"{NAME} is taken: " in second.stdout
    assert f"runs {profile} there since" in second.stdout
    said, _ = first.communicate()
    assert first.returncode == 0, said
    again = snakemake(*words, folder=folders[1])
    assert again.returncode == 0, again.stdout
    for folder in folders:
        assert json.loads((folder / profile).read_text())["device"]["name"] == NAME
