"""An artifact appendix: numbered claims, and the experiments that show them with what they take."""

from collections.abc import Sequence

from core.claims.book import Claim
from core.planning.configuration import Config
from core.planning.estimate import estimate
from core.planning.jobs import planned
from core.planning.plan import BOARD_MINUTES, COMMAND_MINUTES
from core.training.progress import minutes

WORDS = {"higher": "at least", "lower": "at most", "equal": "between"}


def appendix(config: Config, claims: Sequence[Claim], options: Sequence[str] = ()) -> str:
    """In Markdown. options: what a reader adds to each command to run in this setting."""
    figures = list(dict.fromkeys(str(claim.entry["figure"]) for claim in claims))
    number = {name: f"E{i}" for i, name in enumerate(figures, start=1)}
    lines = ["# Artifact appendix", "", "## Claims", ""]
    for i, claim in enumerate(claims, start=1):
        entry = claim.entry
        note = f" Note: {entry['note']}." if "note" in entry else ""
        lines.append(
            f"- **C{i}** ({entry['source']}): {entry['statement']}. Shown by "
            f"{number[entry['figure']]}: {claim.metric.title} {_expected(claim)}.{note}"
        )
    lines += ["", "## Experiments", ""]
    lines += [_experiment(config, name, number[name], claims, options) for name in figures]
    lines += [
        "## Evaluation",
        "",
        "`snakemake claims --cores 1` with the same options writes the verdict on each claim; "
        "figures share their runs, so that all of them together take less than the sum.",
        "",
    ]
    return "\n".join(lines)


def _expected(claim: Claim) -> str:
    """In words: a quotient by its name, and how far it may be off."""
    value, room = claim.entry["published"], claim.entry["tolerance"]
    of = " over that of " + str(claim.entry["over"]["scheme"]) if claim.over is not None else ""
    low, high = value * (1 - room), value * (1 + room)
    if claim.direction == "equal":
        return f"{of} between {low:.3g} and {high:.3g}".strip()
    bound = low if claim.direction == "higher" else high
    return f"{of} {WORDS[claim.direction]} {bound:.3g} (published {value:g})".strip()


def _experiment(
    config: Config, figure: str, number: str, claims: Sequence[Claim], options: Sequence[str]
) -> str:
    runs = planned(config, [figure])
    estimates = [estimate(run).hours for run in runs]
    hours = sum(each for each in estimates if each is not None)
    unknown = sum(each is None for each in estimates)
    boards = {run.device for run in runs} - {"local"}
    own = [f"C{i}" for i, claim in enumerate(claims, 1) if claim.entry["figure"] == figure]
    command = " ".join(["snakemake", f"figures/{figure}.pdf", "--cores 1", *options])
    known = f"{minutes(3600 * hours)} on {', '.join(sorted(boards)) or 'this machine'}"
    known += f"; {unknown} of its {len(runs)} runs have no estimate yet" if unknown else ""
    human = COMMAND_MINUTES + BOARD_MINUTES * len(boards)
    return (
        f"### {number}: {figure}\n\n    {command}\n\n{human} human-minutes, then {known}. "
        f"Shows {', '.join(own)}.\n"
    )
