"""How much longer than profiled both sides take, seen on the steps that they have finished.

Profiles are of devices as they were, quiet and alone. A device gets warm or is shared, and two
sides on one machine take each other's time. Only the ratio of seconds to profiled seconds is looked
at, of each side by its own clock.
"""

from dataclasses import asdict
from statistics import median
from typing import Any, Literal

from core.split.costs import Load
from core.split.sides import CLOUD, EDGE, Side, other

# Fewest steps that tell of a load, how much a look counts against those before, and the most that
# is believed, either way.
FEWEST, NEW, MOST = 3, 0.5, 20.0

Where = Literal["both", "edge", "cloud"]  # the sides that compute


class Follower:
    """Keeps the load. The first look counts whole, as does the first where other sides compute
    than before; half of each later one is new.

    At an inner cut what both sides slow each other down by cannot be told from what each takes by
    itself, until one of them was seen alone. Until then what both are slower by in common counts as
    mutual: an end, where nobody slows anybody down, has the benefit of the doubt, and one look
    there tells. From then on it stays, until the next look across.

    Of a side that has no blocks nothing is seen. It stays as it was last known; on one machine it
    goes with the other one, as what slows that down while it is alone is the machine.
    """

    def __init__(self, blocks: int, front: Side, shared: bool) -> None:
        """shared: both sides run on one machine; on two nothing is mutual."""
        self.load = Load()
        self._blocks, self._front, self._shared = blocks, front, shared
        self._where: Where | None = None  # at the last look
        self._known = not shared  # what is mutual was seen
        self._seen: list[tuple[float, float]] = []

    def observe(self, edge_s: float, cloud_s: float) -> None:
        """T1 and T3 of a finished step at the cut in force."""
        self._seen.append((edge_s, cloud_s))

    def forget(self) -> None:
        """Another place is in force: times of steps that were seen are not of it."""
        self._seen = []

    def look(self, cut: int, edge_s: float, cloud_s: float) -> None:
        """Go by the steps since the last look, if they are enough. edge_s, cloud_s: profiled."""
        if len(self._seen) < FEWEST:
            return
        taken = zip(*self._seen, strict=True)
        self._seen = []
        found: dict[Side, float] = {
            side: _bounded(median(times) / usual)
            for side, times, usual in zip((EDGE, CLOUD), taken, (edge_s, cloud_s), strict=True)
            if usual > 0
        }
        where = self._place(cut)
        if set(found) >= ({EDGE, CLOUD} if where == "both" else {where}):
            self._together(found) if where == "both" else self._alone(where, found[where])
            self._where = where

    def _place(self, cut: int) -> Where:
        if 0 < cut < self._blocks:
            return "both"
        return self._front if cut else other(self._front)

    def _together(self, found: dict[Side, float]) -> None:
        load, before = self.load, self._where
        new = NEW if before == "both" else 1.0
        edge, cloud = (
            new * found[side] + (1 - new) * load.of(side) * load.mutual for side in (EDGE, CLOUD)
        )
        mutual = load.mutual
        if self._shared and before is not None and before != "both":  # alone a moment ago
            mutual, self._known = _mutual(found[before] / load.of(before)), True
        elif not self._known:
            mutual = _mutual(min(edge, cloud))
        self.load = Load(_bounded(edge / mutual), _bounded(cloud / mutual), mutual)

    def _alone(self, side: Side, found: float) -> None:
        load, before = self.load, self._where
        rest, mutual = load.of(other(side)), load.mutual
        if before == side:
            found = NEW * found + (1 - NEW) * load.of(side)
        if self._shared and before == "both":  # with the other one a moment ago
            mutual, self._known = _mutual(load.of(side) * load.mutual / found), True
            rest *= load.mutual / mutual  # what it takes beside this one stays what it was
        elif self._shared:
            rest *= found / load.of(side)
        edge, cloud = (found, rest) if side == EDGE else (rest, found)
        self.load = Load(_bounded(edge), _bounded(cloud), mutual)

    def state(self) -> dict[str, Any]:
        """What changes, as JSON."""
        seen = [list(times) for times in self._seen]
        own = {"where": self._where, "known": self._known, "seen": seen}
        return {"load": asdict(self.load), **own}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.load = Load(**state["load"])
        self._where, self._known = state["where"], state["known"]
        self._seen = [(edge_s, cloud_s) for edge_s, cloud_s in state["seen"]]


def _bounded(ratio: float) -> float:
    return min(max(ratio, 1 / MOST), MOST)


def _mutual(ratio: float) -> float:
    """Two sides do not make each other faster."""
    return min(max(ratio, 1.0), MOST)
