"""From ρ to seconds, and the smallest ρ that trains anything."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core.elastic.budget import Rule, backward_budget, check_budget, smallest_rho
from core.elastic.selector import Mask, select
from core.elastic.timing import Cost, Parts, Tensor, Timing
from core.errors import BudgetError

RESOLUTION = 1_000_000

times = st.lists(st.floats(0.001, 1), min_size=3, max_size=3)


def timing_of(dw: list[float], reach: list[float], through: list[float], forward: float) -> Timing:
    tensors = [Tensor(f"{i}/kernel", (3, 3), "kernel", False, str(i)) for i in range(len(dw))]
    backward = sum(dw) + sum(reach) + sum(through)
    own, on_the_way, across = (np.array(part) for part in (dw, reach, through))
    found = Parts(own, on_the_way, across, forward, forward + backward, 0.0)
    return Timing.from_parts(tensors, found, {})


@pytest.fixture
def timing() -> Timing:
    """Forward 3 s, full step 10 s, backward 7 s; the cheapest tensor is the last."""
    return timing_of([1.0, 0.5, 0.5], [0.0, 1.0, 0.75], [0.0, 2.0, 1.25], forward=3.0)


def selected(timing: Timing, rho: float, rule: Rule, cost: Cost) -> Mask:
    budget = backward_budget(timing, rho, rule)
    return select(timing.t_dw, timing.t_dy(cost), np.ones(3), budget, RESOLUTION)


@pytest.mark.parametrize(
    ("rule", "rho", "seconds"),
    [
        ("measured", 1.0, 7.0),  # everything: all of the backward pass
        ("measured", 0.5, 2.0),  # 0.5 · 10 − 3
        ("measured", 0.3, 0.0),  # the forward pass alone
        ("measured", 0.2, -1.0),
        ("paper", 1.0, 7.0),
        ("paper", 0.5, 1.75),  # (1/2 − 1/3) · 3/2 = 1/4 of the backward pass
        ("paper", 1 / 3, 0.0),
    ],
)
def test_the_budget_is_what_rho_leaves_for_the_backward_pass(
    timing: Timing, rule: Rule, rho: float, seconds: float
) -> None:
    assert backward_budget(timing, rho, rule) == pytest.approx(seconds)


def test_the_rules_agree_where_backward_takes_twice_the_forward() -> None:
    timing = timing_of([1.0, 2.0, 1.0], [0.5, 0.5, 0.5], [0.0, 0.25, 0.25], forward=3.0)
    for rho in (0.4, 0.533, 0.7, 1.0):
        measured = backward_budget(timing, rho, "measured")
        assert measured == pytest.approx(backward_budget(timing, rho, "paper"))


@pytest.mark.parametrize(
    ("rule", "cost", "rho"),
    [
        ("measured", "realisable", 0.425),  # 3 + 0.5 + 0.75 of 10
        ("measured", "paper", 0.55),  # and 1.25 to pass through it
        ("paper", "realisable", 1 / 3 + 1.25 / 10.5),
        ("paper", "paper", 1 / 3 + 2.5 / 10.5),
    ],
)
def test_the_smallest_rho_pays_for_the_cheapest_tensor(
    timing: Timing, rule: Rule, cost: Cost, rho: float
) -> None:
    assert smallest_rho(timing, rule, cost) == pytest.approx(rho)


@pytest.mark.parametrize("rule", ["measured", "paper"])
@pytest.mark.parametrize("cost", ["realisable", "paper"])
@given(dw=times, reach=times, through=times, forward=st.floats(0.1, 10))
@settings(max_examples=25, deadline=None)
def test_the_smallest_rho_is_tight(
    rule: Rule,
    cost: Cost,
    dw: list[float],
    reach: list[float],
    through: list[float],
    forward: float,
) -> None:
    timing = timing_of(dw, reach, [0.0, *through[1:]], forward)
    rho = smallest_rho(timing, rule, cost)
    assume(backward_budget(timing, rho, rule) > 1e-3)
    above, below = rho * (1 + 1e-4), rho * (1 - 1e-4)
    check_budget(timing, above, rule, cost, RESOLUTION)
    assert selected(timing, above, rule, cost).any()
    assert not selected(timing, below, rule, cost).any()
    with pytest.raises(BudgetError):
        check_budget(timing, below, rule, cost, RESOLUTION)


@pytest.mark.parametrize("cost", ["realisable", "paper"])
def test_a_budget_too_small_for_any_tensor_names_the_smallest_that_works(
    timing: Timing, cost: Cost
) -> None:
    with pytest.raises(BudgetError) as refused:
        check_budget(timing, 0.31, "measured", cost, RESOLUTION)
    text = str(refused.value)
    assert text.startswith("elastic.rho = 0.31 is too small for any tensor")
    assert "the forward pass alone takes 0.300 of a full step" in text
    named = re.search(r"The smallest ρ that works here is (\d\.\d{3})$", text)
    assert named is not None
    rho = float(named[1])
    assert rho == {"realisable": 0.425, "paper": 0.55}[cost]


@given(dw=times, reach=times, through=times, forward=st.floats(0.1, 10))
@settings(max_examples=50, deadline=None)
def test_the_rho_that_is_named_works(
    dw: list[float], reach: list[float], through: list[float], forward: float
) -> None:
    timing = timing_of(dw, reach, [0.0, *through[1:]], forward)
    with pytest.raises(BudgetError) as refused:
        check_budget(timing, 0.0, "measured", "realisable", RESOLUTION)
    rho = float(str(refused.value).rsplit(" ", 1)[1])
    check_budget(timing, rho, "measured", "realisable", RESOLUTION)
    assert selected(timing, rho, "measured", "realisable").any()
