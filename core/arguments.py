"""How arguments are shown: one look for `--help` and for docs/commands.md."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core import PROJECT
from core.errors import ConfigError

PORTS = 65535


class Help(argparse.RawDescriptionHelpFormatter):
    """Wraps descriptions, keeps examples as they are written, and says each default."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)

    def _get_help_string(self, action: argparse.Action) -> str:
        words, default = action.help or "", default_of(action)
        told = not default or "(default:" in words
        return words if told else f"{words} (default: {default.replace('%', '%%')})"


class Parser(argparse.ArgumentParser):
    """With that look, which the parsers of its verbs have too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": Help, **options})


def at_least(least: int) -> Callable[[str], int]:
    """The type of an argument that is a whole number of `least` or more."""

    def number(word: str) -> int:
        if not word.isdecimal() or int(word) < least:
            raise argparse.ArgumentTypeError(f"{word!r}: must be {least} or more")
        return int(word)

    return number


def seconds(word: str) -> float:
    """The type of an argument that is a time: a finite number above 0."""
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{word!r}: must be a number of seconds above 0")
    return number


def host_and_port(text: str) -> tuple[str, int]:
    """Of HOST:PORT. Raises ConfigError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > PORTS:
        raise ConfigError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def examples(parser: argparse.ArgumentParser, *commands: str) -> None:
    """Show command lines below the arguments."""
    title = "example:" if len(commands) == 1 else "examples:"
    parser.epilog = "\n".join([title, *(f"  {command}" for command in commands)])


def default_of(action: argparse.Action) -> str:
    """What holds if nothing is said; empty where that is nothing. A file of the project is named as
    seen from its folder, so that no text has a place on this machine in it."""
    value = action.default
    if value is None or value is False or value == [] or value is argparse.SUPPRESS:
        return ""
    if isinstance(value, Path) and value.is_relative_to(PROJECT):
        value = value.relative_to(PROJECT)
    return f"{value:g}" if isinstance(value, float) else str(value)
