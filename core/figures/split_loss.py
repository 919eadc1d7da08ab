"""Kind `split_loss`: test loss against training time, a panel per context, a curve per scheme."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.figures.draw import Drawn
from core.figures.results import Settings
from core.figures.split_accuracy import curves
from core.figures.split_results import SplitRun


def draw(entry: Mapping[str, Any], runs: Sequence[SplitRun], settings: Settings) -> Drawn:
    """Draw one point per epoch over the time it took to get there."""
    return curves(entry, runs, settings, "test_loss")
