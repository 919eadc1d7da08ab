"""Runs of the pipeline for a benchmark: where it puts them, so that those that are there are used
and a stopped benchmark goes on where it was."""

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from core import PROJECT, schema
from core.declared import Config
from core.split.config import SplitKey


def config() -> Config:
    """The shipped configuration, at demo scale."""
    content: Config = schema.read_yaml(PROJECT / "config/config.yaml")
    return content


def snakemake(targets: Iterable[str]) -> None:
    """Make files of the pipeline. Its own messages tell how far it is; they leave standard output
    to the JSON."""
    command = ["snakemake", *targets, "--cores", "1", "--snakefile", str(PROJECT / "Snakefile")]
    command += ["--directory", str(PROJECT)]
    command += ["--workflow-profile", str(PROJECT / "profiles/default")]
    subprocess.run(command, check=True, stdout=sys.stderr, env=os.environ)


def trained(content: Config, keys: Sequence[SplitKey]) -> list[Path]:
    """Folders of these runs of split training, which are trained first where they are not there."""
    folders = [key.folder(content) for key in keys]
    snakemake(f"{folder}/result.json" for folder in folders)
    return [PROJECT / folder for folder in folders]
