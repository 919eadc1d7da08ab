"""Arguments of the verb `report`. The page itself is made by core.report.page."""

import argparse
import logging
from pathlib import Path

from core.files import write_text
from core.planning import configuration

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's arguments."""
    add = parser.add_argument
    add("--book", type=Path, default=configuration.BOOK, help="file of claims")
    configuration.add_arguments(parser)
    add("--out", type=Path, default=Path("results/report.html"), help="page to write")


def command(args: argparse.Namespace) -> None:
    """Write the page."""
    from core.report.page import page  # late: the other environment has no pandas

    text = page(configuration.read(args.configfile, args.config), args.book)
    write_text(args.out, text)
    log.info("%s: %.1f MB", args.out, len(text.encode()) / 1e6)
