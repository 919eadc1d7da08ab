"""Draw a declared figure from finished runs: the picture and, beside it, its numbers."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from matplotlib.figure import Figure

from core.errors import ConfigError
from core.figures import KINDS, style
from core.figures.results import Run, Settings, read_run
from core.files import write_text


class Kind(Protocol):
    """A module that draws. `KEYS` of an entry must be there. `draw` returns the figure and the
    numbers in it, from the runs that the entry names, each once."""

    KEYS: tuple[str, ...]

    @staticmethod
    def draw(
        entry: Mapping[str, Any], runs: Sequence[Run], settings: Settings
    ) -> tuple[Figure, pd.DataFrame]: ...


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
    if entry.get("kind") not in KINDS:
        raise ConfigError(f"kind is {entry.get('kind')!r}, allowed: {', '.join(KINDS)}")
    kind: Kind = importlib.import_module(KINDS[entry["kind"]])  # type: ignore[assignment]
    missing = [key for key in kind.KEYS if key not in entry]
    if missing:
        raise ConfigError(f"no key {', '.join(missing)}, which kind {entry['kind']} needs")
    if not runs:
        raise ConfigError("no run to draw: give the folder of at least one")
    stood_in = {name: settings.ran(name) for name in (*entry["model"], *entry["dataset"])}
    _check_alike(runs)
    _check_named(runs, set(stood_in.values()))
    figure, table = kind.draw(entry, runs, settings)
    style.add_note(figure, style.provenance(runs, stood_in))
    return figure, table


def _check_alike(runs: Sequence[Run]) -> None:
    """Scale and device are one: times of different machines say nothing side by side."""
    for what in ("scale", "device"):
        found = {getattr(run, what): run.folder for run in runs}
        if len(found) > 1:
            each = "; ".join(f"{value} ({folder})" for value, folder in found.items())
            raise ConfigError(f"runs of more than one {what}: {each}; draw them apart")


def _check_named(runs: Sequence[Run], names: set[str]) -> None:
    """Every run is of a model and a data set that the figure is about."""
    for run in runs:
        for what in ("model", "data"):
            trained = run.spec[what]["name"]
            if trained not in names:
                about = ", ".join(sorted(names))
                raise ConfigError(f"{run.folder} has {what} {trained}, the figure is of {about}")
