"""The verb `bench`."""

import argparse
import importlib
import json
import sys
from pathlib import Path

from core import machine
from core.bench import BENCHMARKS
from core.errors import ConfigError
from core.files import write_text
from core.results import commit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's arguments."""
    parser.add_argument("name", nargs="?", help=f"one of {', '.join(BENCHMARKS)}")
    parser.add_argument(
        "--list", action="store_true", help="print every name with its environment, one a line"
    )
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")


def main(args: argparse.Namespace) -> None:
    """Run one benchmark; its JSON is the last thing printed."""
    if args.list:
        pairs = ((name, e) for name, environments in BENCHMARKS.items() for e in environments)
        print("\n".join(f"{name} {environment}" for name, environment in pairs))
        return
    if args.name not in BENCHMARKS:
        raise ConfigError(f"unknown benchmark {args.name!r}; known: {', '.join(BENCHMARKS)}")
    report = importlib.import_module(f"core.bench.{args.name}").run()
    content = {
        "name": args.name,
        "environment": Path(sys.prefix).name,
        "kind": report.kind,
        "figures": report.figures,
        "limits": report.limits,
        "exceeded": report.exceeded(),
        "notes": report.notes,
        "machine": machine.describe(),
        "commit": commit(),
    }
    text = json.dumps(content, indent=1)
    if args.out:
        write_text(args.out, text + "\n")
    print(text)
