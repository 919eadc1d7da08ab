"""Kind `split_energy`: joules of each scheme of split training, on each side."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.figures import measured
from core.figures.bars import joules
from core.figures.draw import Drawn
from core.figures.measured import energy, metered
from core.figures.results import Settings
from core.figures.split_cost import Costs, draw_cost, of_cloud
from core.figures.split_face import look
from core.figures.split_results import SplitRun

TOGETHER = "both sides"


def draw(entry: Mapping[str, Any], runs: Sequence[SplitRun], settings: Settings) -> Drawn:
    """Draw a panel for each side; one where both are on one machine, whose meter cannot tell them
    apart."""
    of = {metered(run) for run in runs}
    costs: Costs = {"Edge": energy, "Cloud": lambda run: of_cloud(run, energy)}
    if TOGETHER in of:
        costs = {"Both sides, one machine": energy}
    drawn = draw_cost(entry, runs, costs, "Energy", joules, " (J)")
    named = [(look(run.scheme).label, run) for run in runs]
    sides = ["edge"] if TOGETHER in of else ["edge", "cloud"]
    meters = dict.fromkeys(line for side in sides for line in measured.meters(named, side))
    included = ["testing included · idle power included"] if meters else []
    return drawn._replace(notes=[*meters, *drawn.notes, *included])
