"""docs/expected.md: which figure of a paper each one is, how long that took, what came out."""

import re
from collections.abc import Iterator, Sequence

from core import config as settings
from core.claims.appendix import expected
from core.claims.book import Claim, read_book
from core.declared import Config, Key
from core.planning.configuration import DEVICES, PAPER, read
from core.planning.estimate import published
from core.training.progress import minutes

HEAD = """\
# What to expect

`make pages` writes this page from the configuration at paper scale (`config/paper.yaml` with
`device: published`), `config/claims.yaml` and the published hours. [figures.md](figures.md) says
what each figure shows.

Hours are the paper's, read off its figures: nothing here was measured. Where the paper has no hours
for a budget ρ, they are taken in the ratio of the budgets. Figures share runs, so that a group
takes less than the sum of its figures. Figures whose place in a paper is not given are of this
project: those of the split training paper were not at hand, and its statements below are those of
its abstract and of a published benchmark.

| target | in the paper | runs | hours as published | numbers to hold against |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole page, in Markdown."""
    config = read([PAPER], ["device=published"])
    claims = read_book(config)
    figures = settings.figures(config)
    of = {name: [c for c in claims if c.entry.get("figure") == name] for name in figures}
    rows = [_row(config, name, [name], of[name]) for name in figures]
    for group, names in settings.targets(config).items():
        rows.append(_row(config, group, names, [c for name in names for c in of[name]]))
    lines = [HEAD + "\n".join(rows)]
    for name, own in of.items():
        if own:
            lines += _table(name, own)
    lines += _table("Of whole tasks", [c for c in claims if "figure" not in c.entry])
    return "\n".join(lines) + "\n"


def _row(config: Config, name: str, figures: Sequence[str], claims: Sequence[Claim]) -> str:
    """Of a figure, or of a group of them."""
    keys = settings.runs(config, figures, seeds=1)
    link = f"[{len(claims)}](#{name})" if claims and [name] == list(figures) else len(claims) or ""
    cells = (f"`{name}`", _place(name), len(keys) or "", _hours(config, keys), link)
    return f"| {' | '.join(map(str, cells))} |".replace("|  |", "| |").replace("|  |", "| |")


def _place(name: str) -> str:
    """In the paper: names of its figures and tables are our names."""
    found = re.fullmatch(r"(fig|table)(\d+)([a-f]*)(_ego)?", name)
    if found is None:
        return ""
    kind, number, parts, alone = found.groups()
    if len(parts) == 2:
        parts = f"{parts[0]}, {parts[1]}"
    only = ", ElasticTrainer alone" if alone else ""
    return f"{'Figure' if kind == 'fig' else 'Table'} {number}{parts}{only}"


def _hours(config: Config, keys: Sequence[Key]) -> str:
    """Of all runs, by device. Empty where those of one are not known."""
    hours: dict[str, float] = {}
    for key in keys:
        spec = settings.run_spec(config, key, DEVICES)
        seconds = published(key.device, spec)
        if seconds is None:
            return ""
        whole = seconds * spec["training"]["epochs"]
        hours[key.device] = hours.get(key.device, 0.0) + whole
    return ", ".join(f"{minutes(whole)} on {device}" for device, whole in hours.items())


def _table(title: str, claims: Sequence[Claim]) -> Iterator[str]:
    """What the paper says, and what counts as the same."""
    yield from ("", f"## {title}", "")
    yield from ("| statement | counts as the same | source |", "|---|---|---|")
    for claim in claims:
        entry = claim.entry
        note = f". {entry['note']}" if "note" in entry else ""
        source = f"{entry['source']}{note}"
        yield f"| {entry['statement']} | {claim.metric.title} {expected(claim)} | {source} |"
