"""The decision engine against the published formula in exact arithmetic, brute enumeration, and
tables worked out by hand from the published profiles."""

import json
import math
from fractions import Fraction
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core.split.costs import CodecCosts, Costs, Load, PerMib
from core.split.decision import (
    ALIKE,
    Choice,
    Engine,
    Link,
    best,
    candidates,
    initial,
    joint_dnn,
    move_seconds,
    predict,
    stages,
)
from core.split.published import published

MIB = 1 << 20
NONE = Choice(0, "none", "none")


def encoded_bytes(name: str, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * {"none": 4, "int8": 1}[name]


def small(edge: list[float], cloud: list[float], nbytes: list[float], moved: float = 0.0) -> Costs:
    """Uncompressed, replay for free, every block `moved` bytes; nbytes[0] are raw inputs."""
    free = PerMib(0.0, 0.0)
    codec = CodecCosts.of_features(nbytes, nbytes[0], free, free, np.zeros(len(nbytes)))
    times = np.array(edge)
    return Costs(times, times, np.array(cloud), {"none": codec}, np.full(len(edge) - 1, moved))


# The formula.


@pytest.mark.parametrize(
    ("network", "edge", "cut", "staleness", "seconds"),
    [
        # At 1 MiB/s each way, r = 100. The edge is the slowest and never waits:
        # 99·1.468923974 + (1.468923974 + 0.25 + 0.031904721 + 0.25)
        ("resnet50_cifar", "TX2", 18, 5, 147.424302121),
        # The link is: 99·8 + (0.041096115 + 8 + 0.114752197 + 8)
        ("resnet50_cifar", "TX2", 1, 5, 808.155848312),
        # T0 = 0.526590538 + 0.5 + 0.010364246 + 0.5 = 1.536954784 is more than 2·T*, so of 50
        # rounds 49 wait T0 − 2·T* = 0.483773708: 99·0.526590538 + 1.536954784 + 49·0.483773708
        ("vgg19_bn", "TX2", 18, 1, 77.374329738),
        # Serial, without replay: 100·(0.441 + 0.5 + 0.010364246 + 0.5)
        ("vgg19_bn", "TX2", 18, 0, 145.1364246),
        # All-edge: 100·9.694978, whatever K is
        ("vgg19_bn", "Pi", 19, 0, 969.4978),
        ("vgg19_bn", "Pi", 19, 5, 969.4978),
    ],
)
def test_the_published_profiles_give_the_times_worked_out_by_hand(
    network: str, edge: str, cut: int, staleness: int, seconds: float
) -> None:
    costs = published(network, edge, ["none"], encoded_bytes=encoded_bytes)
    found = predict(costs, Link(MIB, MIB), cut, "none", "none", staleness, 100)
    assert found.total_s == pytest.approx(seconds, rel=1e-9)


class Case(NamedTuple):
    t: list[float]  # T1..T4
    delay: float
    staleness: int
    remaining: int


times = st.integers(0, 50).map(float) | st.floats(0, 1e3)
cases = st.builds(
    Case, st.lists(times, min_size=4, max_size=4), times, st.integers(0, 8), st.integers(1, 10_000)
)


def predicted(case: Case) -> float:
    """By the engine: a network of two blocks cut in the middle, rates of 1 byte a second."""
    edge, up, cloud, down = case.t
    codec = CodecCosts(*(np.array([0, v, 0]) for v in (up, down, 0.0, 0.0, 0.0, 0.0)))
    side = [np.array([0, v, 0]) for v in (edge, edge, cloud)]
    costs = Costs(*side, {"none": codec}, np.zeros(2))
    link = Link(1.0, 1.0, case.delay)
    return predict(costs, link, 1, "none", "none", case.staleness, case.remaining).total_s


def published_formula(case: Case) -> Fraction:
    """Exactly, from the definition: a round is K + 1 steps, after each but the last is a wait."""
    t = [Fraction(v) for v in case.t]
    slowest, through = max(t), sum(t) + 2 * Fraction(case.delay)
    wait = max(Fraction(0), through - (case.staleness + 1) * slowest)
    rounds = math.ceil(Fraction(case.remaining, case.staleness + 1))
    return (case.remaining - 1) * slowest + through + (rounds - 1) * wait


@given(cases)
@settings(max_examples=300)
def test_the_prediction_is_the_published_formula(case: Case) -> None:
    assert predicted(case) == pytest.approx(float(published_formula(case)), rel=1e-9, abs=1e-9)


@given(cases)
def test_without_staleness_it_is_the_serial_time(case: Case) -> None:
    case = case._replace(staleness=0)
    serial = case.remaining * (sum(case.t) + 2 * case.delay)
    assert predicted(case) == pytest.approx(serial, rel=1e-9, abs=1e-9)


@given(cases)
def test_one_step_takes_its_way_through_all_four(case: Case) -> None:
    case = case._replace(remaining=1)
    assert predicted(case) == pytest.approx(sum(case.t) + 2 * case.delay, rel=1e-9, abs=1e-9)


@given(cases)
def test_more_staleness_never_takes_longer_where_replay_is_free(case: Case) -> None:
    # Only whole rounds compare: a last short round is charged like a whole one.
    rounds = case._replace(remaining=case.remaining * (case.staleness + 1) * (case.staleness + 2))
    more = rounds._replace(staleness=case.staleness + 1)
    assert predicted(more) <= predicted(rounds) * (1 + 1e-9) + 1e-9


def test_all_edge_knows_no_delay_and_all_cloud_waits_for_an_answer() -> None:
    costs = small([0, 3, 7], [2, 1, 0], [10, 5, 0])
    link = Link(10.0, 10.0, delay=100.0)
    assert predict(costs, link, 2, "none", "none", 0, 1).total_s == 7
    assert predict(costs, link, 0, "none", "none", 0, 1).total_s == 1 + 2 + 200


def test_codec_times_count_on_the_side_that_spends_them() -> None:
    arrays = [np.array([0.0, v, 0.0]) for v in (0, 0, 1, 2, 4, 8)]  # encode, decode; edge, cloud
    up, down = CodecCosts(*arrays), CodecCosts(*(10 * a for a in arrays))
    side = np.array([0.0, 100.0, 0.0])
    costs = Costs(side, side, side, {"up": up, "down": down}, np.zeros(2))
    found = predict(costs, Link(1.0, 1.0), 1, "up", "down", 0, 1)
    assert found.edge_s == 100 + 1 + 20  # encodes features, decodes gradients
    assert found.cloud_s == 100 + 8 + 40  # decodes features, encodes gradients


def test_blocks_go_up_by_the_uplink_and_down_by_the_downlink() -> None:
    costs = small([0, 1, 2, 3], [0] * 4, [0] * 4, moved=60.0)
    link = Link(up=2.0, down=3.0, delay=0.25)
    assert move_seconds(costs, link, 3, 1) == 120 / 2 + 0.5
    assert move_seconds(costs, link, 1, 3) == 120 / 3 + 0.5
    assert move_seconds(costs, link, 2, 2) == 0
    stay, go = (predict(costs, link, 1, "none", "none", 0, 7, cut) for cut in (1, 3))
    assert go.total_s - stay.total_s == pytest.approx(60.5)
    assert predict(costs, link, 1, "none", "none", 0, 7) == stay


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((3, "none", "none", 0, 1), r"cut 3 is outside 0\.\.2"),
        ((-1, "none", "none", 0, 1), r"cut -1 is outside 0\.\.2"),
        ((1, "int8", "none", 0, 1), "no costs of codec 'int8'; known: none"),
        ((1, "none", "none", -1, 1), "staleness -1 must be >= 0"),
        ((1, "none", "none", 0, 0), "remaining 0 >= 1"),
    ],
)
def test_a_question_without_sense_is_refused(
    arguments: tuple[int, str, str, int, int], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        predict(small([0, 3, 7], [2, 1, 0], [10, 5, 0]), Link(1.0, 1.0), *arguments)


@pytest.mark.parametrize("link", [(0, 1, 0), (1, -1, 0), (1, math.nan, 0), (1, 1, -1)])
def test_a_link_that_cannot_be_is_refused(link: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="rates must be above 0"):
        Link(*link)


# The best of all.


@st.composite
def networks(draw: st.DrawFn) -> Costs:
    """Up to six blocks and two codecs, some cuts unknown; whole numbers, so that ties happen."""
    n = draw(st.integers(1, 6))

    def array(low: int = 0, high: int = 9) -> np.ndarray:
        values = st.lists(st.integers(low, high).map(float), min_size=n + 1, max_size=n + 1)
        return np.array(draw(values))

    edge, cloud = array(1), array(1)
    cloud[draw(st.lists(st.integers(0, n - 1), max_size=n - 1))] = np.nan
    if draw(st.booleans()):
        edge[draw(st.integers(0, n))] = np.nan
    assume(not np.isnan(edge + cloud).all())
    codecs = {name: CodecCosts(*(array() for _ in range(6))) for name in ("a", "b")}
    for codec in codecs.values():
        codec.uplink_bytes[-1] = codec.downlink_bytes[[0, -1]] = 0
        for name in ("edge_encode_s", "edge_decode_s", "cloud_encode_s", "cloud_decode_s"):
            getattr(codec, name)[[0, -1]] = 0
    codecs["b"].uplink_bytes[0] = codecs["a"].uplink_bytes[0]
    return Costs(edge, edge + array(), cloud, codecs, array()[:n])


links = st.builds(Link, st.integers(1, 5), st.integers(1, 5), st.integers(0, 3))


@given(networks(), links, st.integers(0, 6), st.integers(1, 60), st.integers(0, 1))
@settings(max_examples=150, deadline=None)
def test_no_choice_of_cut_and_codecs_takes_less(
    costs: Costs, link: Link, staleness: int, remaining: int, start: int
) -> None:
    totals = []
    for cut, up, down in product(range(costs.blocks + 1), "ab", "ab"):
        u, d = costs.codecs[up], costs.codecs[down]
        edge = (costs.edge_replay_s if staleness else costs.edge_s)[cut]
        t = [
            edge + u.edge_encode_s[cut] + d.edge_decode_s[cut],
            u.uplink_bytes[cut] / link.up,
            costs.cloud_s[cut] + u.cloud_decode_s[cut] + d.cloud_encode_s[cut],
            d.downlink_bytes[cut] / link.down,
        ]
        if np.isnan(t).any():
            continue
        delay = link.delay if cut < costs.blocks else 0
        moved = costs.block_bytes[min(start, cut) : max(start, cut)].sum()
        move = moved / (link.up if cut < start else link.down) + 2 * link.delay
        case = Case([float(v) for v in t], delay, staleness, remaining)
        totals.append(float(published_formula(case)) + (move if cut != start else 0))
    found = best(costs, link, "ab", "ab", staleness, remaining, start)
    assert found.total_s == pytest.approx(min(totals), rel=1e-12)


@given(networks(), links, st.integers(0, 6), st.integers(1, 60))
@settings(max_examples=150, deadline=None)
def test_the_beginning_is_what_asks_least_among_choices_that_cannot_be_told_apart(
    costs: Costs, link: Link, staleness: int, remaining: int
) -> None:
    found = initial(costs, link, "ab", "ab", staleness, remaining)
    every = [
        predict(costs, link, c.cut, c.uplink, c.downlink, staleness, remaining)
        for c in candidates(costs, "ab", "ab")
    ]
    least = min(each.total_s for each in every)
    assert found.total_s <= least * (1 + ALIKE)
    assert not any(
        each.through_s < found.through_s and each.total_s <= least * (1 + ALIKE) for each in every
    )


def test_an_inner_cut_that_promises_a_hundredth_is_not_worth_its_work() -> None:
    """The cloud is the slowest part at both; at cut 1 the edge and the link work beside it."""
    costs = small([0, 30, 130], [100, 99, 0], [1, 50, 0])
    link = Link(1.0, 1.0)
    assert best(costs, link, ["none"], ["none"], 3, 1000).choice.cut == 1
    assert initial(costs, link, ["none"], ["none"], 3, 1000).choice.cut == 0
    worth = small([0, 30, 130], [100, 90, 0], [1, 50, 0])
    assert initial(worth, link, ["none"], ["none"], 3, 1000).choice.cut == 1


def test_both_ends_are_candidates_once_and_inner_cuts_with_every_pair_of_codecs() -> None:
    costs = published(
        "vgg19_bn", "TX2", ["none", "int8"], input_bytes=98304, encoded_bytes=encoded_bytes
    )
    found = list(candidates(costs, ["none", "int8"], ["none", "int8"]))
    assert len(found) == 18 * 4 + 1  # the tables do not know all-cloud
    assert [c for c in found if c.cut == 19] == [Choice(19, "none", "none")]
    known = small([0, 3, 7], [2, 1, 0], [10, 5, 0])
    assert [c.cut for c in candidates(known, ["none"], ["none"])] == [0, 1, 2]


def test_without_any_known_cut_there_is_no_best() -> None:
    costs = small([0, 1], [math.nan, math.nan], [1, 0])
    with pytest.raises(ValueError, match="no cut has known costs"):
        best(costs, Link(1.0, 1.0), ["none"], ["none"], 0, 1)


def test_a_fast_link_sends_work_to_the_cloud_and_a_slow_one_keeps_it() -> None:
    costs = published("resnet50_cifar", "Pi", ["none"], encoded_bytes=encoded_bytes)
    cuts = [joint_dnn(costs, Link(rate, rate)).cut for rate in (1e9, 1e6, 1e3)]
    assert cuts[0] == 1
    assert cuts == sorted(cuts)
    assert cuts[-1] == 19


def test_joint_dnn_minimises_the_way_of_one_step() -> None:
    costs = published("vgg19_bn", "Pi", ["none"], encoded_bytes=encoded_bytes)
    for rate in (1e4, 1e5, 1e6, 1e7):
        through = {
            cut: costs.edge_s[cut]
            + costs.cloud_s[cut]
            + 2 * costs.codec("none").uplink_bytes[cut] / rate
            for cut in range(1, 20)
        }
        choice = joint_dnn(costs, Link(rate, rate))
        assert choice == Choice(min(through, key=through.__getitem__), "none", "none")


# The engine, with a network of one block: fast links favour cut 0 (2 s), slow ones cut 1 (8 s).

TWO = small([0, 8], [2, 0], [10, 0])
FAST, SLOW = Link(100.0, 100.0), Link(0.1, 0.1)
EDGE_ONLY = Choice(1, "none", "none")


# Two blocks: cut 1 balances the sides (4 s and 4 s) where they keep what
# their profiles promise; all-cloud takes 5 s.
BALANCED = small([0, 4, 9], [5, 4, 0], [1, 1, 0])
MIDDLE, ALL_CLOUD = Choice(1, "none", "none"), Choice(0, "none", "none")


def engine(
    costs: Costs = TWO, start: Choice = EDGE_ONLY, steps: int = 1000, **more: float
) -> Engine:
    return Engine(costs, start, steps, ["none"], ["none"], **more)


def test_it_moves_only_when_the_candidate_wins_at_two_looks() -> None:
    it = engine(interval=10)
    moves = {step: it.consider(step, FAST, 0) for step in range(41)}
    assert [step for step, move in moves.items() if move] == [20]
    move = moves[20]
    assert move is not None
    assert move.choice == it.choice == Choice(0, "none", "none")
    assert move.go.total_s < move.stay.total_s


def test_a_candidate_that_loses_at_the_second_look_is_forgotten() -> None:
    it = engine(interval=10)
    looks = [it.consider(step, link, 0) for step, link in ((10, FAST), (20, SLOW), (30, FAST))]
    assert looks == [None, None, None]
    assert it.consider(40, FAST, 0) is not None


def test_an_unknown_link_changes_nothing_and_confirms_nothing() -> None:
    it = engine(interval=10)
    assert [it.consider(step, link, 0) for step, link in ((10, FAST), (20, None))] == [None, None]
    assert it.consider(30, FAST, 0) is None
    assert it.choice == EDGE_ONLY


def test_a_small_gain_is_not_worth_a_move() -> None:
    costs = small([0, 8], [7.3, 0], [0, 0])  # 8.75 % less
    assert all(engine(costs, margin=0.1).consider(step, FAST, 0) is None for step in range(100))
    it = engine(costs, margin=0.05)
    assert any(it.consider(step, FAST, 0) for step in range(100))


def test_candidates_that_are_as_good_as_one_another_do_not_hold_up_a_move() -> None:
    # Cuts 1 and 2 take turns in being the best by a hair; both are far better than all-edge.
    def turn(odd: bool) -> Costs:
        return small([0, 1, 1, 8], [math.nan, 1 + 0.01 * odd, 1.01 - 0.01 * odd, 0], [0] * 4)

    it = engine(turn(False), Choice(3, "none", "none"), interval=10)
    it.consider(10, FAST, 0)
    it._costs = turn(True)
    move = it.consider(20, FAST, 0)
    assert move is not None
    assert move.choice.cut == 1


def test_a_costly_move_waits_until_the_link_has_held_for_long() -> None:
    # 6 s are saved a step, moving costs 600 s: r must be above 100.
    costs = small([0, 8], [2, 0], [10, 0], moved=60_000.0)
    it = engine(costs, interval=10, margin=0.0)
    moved_at = next(step for step in range(1000) if it.consider(step, FAST, 0))
    assert it.expected * 6 > 600
    assert 100 < moved_at < 200


def test_a_full_pipeline_is_not_left_for_a_slower_place_that_is_sooner_through() -> None:
    # Of two steps the first takes 8 s to get through both sides, where all-cloud takes 5 s. But
    # here steps are under way, and one ends every 4 s.
    it = engine(BALANCED, MIDDLE, steps=60, interval=2)
    assert not any(it.consider(step, FAST, 3) for step in range(60))


def test_near_the_end_of_the_run_a_costly_move_does_not_pay() -> None:
    costs = small([0, 8], [2, 0], [10, 0], moved=60_000.0)
    it = engine(costs, steps=160, interval=10, margin=0.0)
    assert not any(it.consider(step, FAST, 0) for step in range(200))


def test_the_expected_steps_are_smoothed_as_published() -> None:
    it = engine(interval=10)
    it.consider(10, SLOW, 0)
    assert it.expected == 0.8 * 10 + 0.2 * 10
    it.consider(20, FAST, 0)
    assert it.expected == pytest.approx(0.8 * 10 + 0.2 * 20)
    assert it.consider(30, FAST, 0) is not None
    before = it.expected
    it.consider(40, FAST, 0)
    assert it.expected == pytest.approx(0.8 * before + 0.2 * 10)  # since the move at 30


def test_it_looks_every_interval_and_never_at_the_start_or_after_the_end() -> None:
    it = engine(interval=7, steps=30)
    looked = []
    for step in range(40):
        if it.due(step):
            looked.append(step)
        it.consider(step, SLOW, 0)
    assert looked == [7, 14, 21, 28]


trips = st.lists(st.sampled_from([FAST, SLOW, Link(1.2, 1.2), None]), min_size=30, max_size=30)


@given(trips, st.integers(0, 29))
def test_an_engine_that_was_stored_decides_as_one_that_was_not(
    seen: list[Link | None], stored: int
) -> None:
    whole, first = engine(interval=2), engine(interval=2)
    expected = [whole.consider(step, link, 1) for step, link in enumerate(seen)]
    found = [first.consider(step, link, 1) for step, link in enumerate(seen[:stored])]
    second = engine(interval=2)
    second.load_state(json.loads(json.dumps(first.state())))
    found += [second.consider(stored + i, link, 1) for i, link in enumerate(seen[stored:])]
    assert found == expected
    assert second.state() == whole.state()


@given(trips)
def test_a_move_is_always_a_clear_gain_by_the_estimate_of_its_step(seen: list[Link | None]) -> None:
    it = engine(interval=2, margin=0.2)
    for step, link in enumerate(seen):
        before = it.choice
        move = it.consider(step, link, 1)
        assert it.choice == (move.choice if move else before)
        assert move is None or move.go.total_s < 0.8 * move.stay.total_s


class Seen(NamedTuple):
    up: float | None
    down: float | None
    delay: float | None


def test_a_link_is_known_when_both_rates_were_seen() -> None:
    assert Link.of(Seen(3.0, 2.0, 0.1)) == Link(3.0, 2.0, 0.1)
    assert Link.of(Seen(3.0, 2.0, None)) == Link(3.0, 2.0)
    assert Link.of(Seen(None, 1.0, 0.0)) is None
    assert Link.of(Seen(1.0, None, 0.0)) is None


# What devices really take.


def observed(
    edge_s: float, cloud_s: float, times: int = 5, start: Choice = MIDDLE, shared: bool = True
) -> Engine:
    """An engine after two looks, told as often before each that steps take so long."""
    it = engine(BALANCED, start, interval=5, shared=shared)
    for step in (5, 10):
        for _ in range(times):
            it.observe(it.choice, edge_s, cloud_s)
        it.consider(step, FAST, 3)
    return it


def test_devices_that_keep_what_their_profiles_promise_stay_where_they_are() -> None:
    it = observed(4, 4)
    assert (it.choice, it.load) == (MIDDLE, Load(1, 1, 1))


def test_sides_that_slow_each_other_down_make_one_alone_the_better_place() -> None:
    assert observed(6, 6).choice == ALL_CLOUD  # 6 s, against 5 s of the cloud alone


def test_sides_on_two_machines_do_not_slow_each_other_down() -> None:
    it = observed(6, 6, shared=False)
    assert (it.choice, it.load) == (MIDDLE, Load(1.5, 1.5, 1))


def test_a_slow_edge_is_slow_at_every_cut() -> None:
    # 12 s of the edge against 5 s of the cloud alone; 27 s of the edge alone.
    it = observed(12, 4)
    assert (it.choice, it.load) == (ALL_CLOUD, Load(3, 1, 1))
    it = observed(12, 4, start=Choice(2, "none", "none"), shared=False)
    assert it.load.edge == pytest.approx(12 / 9)  # of the edge alone; the cloud is as it was


def test_too_few_steps_say_nothing_of_a_load_until_there_are_more() -> None:
    assert observed(40, 40, times=1).load == Load()
    assert observed(40, 40, times=2).load == Load(1, 1, 10)


def test_a_side_without_blocks_keeps_its_load_or_goes_with_the_other_on_one_machine() -> None:
    assert observed(0.001, 20, start=ALL_CLOUD).load == Load(4, 4, 1)
    it = observed(0.001, 20, start=ALL_CLOUD, shared=False)
    assert it.load == Load(1, 4, 1)
    assert it.choice == Choice(2, "none", "none")  # 9 s, against 16 s of the cloud at cut 1


def test_steps_that_end_in_a_move_say_nothing_of_where_it_goes() -> None:
    it = observed(6, 6)
    before = it.state()
    for _ in range(5):
        it.observe(MIDDLE, 6, 6)  # under way as the cut moved to the cloud
    assert it.state() == before


def test_a_move_says_by_what_loads_it_was_chosen() -> None:
    it = engine(BALANCED, MIDDLE, interval=5, shared=True)
    for step in (5, 10):
        for _ in range(5):
            it.observe(MIDDLE, 6, 8)
        move = it.consider(step, FAST, 3)
    assert move is not None
    assert move.load == it.load == Load(1, 8 / 6, 1.5)
    assert (move.stay.edge_s, move.stay.cloud_s) == (6, 8)


def test_an_engine_stored_by_an_earlier_version_sees_the_loads_anew() -> None:
    state = observed(6, 6).state()
    del state["follower"]
    it = engine(BALANCED, MIDDLE, interval=5)
    it.load_state(state)
    assert (it.choice, it.load) == (ALL_CLOUD, Load())


times_of_steps = st.tuples(st.floats(0.1, 30), st.floats(0.1, 30))


@given(st.lists(times_of_steps, min_size=30, max_size=30), st.integers(0, 29), st.booleans())
def test_an_engine_that_was_stored_goes_by_the_same_loads(
    taken: list[tuple[float, float]], stored: int, shared: bool
) -> None:
    def follow(it: Engine, steps: range) -> list[object]:
        found = []
        for step in steps:
            found.append(it.consider(step, FAST, 3))
            it.observe(it.choice, *taken[step])
        return found

    whole, first, second = (engine(BALANCED, MIDDLE, interval=4, shared=shared) for _ in range(3))
    expected = follow(whole, range(30))
    found = follow(first, range(stored))
    second.load_state(json.loads(json.dumps(first.state())))
    assert found + follow(second, range(stored, 30)) == expected
    assert second.state() == json.loads(json.dumps(whole.state()))


@given(st.integers(0, 19), st.floats(0.1, 10), st.floats(0.1, 10), st.floats(1, 10))
def test_a_load_multiplies_the_seconds_of_a_side_and_no_bytes(
    cut: int, edge: float, cloud: float, mutual: float
) -> None:
    costs = published("resnet50_cifar", "TX2", ["int8"])
    found = costs.loaded(Load(edge, cloud, mutual))
    choice = Choice(cut, "int8", "int8")
    before, after = stages(costs, choice, 5), stages(found, choice, 5)
    both = 1 if cut in (0, 19) else mutual
    assert after.edge_s == pytest.approx(edge * both * before.edge_s, nan_ok=True)
    assert after.cloud_s == pytest.approx(cloud * both * before.cloud_s, nan_ok=True)
    assert after.uplink_bytes == pytest.approx(before.uplink_bytes, nan_ok=True)
    assert after.downlink_bytes == before.downlink_bytes


def test_an_engine_without_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="interval 0 must be >= 1"):
        engine(interval=0)
    with pytest.raises(ValueError, match=r"margin 1 in \[0, 1\)"):
        engine(margin=1)
    unknown = small([0, 8], [math.nan, 0], [10, 0])
    with pytest.raises(ValueError, match=r"costs of Choice.* are not known; start at another cut"):
        engine(unknown, start=NONE)
