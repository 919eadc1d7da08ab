"""The verb `claims`."""

import argparse
import logging
import shlex
from pathlib import Path

from core.files import write_text
from core.planning import configuration

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's arguments."""
    add = parser.add_argument
    add("--book", type=Path, default=configuration.BOOK, help="file of claims")
    configuration.add_arguments(parser)
    add("--out", type=Path, help="write OUT.csv, OUT.json and OUT.md instead of printing")
    add(
        "--appendix",
        type=Path,
        metavar="FILE",
        help="write an artifact appendix (Markdown) instead",
    )


def main(args: argparse.Namespace) -> None:
    """Print or write the table."""
    from core.claims.appendix import appendix  # late: the other environment has no pandas
    from core.claims.book import read_book
    from core.claims.table import counts, markdown, rows, write

    config = configuration.read(args.configfile, args.config)
    claims = read_book(config, args.book)
    if args.appendix:
        files = ["--configfile", *map(str, args.configfile)] if args.configfile else []
        words = ["--config", *args.config] if args.config else []
        write_text(args.appendix, appendix(config, claims, shlex.join([*files, *words])))
        return
    found = rows(claims)
    if args.out is None:
        print(markdown(found))
    else:
        write(found, args.out)
    log.info("%d claims: %s", len(found), counts(found))
