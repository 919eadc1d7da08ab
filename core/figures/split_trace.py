"""Kind `split_trace`: power, memory and temperature of one run of split training over time."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.figures import style
from core.figures.draw import Drawn
from core.figures.measure_trace import draw_traces, read_trace
from core.figures.results import Settings
from core.figures.split_face import look, subject, title_of
from core.figures.split_results import SplitRun

CLOUD = "trace_cloud.csv"


def draw(entry: Mapping[str, Any], runs: Sequence[SplitRun], settings: Settings) -> Drawn:
    """Draw both sides, each over its own time since the start; events are the edge's."""
    (run,) = runs
    traces = {"edge": read_trace(run), "cloud": read_trace(run, CLOUD)}
    figure, table, notes = draw_traces(run, traces, run.timing)
    name = f"{look(run.scheme).label}, {subject(run)}, {title_of(run)}"
    style.add_title(figure, f"What a run costs over time, {name}")
    return Drawn(figure, table, notes)
