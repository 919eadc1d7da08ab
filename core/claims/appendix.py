"""An artifact appendix: numbered claims, and the experiments that show them with what they take."""

from collections.abc import Mapping, Sequence

from core.claims.book import Claim
from core.declared import Config
from core.planning.estimate import estimate, spent
from core.planning.jobs import Planned, looked_at, planned
from core.planning.plan import BOARD_MINUTES, COMMAND_MINUTES
from core.training.progress import minutes

WORDS = {"higher": "at least", "lower": "at most", "equal": "between"}


def appendix(config: Config, claims: Sequence[Claim], options: str = "") -> str:
    """In Markdown. options: what a reader adds to each command to run in this setting."""
    experiments = list(dict.fromkeys(claim.targets for claim in claims))
    number = {targets: f"E{i}" for i, targets in enumerate(experiments, start=1)}
    lines = ["# Artifact appendix", "", "## Claims", ""]
    for i, claim in enumerate(claims, start=1):
        entry = claim.entry
        note = f" Note: {entry['note']}." if "note" in entry else ""
        lines.append(
            f"- **C{i}** ({entry['source']}): {entry['statement']}. Shown by "
            f"{number[claim.targets]}: {claim.metric.title} {expected(claim)}.{note}"
        )
    lines += ["", "## Experiments", ""]
    for targets in experiments:
        shown = {f"C{i}": c for i, c in enumerate(claims, start=1) if c.targets == targets}
        lines.append(_experiment(config, number[targets], shown, options))
    lines += [
        "## Evaluation",
        "",
        "`snakemake claims --cores 1` with the same options writes the verdict on each claim; "
        "figures share their runs, so that all of them together take less than the sum.",
        "",
    ]
    return "\n".join(lines)


def expected(claim: Claim) -> str:
    """In words: a quotient by its name, and how far it may be off."""
    value, room = claim.entry["published"], claim.entry["tolerance"]
    of = " over that of " + str(claim.entry["over"]["scheme"]) if claim.over is not None else ""
    low, high = value * (1 - room), value * (1 + room)
    if claim.direction == "equal":
        return f"{of} between {low:.3g} and {high:.3g}".strip()
    bound = low if claim.direction == "higher" else high
    return f"{of} {WORDS[claim.direction]} {bound:.3g} (published {value:g})".strip()


def _experiment(config: Config, number: str, claims: Mapping[str, Claim], options: str) -> str:
    """claims: those that it shows, by their numbers. All have the same targets."""
    claim = next(iter(claims.values()))
    runs, title = _runs(config, claim)
    estimates = [_whole(run) for run in runs]
    hours = sum(each for each in estimates if each is not None)
    unknown = sum(each is None for each in estimates)
    boards = {device for run in runs for device in run.devices} - {"local"}
    command = " ".join(["snakemake", *claim.targets, "--cores 1", options]).rstrip()
    known = f"{minutes(3600 * hours)} on {', '.join(sorted(boards)) or 'this machine'}"
    if unknown == len(runs):
        known = "hours that nobody knows before the device is profiled"
    elif unknown:
        known += f"; {unknown} of its {len(runs)} runs have no estimate yet"
    human = COMMAND_MINUTES + BOARD_MINUTES * len(boards)
    return (
        f"### {number}: {title}\n\n    {command}\n\n{human} human-minutes, then {known}. "
        f"Shows {', '.join(claims)}.\n"
    )


def _whole(run: Planned) -> float | None:
    """Hours of a run from its beginning, whatever of it is done here."""
    left = estimate(run).hours
    return None if left is None else spent(run) / 3600 + left


def _runs(config: Config, claim: Claim) -> tuple[list[Planned], str]:
    """What the experiment trains, and what it is called."""
    if "figure" in claim.entry:
        return planned(config, [claim.entry["figure"]]), str(claim.entry["figure"])
    asked = [*claim.run, *(claim.over or ())]
    runs = [looked_at(a.folder, a.key.device, a.spec(a.key.seed)) for a in asked]
    return runs, ", ".join(claim.entry["tasks"])
