"""The page as HTML."""

import time
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from core.claims.book import read_book
from core.claims.table import counts, row
from core.planning.configuration import BOOK, Config
from core.report.content import names, pictures, runs, totals


def page(config: Config, book: Path = BOOK) -> str:
    """The page about what is in `figures` and `results` of the working directory."""
    rows = [row(claim) for claim in read_book(config, book)]
    drawn = pictures(config, Path("figures"), rows)
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
        rows=rows,
        counts=counts(rows),
        pictures=drawn,
        missing=[name for name in names(config) if name not in made],
        runs=lines,
        totals=totals(lines),
    )
