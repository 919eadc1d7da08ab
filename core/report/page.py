"""The page as HTML."""

import time
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from core.claims.book import read_book
from core.claims.table import counts, rows
from core.config import figures
from core.declared import Config
from core.planning.configuration import BOOK
from core.report.content import pictures, runs, totals


def page(config: Config, book: Path = BOOK) -> str:
    """The page about what is in `figures` and `results` of the working directory."""
    judged = rows(read_book(config, book))
    drawn = pictures(config, Path("figures"), judged)
    lines = runs(Path("results"))
    environment = Environment(
        loader=PackageLoader("core.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    made = {picture.name for picture in drawn}
    return environment.get_template("page.html.j2").render(
        made=time.strftime("%d %B %Y, %H:%M"),
        rows=judged,
        counts=counts(judged),
        pictures=drawn,
        missing=[name for name in figures(config) if name not in made],
        runs=lines,
        totals=totals(lines),
    )
