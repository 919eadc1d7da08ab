"""Kind `split_memory`: peak memory of each scheme of split training, on each side."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.figures.draw import Drawn
from core.figures.measured import memory
from core.figures.results import Settings
from core.figures.split_cost import Costs, draw_cost, of_cloud
from core.figures.split_results import SplitRun


def draw(entry: Mapping[str, Any], runs: Sequence[SplitRun], settings: Settings) -> Drawn:
    """Draw a panel for each side."""
    costs: Costs = {"Edge": memory, "Cloud": lambda run: of_cloud(run, memory)}
    drawn = draw_cost(entry, runs, costs, "Peak memory", unit=" (GiB)")
    note = "resident memory of the processes of a side, framework included"
    return drawn._replace(notes=[note, *drawn.notes])
