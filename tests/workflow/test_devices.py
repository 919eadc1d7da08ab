"""A device that config/hosts.yaml names does the work; this host only carries and draws."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devices.conftest import NAME, Sshd, make_sshd
from tests.workflow.conftest import TINY, Call, jobs_planned


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
