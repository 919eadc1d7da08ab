"""The verb `measure`: sensors of this machine, and meters that are read after a run."""

import argparse
import logging
from pathlib import Path

from core.arguments import examples

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's own verbs."""
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _sensors(verbs.add_parser("sensors", help="list the sensors of this machine"))
    _attach(verbs.add_parser("attach", help="add the file of an outside meter to a finished run"))


def _sensors(parser: argparse.ArgumentParser) -> None:
    parser.description = "List the sensors of this machine, and why one cannot be used."
    examples(
        parser,
        "envs/run main python -m core measure sensors",
    )

    def command(args: argparse.Namespace) -> None:
        from core.measure import sensors

        print("\n".join(sensors() or ["this machine shows no sensors"]))

    parser.set_defaults(command=command)


def _attach(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Add what another meter recorded to the result and the trace of a finished run, by the "
        "clock on the wall. The file has the columns `time,watts`; docs/measure.md."
    )
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("file", type=Path, help="CSV file of the meter")
    parser.add_argument("--idle", type=float, metavar="WATTS", help="power of the idle device")
    examples(
        parser,
        "envs/run main python -m core measure attach RUN_FOLDER meter.csv --idle 2.6",
    )

    def command(args: argparse.Namespace) -> None:
        from core.measure.attach import attach

        found = attach(args.run, args.file, args.idle)
        joules, why = found["joules"], found["why"]
        log.info("%s: %s", args.run, why if joules is None else f"{joules:.1f} J")

    parser.set_defaults(command=command)
