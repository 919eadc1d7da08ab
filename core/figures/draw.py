"""Draw a declared figure from finished runs: the picture and, beside it, its numbers."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from core.errors import ConfigError
from core.figures import check_entry, style
from core.figures.matching import matched
from core.figures.results import Run, Settings, read_run
from core.files import write_text


class Drawn(NamedTuple):
    """What `draw(entry, runs, settings)` of a kind's module returns, from the runs that the entry
    names, each once and in its order: picture, its numbers, and what a reader must know."""

    figure: Figure
    table: pd.DataFrame
    notes: Sequence[str] = ()


def draw(
    name: str,
    entry: Mapping[str, Any],
    run_folders: Sequence[Path],
    stand_ins: Mapping[str, str],
    time_axis: Mapping[str, str],
    out: Path,
) -> None:
    """Draw a figure of the configuration into `out` (PDF), with PNG and CSV beside it.

    `entry`, `stand_ins` and `time_axis` are those of the configuration, see its schema.
    Raises ConfigError when entry and runs do not belong together, DataError for a damaged run.
    """
    if out.suffix != ".pdf":
        raise ConfigError(f"figure {name}: the output must end in .pdf, not {out.name}")
    runs = [read_run(folder) for folder in run_folders]
    settings = Settings(stand_ins, testing=time_axis["testing"] == "include")
    with style.applied():
        try:
            figure, table = compose(entry, runs, settings)
        except ConfigError as error:
            raise ConfigError(f"figure {name}: {error}") from None
        write_text(out.with_suffix(".csv"), table.to_csv(index=False, lineterminator="\n"))
        style.save(figure, out)


def compose(
    entry: Mapping[str, Any], runs: Sequence[Run], settings: Settings
) -> tuple[Figure, pd.DataFrame]:
    """Check that entry and runs belong together; draw them and say on the face what they are."""
    check_entry(entry)
    runs = matched(entry, runs, settings)
    kind = importlib.import_module(f"core.figures.{entry['kind']}")
    drawn: Drawn = kind.draw(entry, runs, settings)
    stood_in = {name: settings.ran(name) for name in (*entry["model"], *entry["dataset"])}
    origin = style.provenance(runs, stood_in, entry["device"])
    style.add_note(drawn.figure, [*origin, *drawn.notes])
    return drawn.figure, drawn.table
