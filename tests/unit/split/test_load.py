"""core.split.load: how much longer than profiled both sides take, from the steps they finished."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.split.costs import Load
from core.split.load import MOST, Follower

INNER, ALL_CLOUD, ALL_EDGE = 2, 0, 4  # of four blocks


def look(it: Follower, cut: int, edge: float, cloud: float) -> Load:
    """A look after steps that took so many times as long as profiled, 2 s and 3 s."""
    for _ in range(5):
        it.observe(2.0 * edge, 3.0 * cloud)
    it.look(cut, 0.0 if cut == ALL_CLOUD else 2.0, 0.0 if cut == ALL_EDGE else 3.0)
    return it.load


def follower(shared: bool = True) -> Follower:
    return Follower(4, "edge", shared)


def test_the_first_look_counts_whole_and_half_of_each_later_one() -> None:
    it = follower(shared=False)
    assert look(it, INNER, 3, 1) == Load(3, 1)
    assert look(it, INNER, 1, 2) == Load(2, 1.5)


def test_a_median_does_not_mind_a_step_that_took_very_long() -> None:
    it = follower(shared=False)
    it.observe(200.0, 300.0)
    assert look(it, INNER, 1, 1) == Load()


def test_what_both_sides_are_slower_by_counts_as_mutual_until_one_was_seen_alone() -> None:
    it = follower()
    assert look(it, INNER, 3, 1.5) == Load(2, 1, 1.5)
    # The cloud alone is no faster: it was slow itself. At inner cuts nothing else than before.
    assert look(it, ALL_CLOUD, 0, 1.5) == Load(3, 1.5, 1)
    # Now all of what both are slower by is theirs.
    assert look(it, INNER, 4, 2) == Load(3, 1.5, pytest.approx(4 / 3))


def test_the_machine_as_a_whole_may_get_slower_later_on() -> None:
    it = follower()
    look(it, INNER, 1.5, 1.5)
    assert look(it, ALL_CLOUD, 0, 1) == Load(1, 1, 1.5)
    look(it, INNER, 1.5, 1.5)
    for _ in range(30):
        load = look(it, INNER, 3, 3)
    assert (load.edge, load.cloud, load.mutual) == pytest.approx((2, 2, 1.5))


def test_a_side_without_blocks_stays_as_it_was_last_known() -> None:
    it = follower(shared=False)
    look(it, INNER, 3, 1)
    assert look(it, ALL_CLOUD, 7, 2) == Load(3, 2)
    assert look(it, ALL_EDGE, 5, 7) == Load(5, 2)


def test_a_machine_that_gets_slower_slows_the_side_that_is_not_seen_too() -> None:
    it = follower()
    look(it, INNER, 3, 1.5)
    assert look(it, ALL_CLOUD, 0, 1) == Load(2, 1, 1.5)
    for _ in range(30):
        load = look(it, ALL_CLOUD, 0, 4)
    assert (load.edge, load.cloud, load.mutual) == pytest.approx((8, 4, 1.5))
    assert look(follower(), ALL_EDGE, 4, 0) == Load(4, 4)


def test_a_front_in_the_cloud_leaves_the_edge_alone_at_cut_0() -> None:
    it = Follower(4, "cloud", shared=False)
    for _ in range(3):
        it.observe(6.0, 0.1)
    it.look(0, 2.0, 0.0)
    assert it.load == Load(3, 1)


looks = st.lists(
    st.tuples(st.sampled_from([ALL_CLOUD, INNER, ALL_EDGE]), st.floats(0, 1e4), st.floats(0, 1e4)),
    max_size=12,
)


@given(looks, st.booleans())
def test_loads_stay_within_bounds_and_what_was_seen_last_is_what_is_predicted(
    seen: list[tuple[int, float, float]], shared: bool
) -> None:
    it, before = follower(shared), None
    for cut, edge, cloud in seen:
        load = look(it, cut, edge, cloud)
        assert 1 <= load.mutual <= (MOST if shared else 1)
        assert all(1 / MOST <= side <= MOST for side in (load.edge, load.cloud))
        if before != cut and 1 <= edge <= 4 and 1 <= cloud <= 4:
            expected = {"edge": edge, "cloud": cloud}
            expected.pop({ALL_CLOUD: "edge", ALL_EDGE: "cloud"}.get(cut, ""), None)
            for side, times in expected.items():
                known = load.by_cut(side, 4)[cut]  # type: ignore[arg-type]
                assert known == pytest.approx(times) or load.of(side) in (1 / MOST, MOST)  # type: ignore[arg-type]
        before = cut


@given(looks, st.integers(0, 12), st.booleans())
def test_a_stored_follower_goes_on_as_one_that_was_not(
    seen: list[tuple[int, float, float]], stored: int, shared: bool
) -> None:
    one, other = follower(shared), follower(shared)
    for number, each in enumerate(seen):
        if number == stored:
            other.observe(1.0, 1.0)
            one.observe(1.0, 1.0)
            state = json.loads(json.dumps(other.state()))
            other = follower(shared)
            other.load_state(state)
        assert look(one, *each) == look(other, *each)
