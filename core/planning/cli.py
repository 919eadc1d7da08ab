"""The verb `plan`."""

import argparse

from core.planning import configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's arguments."""
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="FIGURE",
        help="figures or groups; `campaign` is every run with `seeds` seeds",
    )
    parser.add_argument("--all", action="store_true", help="every figure")
    configuration.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare estimates of earlier plans with what runs took",
    )


def main(args: argparse.Namespace) -> None:
    """Print the plan."""
    from core.planning import plan  # late: it reads tables with libraries

    plan.main(args)
