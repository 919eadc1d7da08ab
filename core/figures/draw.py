"""Draw a declared figure from finished runs: the picture and, beside it, its numbers."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from core.errors import ConfigError
from core.figures import check_entry, measured, split_face, style
from core.figures.federated_kinds import FEDERATED_KINDS, check_federated_entry
from core.figures.federated_results import (
    federated_matched,
    federated_origin,
    read_federated_run,
)
from core.figures.matching import matched
from core.figures.results import Run, Settings, read_run
from core.figures.split_kinds import SPLIT_KINDS, check_split_entry
from core.figures.split_matching import split_matched
from core.figures.split_results import read_profile, read_split_run
from core.files import write_text

Entry = Mapping[str, Any]


class Drawn(NamedTuple):
    """What `draw(entry, runs, settings)` of a kind's module returns, from the runs that the entry
    names, each once and in its order: picture, its numbers, and what a reader must know."""

    figure: Figure
    table: pd.DataFrame
    notes: Sequence[str] = ()


class Family(NamedTuple):
    """How the kinds of figures of one subject get what they draw.

    check: raises ConfigError for an entry that its kind cannot draw. read: one of the given files
    or folders. matched: what was read, in the order of the entry. origin: where the numbers come
    from, as lines for the face.
    """

    check: Callable[[Entry], None]
    read: Callable[[Path], Any]
    matched: Callable[[Entry, Sequence[Any], Settings], list[Any]]
    origin: Callable[[Entry, Sequence[Any], Settings], list[str]]


def _elastic_origin(entry: Entry, runs: Sequence[Run], settings: Settings) -> list[str]:
    stood_in = {name: settings.ran(name) for name in (*entry["model"], *entry["dataset"])}
    labelled = [(style.label(run.scheme, run.rho), run) for run in runs]
    return [*style.provenance(runs, stood_in, entry["device"]), *measured.throttled(labelled)]


ELASTIC = Family(check_entry, read_run, matched, _elastic_origin)
SPLIT = Family(check_split_entry, read_split_run, split_matched, split_face.origin)
FEDERATED = Family(check_federated_entry, read_federated_run, federated_matched, federated_origin)


def family(entry: Entry) -> Family:
    """That of an entry's kind."""
    if entry.get("kind") in FEDERATED_KINDS:
        return FEDERATED
    if entry.get("kind") not in SPLIT_KINDS:
        return ELASTIC
    of_profiles = SPLIT_KINDS[entry["kind"]].source == "profiles"
    return SPLIT._replace(read=read_profile) if of_profiles else SPLIT


def draw(
    name: str,
    entry: Entry,
    paths: Sequence[Path],
    stand_ins: Mapping[str, str],
    time_axis: Mapping[str, str],
    out: Path,
) -> None:
    """Draw a figure of the configuration into `out` (PDF), with PNG and CSV beside it.

    `entry`, `stand_ins` and `time_axis` are those of the configuration, see its schema. `paths`:
    folders of finished runs, or what else its kind is drawn from.
    Raises ConfigError when entry and runs do not belong together, DataError for a damaged run.
    """
    if out.suffix != ".pdf":
        raise ConfigError(f"figure {name}: the output must end in .pdf, not {out.name}")
    given = [family(entry).read(path) for path in paths]
    settings = Settings(stand_ins, testing=time_axis["testing"] == "include")
    with style.applied():
        try:
            figure, table = compose(entry, given, settings)
        except ConfigError as error:
            raise ConfigError(f"figure {name}: {error}") from None
        write_text(out.with_suffix(".csv"), table.to_csv(index=False, lineterminator="\n"))
        style.save(figure, out)


def compose(entry: Entry, given: Sequence[Any], settings: Settings) -> tuple[Figure, pd.DataFrame]:
    """Check that an entry and what was read belong together; draw it and say on the face what it
    is."""
    own = family(entry)
    own.check(entry)
    given = own.matched(entry, given, settings)
    kind = importlib.import_module(f"core.figures.{entry['kind']}")
    drawn: Drawn = kind.draw(entry, given, settings)
    style.add_note(drawn.figure, [*own.origin(entry, given, settings), *drawn.notes])
    return drawn.figure, drawn.table
