"""The verb `claims`."""

import argparse
import logging
from pathlib import Path

from core.planning.configuration import PROJECT, read

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's arguments."""
    add = parser.add_argument
    add(
        "--book",
        type=Path,
        default=PROJECT / "config/claims.yaml",
        help="the claims (default: config/claims.yaml)",
    )
    add("--configfile", nargs="+", action="extend", default=[], type=Path, help="as of Snakemake")
    add("--config", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="likewise")
    add("--out", type=Path, help="write OUT.csv, OUT.json and OUT.md instead of printing")


def main(args: argparse.Namespace) -> None:
    """Print or write the table."""
    from core.claims.book import read_book  # late: the other environment has no pandas
    from core.claims.table import counts, markdown, row, write

    rows = [row(claim) for claim in read_book(read(args.configfile, args.config), args.book)]
    if args.out is None:
        print(markdown(rows))
    else:
        write(rows, args.out)
    log.info("%d claims: %s", len(rows), counts(rows))
