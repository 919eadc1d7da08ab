"""Runs Snakemake itself, in a folder of the test's own."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "workflow" / "tiny.yaml"

Call = Callable[..., "subprocess.CompletedProcess[str]"]


def jobs_planned(said: str) -> dict[str, int]:
    """Rules that a dry run would run, with the number of jobs of each."""
    table = said.partition("Job stats:")[2].partition("total")[0]
    rows = (line.split() for line in table.splitlines()[3:] if line.strip())
    return {rule: int(count) for rule, count in rows}


def snakemake_command(folder: Path, *words: str) -> list[str]:
    return [
        "snakemake",
        *words,
        "--cores=1",
        f"--snakefile={ROOT / 'Snakefile'}",
        f"--directory={folder}",
        f"--workflow-profile={ROOT / 'profiles' / 'default'}",
    ]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Archives that this checkout has fetched already are not fetched again, and a campaign that
    holds this device is not waited for."""
    downloads = ROOT / "results" / "downloads"
    mirror = {"DATA_MIRROR": str(downloads)} if downloads.is_dir() else {}
    return os.environ | mirror | {"TMPDIR": str(tmp_path_factory.mktemp("locks"))}


@pytest.fixture
def snakemake(tmp_path: Path, environment: dict[str, str]) -> Call:
    """Run Snakemake to its end in `tmp_path` or `folder`; output and errors come back as one."""

    def call(*words: str, folder: Path = tmp_path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            snakemake_command(folder, *words),
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    return call
