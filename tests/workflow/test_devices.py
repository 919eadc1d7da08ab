"""A device that config/hosts.yaml names does the work; this host only carries and draws."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devices.conftest import NAME, Sshd, make_sshd
from tests.workflow.conftest import TINY, Call, jobs_planned
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
