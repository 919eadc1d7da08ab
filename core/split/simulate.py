"""Split training as discrete events: what a scheme would take on devices and a link that are not
here. Every number from here is `simulated`.

Edge, uplink, cloud and downlink each work on one step at a time, in order, and hand it on; the
delay of the link passes between them without keeping anybody busy. The edge works as in
deterministic mode: it forwards step i and sends its features, then waits for the gradient of step
i − K and applies it. A move is made as in a run: the edge waits for every gradient that is under
way, the blocks cross the link, the pipeline fills again.

Without variation this takes, per step, max(T*, T0/(K+1)): the formula of `core.split.decision`
between two of its rounds. With a link that changes, the formula has nothing to say, and this does.

In a fleet many edges, each with a link of its own, share one cloud, which works on one step at a
time in the order in which they arrive.
"""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import simpy
from numpy.typing import NDArray

from core.errors import ConfigError
from core.split.contexts import Context
from core.split.costs import Costs, Floats
from core.split.decision import Choice, Engine, Estimates, Link, Move, Stages, stages
from core.split.sides import EDGE
from core.split.traces import Trace

PROBE_BYTES = 1 << 16


@dataclass(frozen=True)
class SimulatedLink:
    """Rates over time, and the one-way delay in seconds. A rate of 0 is an outage."""

    up: Trace
    down: Trace
    delay: float = 0.0

    @classmethod
    def of(cls, context: Context) -> "SimulatedLink":
        """The link of a context; the delay is the mean of both directions, jitter included.

        Raises ConfigError for a context without rates or with outages, DataError for its traces.
        """
        if context.outages:
            raise ConfigError(
                f"context {context.name}: outages are not simulated; write a trace with rate 0"
            )
        up, down = context.traces()
        ways = [way for way in (context.up, context.down) if way is not None]
        delay_ms = sum(way.delay_ms + way.jitter_ms / 2 for way in ways) / len(ways)
        return cls(up, down, delay_ms / 1e3)

    def mean(self) -> Link:
        """What the link is on average."""
        return Link(self.up.mean(), self.down.mean(), self.delay)


@dataclass(frozen=True)
class Scheme:
    """choice: at the start, and all the time without an engine. staleness: K."""

    choice: Choice
    staleness: int


class Estimator(Estimates, Protocol):
    """What watches the link: bytes and the seconds that they took to arrive."""

    def uplink(self, nbytes: int, seconds: float) -> None: ...
    def downlink(self, nbytes: int, seconds: float) -> None: ...
    def round_trip(self, seconds: float) -> None: ...


@dataclass(frozen=True)
class Simulation:
    """finished: shape (steps,), seconds at which each step's gradient was applied on the edge.
    cuts: shape (steps,). moves: what the engine decided."""

    staleness: int
    finished: Floats
    cuts: NDArray[np.int64]
    moves: list[Move]

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return float(self.finished[-1])

    @property
    def step_s(self) -> float:
        """Seconds per step in steady state: over the second half, without the last K steps, in
        which the pipeline runs empty. Whole rounds of K + 1 steps: a wait comes once in each."""
        last = len(self.finished) - 1 - self.staleness
        steps = last // 2 // (self.staleness + 1) * (self.staleness + 1)
        if steps < 1:
            raise ValueError(f"{len(self.finished)} steps are too few for a steady state")
        return float(self.finished[last] - self.finished[last - steps]) / steps


@dataclass(frozen=True)
class _Frame:
    """A step on its way."""

    step: int
    asks: Stages
    ready: float  # when it has arrived, seconds


Events = Generator[simpy.Event, Any, None]
# Done when the frame is; returns the seconds until it is where it goes next.
Work = Callable[[_Frame], Generator[simpy.Event, Any, float]]


def simulate(
    costs: Costs,
    link: SimulatedLink,
    scheme: Scheme,
    steps: int,
    engine: Engine | None = None,
    estimator: Estimator | None = None,
) -> Simulation:
    """Run `steps` steps, at least one, of a scheme.

    engine: decides on the way; starts with the scheme's choice. It needs an estimator, which sees
        the transfers as they happen, and a small probe in a direction that carries none when the
        engine looks.
    Raises ValueError for a cut whose costs are unknown, and for a front in the cloud.
    """
    if costs.front != EDGE:
        raise ValueError("a split with its front in the cloud is not simulated")
    env = simpy.Environment()
    run = _Run(env, simpy.Resource(env), costs, link, scheme, steps, engine, estimator)
    env.run(until=env.process(run.edge()))
    return run.result()


def simulate_fleet(
    costs: Costs, links: Sequence[SimulatedLink], scheme: Scheme, steps: int
) -> list[Simulation]:
    """Edges that are alike and begin together, one for each link; their only cloud is shared.

    Raises ValueError as `simulate`.
    """
    if costs.front != EDGE:
        raise ValueError("a split with its front in the cloud is not simulated")
    env = simpy.Environment()
    cloud = simpy.Resource(env)
    runs = [_Run(env, cloud, costs, link, scheme, steps) for link in links]
    env.run(until=simpy.AllOf(env, [env.process(run.edge()) for run in runs]))
    return [run.result() for run in runs]


class _Run:
    """One simulation: the edge, and three servers in a row, of which the cloud may be shared."""

    def __init__(
        self,
        env: simpy.Environment,
        cloud: simpy.Resource,
        costs: Costs,
        link: SimulatedLink,
        scheme: Scheme,
        steps: int,
        engine: Engine | None = None,
        estimator: Estimator | None = None,
    ) -> None:
        if engine and (estimator is None or engine.choice != scheme.choice):
            raise ValueError("an engine needs an estimator, and starts with the scheme's choice")
        self.costs, self.link, self.steps = costs, link, steps
        self.choice, self.staleness = scheme.choice, scheme.staleness
        self.engine, self.estimator = engine, estimator
        self.finished = np.full(steps, np.nan)
        self.cuts = np.zeros(steps, dtype=np.int64)
        self.moves: list[Move] = []
        self.asked = cache(self._asked)
        self.env, self.cloud = env, cloud
        self.to_uplink, to_cloud, to_downlink, self.to_edge = (
            simpy.Store(self.env) for _ in range(4)
        )
        self._serve(self.to_uplink, to_cloud, self._send_up)
        self._serve(to_cloud, to_downlink, self._compute)
        self._serve(to_downlink, self.to_edge, self._send_down)

    def result(self) -> Simulation:
        """Of a run that is over."""
        return Simulation(self.staleness, self.finished, self.cuts, self.moves)

    def _asked(self, choice: Choice) -> tuple[Stages, float]:
        """Of a step with a choice: what it asks, and the edge's seconds until features are sent.

        The second forward of a replay lasts as long as the first, so the difference is the first.
        Where no gradient comes back nothing is left to do after that.
        """
        cut, asks = choice.cut, stages(self.costs, choice, self.staleness)
        first = float(self.costs.edge_replay_s[cut] - self.costs.edge_s[cut])
        first += float(self.costs.codec(choice.uplink).edge_encode_s[cut])
        if not asks.downlink_bytes:
            first = asks.edge_s
        if not asks.edge_s + asks.uplink_bytes + asks.cloud_s + asks.downlink_bytes < math.inf:
            raise ValueError(f"the costs of {choice} are not known")
        return asks, min(first, asks.edge_s)

    def edge(self) -> Events:
        """The edge: all steps, then the gradients that are still under way."""
        waiting = 0  # steps whose gradient is not applied
        for step in range(self.steps):
            move = self._decide(step)
            if move is not None:
                for _ in range(waiting):
                    yield from self._apply()
                waiting = 0
                yield from self._move(move)
            self.cuts[step] = self.choice.cut
            asks, first = self.asked(self.choice)
            if self.choice.cut == self.costs.blocks:
                yield self.env.timeout(asks.edge_s)
                self._finish(step, asks)
                continue
            yield self.env.timeout(first)
            self.to_uplink.put(_Frame(step, asks, self.env.now))
            waiting += 1
            if waiting > self.staleness:
                yield from self._apply()
                waiting -= 1
        for _ in range(waiting):
            yield from self._apply()

    def _apply(self) -> Events:
        """Wait for the next gradient, replay and go backward."""
        frame = yield self.to_edge.get()
        yield self.env.timeout(max(0.0, frame.ready - self.env.now))
        _, first = self.asked(self.choice)
        yield self.env.timeout(frame.asks.edge_s - first)
        self._finish(frame.step, frame.asks)

    def _finish(self, step: int, asks: Stages) -> None:
        self.finished[step] = self.env.now
        if self.engine:
            self.engine.observe(self.choice, asks.edge_s, asks.cloud_s)

    def _decide(self, step: int) -> Move | None:
        if self.engine is None or self.estimator is None or not self.engine.due(step):
            return None
        now, asks = self.env.now, self.asked(self.choice)[0]
        up, down = self.link.up.rate(now), self.link.down.rate(now)
        if up and not asks.uplink_bytes:
            self.estimator.uplink(PROBE_BYTES, PROBE_BYTES / up)
        if down and not asks.downlink_bytes:
            self.estimator.downlink(PROBE_BYTES, PROBE_BYTES / down)
        self.estimator.round_trip(2 * self.link.delay)
        return self.engine.consider(step, Link.of(self.estimator), self.staleness)

    def _move(self, move: Move) -> Events:
        before, after = self.choice.cut, move.choice.cut
        self.choice = move.choice
        self.moves.append(move)
        if before != after:
            trace = self.link.up if after < before else self.link.down
            seconds = self._seconds(trace, self.costs.moved_bytes(before, after))
            yield self.env.timeout(seconds + 2 * self.link.delay)

    def _seconds(self, trace: Trace, nbytes: float) -> float:
        """How long it takes to send bytes from now on, outages included."""
        return max(0.0, trace.time_for(self.env.now, nbytes) - self.env.now)

    def _serve(self, inbox: simpy.Store, outbox: simpy.Store, work: Work) -> None:
        """A server for the whole run: one frame after the other, none before it has arrived."""

        def server() -> Events:
            while True:
                frame: _Frame = yield inbox.get()
                yield self.env.timeout(max(0.0, frame.ready - self.env.now))
                delay = yield from work(frame)
                outbox.put(_Frame(frame.step, frame.asks, self.env.now + delay))

        self.env.process(server())

    def _send_up(self, frame: _Frame) -> Generator[simpy.Event, Any, float]:
        nbytes = frame.asks.uplink_bytes
        seconds = self._seconds(self.link.up, nbytes)
        yield self.env.timeout(seconds)
        if self.estimator and nbytes:
            self.estimator.uplink(round(nbytes), seconds)
        return self.link.delay

    def _compute(self, frame: _Frame) -> Generator[simpy.Event, Any, float]:
        with self.cloud.request() as turn:
            yield turn
            yield self.env.timeout(frame.asks.cloud_s)
        return 0.0

    def _send_down(self, frame: _Frame) -> Generator[simpy.Event, Any, float]:
        nbytes = frame.asks.downlink_bytes
        seconds = self._seconds(self.link.down, nbytes)
        yield self.env.timeout(seconds)
        if self.estimator and nbytes:
            self.estimator.downlink(round(nbytes), seconds)
        return self.link.delay
