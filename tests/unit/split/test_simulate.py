"""The simulator against the closed form, a recurrence without events, and an integrated link."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.errors import ConfigError
from core.split.contexts import Context, Outage, Way
from core.split.costs import CodecCosts, Costs, Load
from core.split.decision import Choice, Engine, Link, Stages, best, predict, stages
from core.split.simulate import Scheme, SimulatedLink, Simulation, simulate, simulate_fleet
from core.split.traces import Trace

STEPS = 300
MIDDLE = Choice(1, "none", "none")


def costs(edge: float, replay: float, up: float, cloud: float, down: float) -> Costs:
    """Two blocks, cut in the middle; up and down in bytes. All-edge takes 100 s, all-cloud 90 s
    and 5 bytes."""

    def cuts(middle: float, zero: float = 0.0, end: float = 0.0) -> np.ndarray:
        return np.array([zero, middle, end])

    codec = CodecCosts(cuts(up, 5.0), cuts(down), *(cuts(0.0) for _ in range(4)))
    sides = (cuts(edge, 0, 100), cuts(edge + replay, 0, 100), cuts(cloud, 90, 0))
    return Costs(*sides, {"none": codec}, np.array([1000.0, 1000.0]))


# Whole numbers: two circuits of the pipeline take the same or clearly another time, so the first
# steps are soon forgotten.
whole = st.integers(0, 20).map(float)
some_costs = st.builds(costs, st.integers(1, 20).map(float), whole, whole, whole, whole).filter(
    lambda c: c.edge_replay_s[1] <= 2 * c.edge_s[1]
)
staleness = st.integers(0, 6)


def constant(up: float = 1.0, down: float = 1.0, delay: float = 0.0) -> SimulatedLink:
    return SimulatedLink(Trace.constant(up), Trace.constant(down), delay)


@given(some_costs, staleness, whole, st.integers(0, 2))
@settings(max_examples=100, deadline=None)
def test_without_variation_a_step_takes_what_the_formula_says(
    c: Costs, k: int, delay: float, cut: int
) -> None:
    choice = Choice(cut, "none", "none")
    found = simulate(c, constant(2.0, 4.0, delay), Scheme(choice, k), STEPS)
    expected = predict(c, Link(2.0, 4.0, delay), cut, "none", "none", k, STEPS)
    assert found.step_s == pytest.approx(expected.step_s, rel=1e-9)
    t = (expected.edge_s, expected.uplink_s, expected.cloud_s, expected.downlink_s)
    through = sum(t) + (2 * delay if cut < 2 else 0)
    assert found.step_s == pytest.approx(max(*t, through / (k + 1)), rel=1e-9)


@given(some_costs, whole, st.integers(0, 2), st.integers(1, 30))
@settings(max_examples=100, deadline=None)
def test_serial_training_takes_the_serial_time_from_the_first_step_on(
    c: Costs, delay: float, cut: int, steps: int
) -> None:
    choice = Choice(cut, "none", "none")
    found = simulate(c, constant(delay=delay), Scheme(choice, 0), steps)
    expected = predict(c, Link(1.0, 1.0, delay), cut, "none", "none", 0, steps)
    assert found.seconds == pytest.approx(expected.total_s)
    assert found.finished == pytest.approx(expected.through_s * np.arange(1, steps + 1))


@given(some_costs, staleness, whole, st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_a_whole_run_is_predicted_to_less_than_one_way_through(
    c: Costs, k: int, delay: float, steps: int
) -> None:
    found = simulate(c, constant(delay=delay), Scheme(MIDDLE, k), steps)
    expected = predict(c, Link(1.0, 1.0, delay), 1, "none", "none", k, steps)
    assert abs(found.seconds - expected.total_s) <= expected.through_s


def recurrence(c: Costs, link: SimulatedLink, k: int, steps: int) -> list[float]:
    """When each gradient is applied, written down without events: every stage starts when it is
    free and its work is there."""
    s: Stages = stages(c, MIDDLE, k)
    first = float(c.edge_replay_s[1] - c.edge_s[1])
    if not s.downlink_bytes:  # no gradient: the edge is through with it once it is sent
        first = s.edge_s
    edge = up = cloud = down = 0.0
    there: list[float] = []
    done: list[float] = []

    def apply() -> float:
        done.append(max(edge, there[len(done)]) + s.edge_s - first)
        return done[-1]

    for step in range(steps):
        edge += first
        up = max(up, edge)
        up = link.up.time_for(up, s.uplink_bytes)
        cloud = max(cloud, up + link.delay) + s.cloud_s
        down = max(down, cloud)
        down = link.down.time_for(down, s.downlink_bytes)
        there.append(down + link.delay)
        if step >= k:
            edge = apply()
    while len(done) < steps:
        edge = apply()
    return done


# A fleet: many edges, one cloud.


@given(some_costs, staleness, whole, st.integers(1, 8))
@example(costs(1.0, 0.0, 3.0, 1.0, 0.0), 1, 1.0, 2)  # each waits now and then, for ever
@settings(max_examples=60, deadline=None)
def test_edges_that_are_alike_go_as_fast_as_one_but_for_waiting_for_the_cloud(
    c: Costs, k: int, delay: float, edges: int
) -> None:
    """None is faster than alone, nor all than the cloud; a step waits for one of each other edge at
    most. A cloud that takes no time keeps nobody waiting."""
    one = predict(c, Link(1.0, 1.0, delay), 1, "none", "none", k, STEPS)
    found = simulate_fleet(c, [constant(delay=delay)] * edges, Scheme(MIDDLE, k), STEPS)
    rate = sum(1 / each.step_s for each in found)
    most = min(edges / one.step_s, 1 / one.cloud_s if one.cloud_s else math.inf)
    least = edges / (one.step_s + (edges - 1) * one.cloud_s)
    assert least * (1 - 1e-9) <= rate <= most * (1 + 1e-9)
    if one.through_s <= (k + 1) * one.slowest_s:  # no step waits for its way through all parts
        assert rate == pytest.approx(most, rel=1e-9)


@given(some_costs, staleness, st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_a_fleet_of_one_is_one_edge(c: Costs, k: int, steps: int) -> None:
    [found] = simulate_fleet(c, [constant()], Scheme(MIDDLE, k), steps)
    assert (
        found.finished.tolist()
        == simulate(c, constant(), Scheme(MIDDLE, k), steps).finished.tolist()
    )


def test_each_edge_of_a_fleet_has_a_link_of_its_own_and_a_cloud_at_rest_disturbs_none() -> None:
    c = costs(edge=2, replay=1, up=10, cloud=1, down=0)
    links = [constant(up=up) for up in (1.0, 2.0, 100.0)]
    found = simulate_fleet(c, links, Scheme(MIDDLE, 4), STEPS)
    alone = [simulate(c, link, Scheme(MIDDLE, 4), STEPS) for link in links]
    assert [f.step_s for f in found] == pytest.approx([a.step_s for a in alone], rel=0.01)
    assert [round(f.step_s, 1) for f in found] == [10, 5, 3]


def test_a_fleet_with_its_front_in_the_cloud_is_refused() -> None:
    turned = replace(costs(1, 0, 1, 1, 1), cloud_replay_s=np.zeros(3))
    with pytest.raises(ValueError, match="a split with its front in the cloud is not simulated"):
        simulate_fleet(turned, [constant()], Scheme(MIDDLE, 1), 5)


@st.composite
def rates(draw: st.DrawFn) -> Trace:
    """A link that changes, with outages."""
    gaps = draw(st.lists(st.integers(1, 50), max_size=8))
    values = draw(st.lists(st.integers(0, 9), min_size=len(gaps), max_size=len(gaps)))
    times = np.concatenate([[0], np.cumsum(gaps)])
    return Trace(tuple(times.tolist()), (*values, draw(st.integers(1, 9))))


@given(some_costs, staleness, st.builds(SimulatedLink, rates(), rates(), whole), st.integers(1, 40))
@example(costs(edge=4.0, replay=0.0, up=3.0, cloud=2.0, down=0.0), 2, constant(delay=1.0), 9)
@settings(max_examples=100, deadline=None)
def test_on_a_link_that_changes_it_agrees_with_a_recurrence_without_events(
    c: Costs, k: int, link: SimulatedLink, steps: int
) -> None:
    found = simulate(c, link, Scheme(MIDDLE, k), steps)
    assert found.finished.tolist() == pytest.approx(recurrence(c, link, k, steps))


# The link.


def test_a_context_gives_its_rates_and_its_mean_delay() -> None:
    context = Context("x", "X", "emulated", Way(8, 10, 4), Way(16, 20, 0))
    link = SimulatedLink.of(context)
    assert link.mean() == Link(1e6, 2e6, 0.016)


def test_contexts_that_cannot_be_simulated_are_refused() -> None:
    way = Way(8, 10, 4)
    broken = Context("x", "X", "emulated", way, way, outages=(Outage(1, 1, "stall"),))
    with pytest.raises(ConfigError, match="context x: outages are not simulated; write a trace"):
        SimulatedLink.of(broken)
    with pytest.raises(ConfigError, match="emulates no network and has no rates"):
        SimulatedLink.of(Context("x", "X", "measured", None, None))


def test_a_short_outage_is_hidden_by_steps_that_are_under_way() -> None:
    c = costs(edge=4.0, replay=4.0, up=1.0, cloud=1.0, down=1.0)
    outage = SimulatedLink(Trace((0, 100, 110), (1.0, 0.0, 1.0)), Trace.constant(1.0))
    for k, lost in ((5, 0.0), (0, 10.0)):
        calm = simulate(c, constant(), Scheme(MIDDLE, k), 50).seconds
        hit = simulate(c, outage, Scheme(MIDDLE, k), 50).seconds
        assert calm <= hit <= calm + 10
        assert hit - calm == pytest.approx(lost, abs=4.0 if k == 0 else 0.0)


# The engine in it.


class Watch:
    """An estimator of the simplest kind: what was seen last."""

    def __init__(self) -> None:
        self.up: float | None = None
        self.down: float | None = None
        self.delay: float | None = None

    def uplink(self, nbytes: int, seconds: float) -> None:
        self.up = nbytes / seconds

    def downlink(self, nbytes: int, seconds: float) -> None:
        self.down = nbytes / seconds

    def round_trip(self, seconds: float) -> None:
        self.delay = seconds / 2


def driven(c: Costs, link: SimulatedLink, start: Choice, k: int, steps: int) -> Simulation:
    it = Engine(c, start, steps, ["none"], ["none"], interval=5)
    return simulate(c, link, Scheme(start, k), steps, it, Watch())


BLOCKS, QUICK = 12, Link(100.0, 100.0, 0.01)


def even() -> Costs:
    """Twelve equal blocks, each 2 s of the edge with its replay or 1 s of the cloud; 1 s of the
    link each way at any cut. Nothing else than the sides decides."""
    cuts = np.arange(BLOCKS + 1)
    send = np.full(BLOCKS + 1, 100.0)
    codec = CodecCosts(send, send, *[np.zeros(BLOCKS + 1)] * 4)
    edge, cloud = 2.0 * cuts, 1.0 * (BLOCKS - cuts)
    return Costs(edge - 0.5 * cuts, edge, cloud, {"none": codec}, np.full(BLOCKS, 100.0))


def slowed(load: Load, start: Choice, shared: bool) -> tuple[Simulation, Engine]:
    """A run of an engine that has profiles of devices, on devices that take longer."""
    it = Engine(even(), start, 120, ["none"], ["none"], interval=5, shared=shared)
    link = SimulatedLink(Trace.constant(QUICK.up), Trace.constant(QUICK.down), QUICK.delay)
    return simulate(even().loaded(load), link, Scheme(start, 3), 120, it, Watch()), it


def place(load: Load) -> Choice:
    """The best one on devices that take so long."""
    return best(even().loaded(load), QUICK, ["none"], ["none"], 3, 100).choice


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("load", "cut"),
    [(Load(3, 1), 1), (Load(1, 3), 7), (Load(0.5, 1), 6), (Load(3, 3), 4), (Load(9, 1.5), 0)],
)
def test_an_engine_finds_the_best_cut_of_devices_that_are_not_as_profiled(
    load: Load, cut: int, shared: bool
) -> None:
    assert (place(Load()).cut, place(load).cut) == (4, cut)
    found, _ = slowed(load, place(Load()), shared)
    assert found.cuts[-1] == cut
    (moves,) = np.nonzero(np.diff(found.cuts))
    # Where both are slower by as much, it may have looked at an end, which must be tried to know.
    assert len(moves) <= (3 if shared and load == Load(3, 3) else 1)


def test_sides_that_slow_each_other_down_end_at_the_end_where_one_is_alone() -> None:
    load = Load(1, 1, 1.8)
    assert place(load).cut == 0
    found, it = slowed(load, place(Load()), shared=True)
    assert found.cuts[-1] == 0
    assert it.load == load


def test_devices_that_are_as_profiled_are_driven_as_by_their_profiles() -> None:
    found, it = slowed(Load(), Choice(10, "none", "none"), shared=True)
    (move,) = found.moves
    assert (move.choice.cut, move.load, it.load) == (4, Load(), Load())


def test_a_move_drains_the_pipeline_and_takes_its_bytes_over_the_link() -> None:
    # Serial: all-edge 100 s; cut 1: 10 + 1 + 10 + 1 + 2·0.5 s. Looks at steps 5 and 10.
    c = costs(edge=10.0, replay=0.0, up=100.0, cloud=10.0, down=100.0)
    found = driven(c, constant(100.0, 100.0, 0.5), Choice(2, "none", "none"), 0, 20)
    assert found.cuts.tolist() == [2] * 10 + [1] * 10
    assert [move.step for move in found.moves] == [10]
    assert found.finished[9] == 1000
    move_s = 1000 / 100 + 1
    assert found.finished[10] == pytest.approx(1000 + move_s + 23)
    assert found.seconds == pytest.approx(1000 + move_s + 10 * 23)


def test_steps_under_way_are_applied_before_a_move() -> None:
    c = costs(edge=200.0, replay=50.0, up=1.0, cloud=1.0, down=1.0)
    k = 3
    found = driven(c, constant(1e3, 1e3), MIDDLE, k, 30)  # all-cloud is best
    moved = found.moves[0].step
    assert found.cuts[moved] == 0
    assert (np.diff(found.finished) >= 0).all()
    # Up to the move it is the run that ends there; then the 1000 bytes of block 0 go up.
    alone = simulate(c, constant(1e3, 1e3), Scheme(MIDDLE, k), moved)
    assert found.finished[:moved].tolist() == pytest.approx(alone.finished.tolist())
    assert found.finished[moved] == pytest.approx(alone.seconds + 1.0 + 5e-3 + 90)


def test_the_engine_follows_a_link_that_breaks_down_and_comes_back() -> None:
    c = costs(edge=10.0, replay=5.0, up=1e4, cloud=10.0, down=1e4)
    slow = SimulatedLink(*[Trace((0, 600, 30_000), (1e3, 20.0, 1e3))] * 2)
    found = driven(c, slow, MIDDLE, 2, 400)
    visited = [int(cut) for i, cut in enumerate(found.cuts) if i == 0 or cut != found.cuts[i - 1]]
    assert visited[0] == visited[-1] == 1
    assert len(visited) == 3  # away and back, and no more
    fixed = [
        simulate(c, slow, Scheme(Choice(cut, "none", "none"), 2), 400).seconds for cut in (1, 2)
    ]
    assert found.seconds < min(fixed)


def test_where_nothing_changes_the_engine_moves_at_most_once() -> None:
    c = costs(edge=10.0, replay=5.0, up=1e3, cloud=10.0, down=1e3)
    for start in (Choice(2, "none", "none"), MIDDLE):
        found = driven(c, constant(1e3, 1e3), start, 2, 200)
        assert found.cuts[-1] == 1
        assert len(found.moves) == (start != MIDDLE)


def test_the_same_question_gets_the_same_answer() -> None:
    c = costs(edge=10.0, replay=5.0, up=1e4, cloud=10.0, down=1e4)
    link = SimulatedLink(*[Trace((0, 600, 30_000), (1e3, 20.0, 1e3))] * 2)
    one, other = (driven(c, link, MIDDLE, 2, 300) for _ in range(2))
    assert one.finished.tobytes() == other.finished.tobytes()
    assert one.moves == other.moves


def test_a_question_without_sense_is_refused() -> None:
    c = costs(1.0, 1.0, 1.0, 1.0, 1.0)
    c.cloud_s[0] = np.nan
    with pytest.raises(ValueError, match=r"the costs of Choice.*cut=0.* are not known"):
        simulate(c, constant(), Scheme(Choice(0, "none", "none"), 0), 5)
    it = Engine(c, MIDDLE, 5, ["none"], ["none"])
    with pytest.raises(ValueError, match="an engine needs an estimator, and starts with"):
        simulate(c, constant(), Scheme(MIDDLE, 0), 5, it)
    with pytest.raises(ValueError, match="an engine needs an estimator, and starts with"):
        simulate(c, constant(), Scheme(Choice(2, "none", "none"), 0), 5, it, Watch())
    with pytest.raises(ValueError, match="3 steps are too few for a steady state"):
        _ = simulate(c, constant(), Scheme(MIDDLE, 2), 3).step_s
