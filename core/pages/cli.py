"""The verb `pages`."""

import argparse
import logging
from pathlib import Path

from core import PROJECT
from core.files import write_text

log = logging.getLogger(__name__)


def write(parser: argparse.ArgumentParser, root: Path = PROJECT) -> None:
    """Write what is made of the pages of a checkout. parser: of all verbs."""
    from core.pages import commands, expected, pictures  # late, as with all verbs

    for name, text in (("commands", commands.page(parser)), ("expected", expected.page())):
        write_text(root / f"docs/{name}.md", text)
        log.info("docs/%s.md: written", name)
    for name in pictures.shown((root / "README.md").read_text(encoding="utf-8")):
        picture = f"{pictures.FOLDER}/{name}.png"
        if pictures.remake(root, name):
            log.info("%s: made from figures/%s.png", picture, name)
        else:
            log.warning(
                "%s: left as it is, since figures/%s.png is missing; "
                "`snakemake figures/%s.pdf --cores 1` makes it",
                picture, name, name,
            )  # fmt: skip
