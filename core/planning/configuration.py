"""The configuration as Snakemake reads it: files over files, then the command line."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import yaml

from core import PROJECT, schema
from core import config as settings
from core.declared import Config
from core.errors import ConfigError

SHIPPED = PROJECT / "config/config.yaml"
PAPER = PROJECT / "config/paper.yaml"
DEVICES = PROJECT / "config/devices"
CONTEXTS = PROJECT / "config/contexts"
BOOK = PROJECT / "config/claims.yaml"  # of claims


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--configfile and --config, as Snakemake has them; `read` takes them."""
    add = parser.add_argument
    add(
        "--configfile",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        help="files of settings over config/config.yaml, as Snakemake takes them",
    )
    add(
        "--config",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="settings over all files, likewise",
    )


def read(files: Sequence[Path], words: Sequence[str]) -> Config:
    """The shipped configuration, these files over it, and KEY=VALUE over all. Raises ConfigError
    for whatever the workflow would refuse."""
    content: Config = {}
    for file in (SHIPPED, *files):
        more = schema.read_yaml(file) or {}
        if not isinstance(more, dict):
            raise ConfigError(f"{file}: must be sections and settings, KEY: VALUE")
        content = settings.over(content, more)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"--config {word}: write KEY=VALUE")
        try:
            content = settings.over(content, {key: yaml.safe_load(value)})
        except yaml.YAMLError as error:
            raise ConfigError(f"--config {word}: {error}") from None
    settings.check(content, [SHIPPED, *files], DEVICES)
    settings.check_published(content, settings.read_published(SHIPPED.parent))
    return content
