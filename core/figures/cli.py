"""The verb `figure`: draw one figure from finished runs, profiles or the simulator."""

import argparse
import json
from pathlib import Path
from typing import Any

from core.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's arguments."""
    parser.add_argument("--name", required=True, help="name of the figure, as in `figures`")
    parser.add_argument("--entry", required=True, metavar="JSON", help="its entry in `figures`")
    parser.add_argument("--stand-ins", default="{}", metavar="JSON", help="`stand_ins`")
    parser.add_argument(
        "--testing",
        default="exclude",
        choices=("include", "exclude"),
        help="whether the time axis counts testing",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="PDF", help="figure to write")
    parser.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN_FOLDER",
        help="folder of a finished run; for kind split_profile, profiles of edge and cloud (JSON)",
    )


def main(args: argparse.Namespace) -> int:
    """Draw the figure; return the exit code."""
    entry = _mapping("--entry", args.entry)
    stand_ins = _mapping("--stand-ins", args.stand_ins)
    from core.figures.draw import draw  # matplotlib is slow to import, other verbs do without

    draw(args.name, entry, args.runs, stand_ins, {"testing": args.testing}, args.out)
    return 0


def _mapping(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{option} is not JSON ({error}): {text!r}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{option} must be a JSON object, not {text!r}")
    return value
