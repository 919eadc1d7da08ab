"""Where to cut, and how to compress: the decision engine.

After "Context-aware split training" (IMWUT 5(4), 2021), decision engine. With T1 edge, T2 uplink,
T3 cloud, T4 downlink seconds of a step, T* the largest, T0 their sum, staleness K, and r steps left
before the next change, r steps take

    t = (r − 1)·T* + T0 + (⌈r/(K+1)⌉ − 1)·max(0, T0 − (K+1)·T*)

and the time to move the blocks that change sides. The slowest of the four goes on without a break
as long as K + 1 steps of it last longer than the way of one step through all four; if not, the
front waits once every K + 1 steps. K = 0 gives r·T0, serial training.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from core.split.costs import Costs, Load
from core.split.load import Follower
from core.split.sides import EDGE

# A share by which predictions are off themselves (benchmark `pipeline`: 2.5 % at worst): times
# that are nearer cannot be told apart.
ALIKE = 0.025


@dataclass(frozen=True)
class Choice:
    """What is decided. Blocks [0, cut) are at the front; uplink is the codec of features, downlink
    that of gradients.

    At both ends (cut 0 and n) nothing is encoded; the codecs are names without a meaning there.
    """

    cut: int
    uplink: str
    downlink: str


class Estimates(Protocol):
    """What an estimator knows of the link; None until something was seen."""

    @property
    def up(self) -> float | None: ...
    @property
    def down(self) -> float | None: ...
    @property
    def delay(self) -> float | None: ...


@dataclass(frozen=True)
class Link:
    """The link as it is now: rates in bytes per second, one-way delay in seconds.

    Raises ValueError for a rate that is not above 0 and for a negative delay.
    """

    up: float
    down: float
    delay: float = 0.0

    def __post_init__(self) -> None:
        if not (self.up > 0 and self.down > 0 and 0 <= self.delay < math.inf):
            raise ValueError(f"rates must be above 0 and the delay not negative: {self}")

    @classmethod
    def of(cls, seen: Estimates) -> "Link | None":
        """What an estimator has seen; None while a rate is unknown. Unknown delay counts as 0."""
        if seen.up is None or seen.down is None:
            return None
        return cls(seen.up, seen.down, seen.delay or 0.0)


@dataclass(frozen=True)
class Stages:
    """What a step asks of each of the four: seconds of the sides, bytes of the link."""

    edge_s: float
    uplink_bytes: float
    cloud_s: float
    downlink_bytes: float


@dataclass(frozen=True)
class Prediction:
    """Seconds of a choice. edge_s, uplink_s, cloud_s, downlink_s are T1 to T4 of a step.

    slowest_s: T*. through_s: T0, the way of one step through all four and both delays.
    step_s: of a step once the pipeline is full, max(T*, T0/(K+1)).
    move_s: to move the blocks that change sides. total_s: of all remaining steps and the move.
    """

    choice: Choice
    edge_s: float
    uplink_s: float
    cloud_s: float
    downlink_s: float
    slowest_s: float
    through_s: float
    step_s: float
    move_s: float
    total_s: float


def stages(costs: Costs, choice: Choice, staleness: int) -> Stages:
    """A step at a cut; NaN where the costs are unknown. The front replays unless K = 0.

    Raises ValueError for a cut outside 0..n and for a codec without costs.
    """
    cut = choice.cut
    if not 0 <= cut <= costs.blocks:
        raise ValueError(f"cut {cut} is outside 0..{costs.blocks}")
    features, gradients = costs.codec(choice.uplink), costs.codec(choice.downlink)
    if costs.front == EDGE:
        edge, cloud = costs.edge_replay_s if staleness > 0 else costs.edge_s, costs.cloud_s
        edge = edge + features.edge_encode_s + gradients.edge_decode_s
        cloud = cloud + features.cloud_decode_s + gradients.cloud_encode_s
        up, down = features.uplink_bytes, gradients.downlink_bytes
    else:
        assert costs.cloud_replay_s is not None  # that is what makes it so
        edge, cloud = costs.edge_s, costs.cloud_replay_s if staleness > 0 else costs.cloud_s
        edge = edge + features.edge_decode_s + gradients.edge_encode_s
        cloud = cloud + features.cloud_encode_s + gradients.cloud_decode_s
        up, down = gradients.uplink_bytes, features.downlink_bytes
    return Stages(float(edge[cut]), float(up[cut]), float(cloud[cut]), float(down[cut]))


def predict(
    costs: Costs,
    link: Link,
    cut: int,
    uplink: str,
    downlink: str,
    staleness: int,
    remaining: int,
    from_cut: int | None = None,
) -> Prediction:
    """Seconds that `remaining` steps take with a choice, by the published formula.

    One addition to it: T0 has the link's delay, once each way; a delay of 0 is the paper. All-edge
    uses no link and has no delay. At cut 0 no gradient comes back, but an answer does.

    staleness: K, at least 0. remaining: r, at least 1.
    from_cut: where the blocks are now; None: where the cut wants them.
    Raises ValueError as `stages`, and for K or r below its least.
    """
    if staleness < 0 or remaining < 1:
        raise ValueError(f"staleness {staleness} must be >= 0, remaining {remaining} >= 1")
    choice = Choice(cut, uplink, downlink)
    step = stages(costs, choice, staleness)
    t = (step.edge_s, step.uplink_bytes / link.up, step.cloud_s, step.downlink_bytes / link.down)
    slowest = max(t)
    # math.fsum is exact, so that T0 of one part is this part, and T0 >= T* always.
    through = math.fsum(t) + (2 * link.delay if cut < costs.blocks else 0.0)
    in_flight = staleness + 1
    wait = max(0.0, through - in_flight * slowest)
    rounds = -(-remaining // in_flight)
    move = move_seconds(costs, link, cut if from_cut is None else from_cut, cut)
    return Prediction(
        choice,
        *t,
        slowest_s=slowest,
        through_s=through,
        step_s=max(slowest, through / in_flight),
        move_s=move,
        total_s=(remaining - 1) * slowest + through + (rounds - 1) * wait + move,
    )


def move_seconds(costs: Costs, link: Link, before: int, after: int) -> float:
    """Seconds to move the blocks between two cuts: up when the edge gives them away, else down.

    The delay counts twice: for the blocks and for the word that they arrived, or were asked for.
    """
    if before == after:
        return 0.0
    given = after < before  # by the front
    rate = link.up if given == (costs.front == EDGE) else link.down
    return costs.moved_bytes(before, after) / rate + 2 * link.delay


def candidates(costs: Costs, uplinks: Sequence[str], downlinks: Sequence[str]) -> Iterator[Choice]:
    """Every choice whose costs are known: inner cuts with each pair of codecs, and both ends once.

    uplinks, downlinks: codecs that may be chosen, at least one each.
    """
    for cut in range(costs.blocks + 1):
        end = cut in (0, costs.blocks)
        for uplink in uplinks[:1] if end else uplinks:
            for downlink in downlinks[:1] if end else downlinks:
                choice = Choice(cut, uplink, downlink)
                step = stages(costs, choice, 1)
                if not any(math.isnan(v) for v in (*asdict(step).values(), costs.edge_s[cut])):
                    yield choice


def best(
    costs: Costs,
    link: Link,
    uplinks: Sequence[str],
    downlinks: Sequence[str],
    staleness: int,
    remaining: int,
    from_cut: int | None = None,
) -> Prediction:
    """The candidate that takes the least time; among equals, the smallest cut and first codecs.

    Raises ValueError as `predict`, and when no cut has known costs.
    """
    found = _predicted(costs, link, uplinks, downlinks, staleness, remaining, from_cut)
    return min(found, key=lambda p: p.total_s)


def initial(
    costs: Costs,
    link: Link,
    uplinks: Sequence[str],
    downlinks: Sequence[str],
    staleness: int,
    remaining: int,
) -> Prediction:
    """Where the whole system begins: of the candidates that are `ALIKE` to the best, the one whose
    step is through soonest (T0). It asks the least of both sides and of the link, so that there is
    least that could take longer than predicted.

    Raises ValueError as `best`.
    """
    found = _predicted(costs, link, uplinks, downlinks, staleness, remaining)
    limit = (1 + ALIKE) * min(p.total_s for p in found)
    return min((p for p in found if p.total_s <= limit), key=lambda p: p.through_s)


def _predicted(
    costs: Costs,
    link: Link,
    uplinks: Sequence[str],
    downlinks: Sequence[str],
    staleness: int,
    remaining: int,
    from_cut: int | None = None,
) -> list[Prediction]:
    """Every candidate, at least one."""
    found = [
        predict(costs, link, c.cut, c.uplink, c.downlink, staleness, remaining, from_cut)
        for c in candidates(costs, uplinks, downlinks)
    ]
    if not found:
        raise ValueError("no cut has known costs")
    return found


def joint_dnn(costs: Costs, link: Link, codec: str = "none") -> Choice:
    """JointDNN, the baseline: the cut with the smallest T0, chosen once; serial, not compressed."""
    return best(costs, link, [codec], [codec], staleness=0, remaining=1).choice


@dataclass(frozen=True)
class Move:
    """The engine's word: from this step on, `go` instead of `stay`; both with the reasons. load:
    what the sides took, by which both were predicted."""

    step: int
    stay: Prediction
    go: Prediction
    load: Load

    @property
    def choice(self) -> Choice:
        return self.go.choice


class Engine:
    """Decides while a run goes on. Pure: knows no clock, no link and no network.

    Each `interval` steps it looks: every candidate is predicted for the next r steps, the time to
    move to it included. One is clearly better than another if it takes less than (1 − margin) of
    its time: noise in the estimate shall not send blocks to and fro. The engine moves to a
    candidate that was the best of all and clearly better than staying, and at the next look, by an
    estimate that is then fresh, still is clearly better than staying, with none clearly better than
    itself. The paper checks its decision a second time just before a move: between the two looks
    the link may be back.

    The formula charges the first step with its way through all four parts. That holds for wherever
    the engine goes. Where it stays the pipeline is full, and r steps take r·max(T*, T0/(K+1)).

    r, how long the next change is away, is not known. The paper smooths it: r ← 0.8·r + 0.2·(steps
    since the last move), here at every look, starting from one interval. What has held for long is
    expected to hold for long, and an expensive move waits until it is likely to pay. r is never
    more than the steps that are left in the run.

    The paper goes by profiles of the devices as they were. What `observe` is told of finished steps
    says how many times as long as profiled each side takes now (`core.split.load`), and every
    candidate is predicted with that.
    """

    def __init__(
        self,
        costs: Costs,
        start: Choice,
        steps: int,
        uplinks: Sequence[str],
        downlinks: Sequence[str],
        interval: int = 10,
        margin: float = 0.05,
        shared: bool = False,
    ) -> None:
        """start: in force at step 0. steps: in the whole run.
        uplinks, downlinks: codecs that may be chosen. shared: both sides run on one machine.

        Raises ValueError when the costs of `start` are unknown, or a setting has no sense.
        """
        if interval < 1 or not 0 <= margin < 1:
            raise ValueError(f"interval {interval} must be >= 1, margin {margin} in [0, 1)")
        if math.isnan(sum(asdict(stages(costs, start, 1)).values())):
            raise ValueError(f"the costs of {start} are not known; start at another cut")
        self.choice = start
        self.expected = float(interval)  # r
        self._costs, self._steps = costs, steps
        self._uplinks, self._downlinks = tuple(uplinks), tuple(downlinks)
        self._interval, self._margin = interval, margin
        self._moved = self._looked = 0  # steps
        self._pending: Choice | None = None
        self._follower = Follower(costs.blocks, costs.front, shared)

    @property
    def load(self) -> Load:
        """What the sides take now, by the last look."""
        return self._follower.load

    def observe(self, choice: Choice, edge_s: float, cloud_s: float) -> None:
        """T1 and T3 of a finished step, and what it ran under: a move lets steps end that began
        before it."""
        if choice == self.choice:
            self._follower.observe(edge_s, cloud_s)

    def due(self, step: int) -> bool:
        """Whether `consider` would look at this step: time to have a fresh estimate."""
        return self._looked + self._interval <= step < self._steps

    def consider(self, step: int, link: Link | None, staleness: int) -> Move | None:
        """Called before a step; the move to make before it, or None. A move counts as made.

        step: never smaller than at the call before. link: the estimate; None: unknown, so it stays.
        staleness: K now.
        """
        if not self.due(step):
            return None
        self._looked = step
        self.expected = 0.8 * self.expected + 0.2 * (step - self._moved)
        pending, self._pending = self._pending, None
        profiled = stages(self._costs, self.choice, staleness)
        self._follower.look(self.choice.cut, profiled.edge_s, profiled.cloud_s)
        if link is None:
            return None
        remaining = max(1, min(round(self.expected), self._steps - step))
        stay = self._predict(self.choice, link, staleness, remaining)
        stay = replace(stay, total_s=remaining * stay.step_s)  # its pipeline is full
        found = best(
            self._costs.loaded(self.load),
            link,
            self._uplinks,
            self._downlinks,
            staleness,
            remaining,
            self.choice.cut,
        )
        go = self._predict(pending, link, staleness, remaining) if pending else found
        if pending and self._better(go, stay) and not self._better(found, go):
            self.choice, self._moved = pending, step
            self._follower.forget()
            return Move(step, stay, go, self.load)
        self._pending = found.choice if self._better(found, stay) else None
        return None

    def _better(self, one: Prediction, other: Prediction) -> bool:
        return one.total_s < (1 - self._margin) * other.total_s

    def _predict(self, choice: Choice, link: Link, staleness: int, remaining: int) -> Prediction:
        return predict(
            self._costs.loaded(self.load),
            link,
            **asdict(choice),
            staleness=staleness,
            remaining=remaining,
            from_cut=self.choice.cut,
        )

    def state(self) -> dict[str, Any]:
        """What changes, as JSON."""
        return {
            "choice": asdict(self.choice),
            "expected": self.expected,
            "moved": self._moved,
            "looked": self._looked,
            "pending": self._pending and asdict(self._pending),
            "follower": self._follower.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.choice = Choice(**state["choice"])
        self.expected = state["expected"]
        self._moved, self._looked = state["moved"], state["looked"]
        self._pending = Choice(**state["pending"]) if state["pending"] else None
        if "follower" in state:  # a snapshot of an earlier version has none
            self._follower.load_state(state["follower"])
