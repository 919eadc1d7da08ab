"""The selector against the definition: every mask is tried, in exact arithmetic."""

from fractions import Fraction
from itertools import product
from math import ceil
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.elastic.selector import Mask, pruned, select

MOST = 12
SMALLEST = 5e-324


class Case(NamedTuple):
    """What one selection is asked; times in seconds, one per tensor."""

    dw: list[float]
    dy: list[float]
    gain: list[float]


def cases(times: st.SearchStrategy, gains: st.SearchStrategy) -> st.SearchStrategy[Case]:
    def of(n: int) -> st.SearchStrategy[Case]:
        parts = (st.lists(part, min_size=n, max_size=n) for part in (times, times, gains))
        return st.builds(Case, *parts)

    return st.integers(0, MOST).flatmap(of)


# Few different values, so that equal and zero ones are common.
whole_cases = cases(
    st.integers(0, 6).map(float) | st.integers(0, 40).map(float), st.integers(-3, 9).map(float)
)
float_cases = cases(
    st.floats(0, 1) | st.sampled_from([0.0, 0.1, 0.2, 0.3, 1e-12]), st.floats(-1, 1)
)
readings = pytest.mark.parametrize("pays_deepest", [True, False], ids=["paper", "realisable"])


def cost(case: Case, mask: Mask, pays_deepest: bool) -> Fraction:
    """Seconds of a mask: own gradients, and the error down to the selected tensor nearest the
    input. `paper` pays for passing through that one (k >= d), `realisable` does not (k > d)."""
    chosen = np.flatnonzero(mask).tolist()
    if not chosen:
        return Fraction(0)
    error = case.dy[chosen[0] if pays_deepest else chosen[0] + 1 :]
    return sum(map(Fraction, [*error, *(case.dw[k] for k in chosen)]), Fraction(0))


def objective(case: Case, mask: Mask) -> float:
    return float(sum((Fraction(case.gain[k]) for k in np.flatnonzero(mask)), Fraction(0)))


def best(case: Case, budget: float, pays_deepest: bool) -> float:
    """The most importance of all masks within the budget; exact where times are whole numbers."""
    n = len(case.dw)
    masks = np.array(list(product((False, True), repeat=n)), dtype=bool).reshape(2**n, n)
    error_from = [sum(case.dy[k:]) for k in range(n + 1)]
    error = [
        error_from[list(m).index(True) + (not pays_deepest)] if any(m) else 0
        for m in masks.tolist()
    ]
    costs = masks @ np.array(case.dw) + np.array(error)
    return float((masks @ np.array(case.gain))[costs <= budget].max())


def solve(case: Case, budget: float, pays_deepest: bool, resolution: int) -> Mask:
    dy = case.dy if pays_deepest else pruned(case.dy)
    return select(case.dw, dy, case.gain, budget, resolution)


def in_steps(case: Case, budget: float, resolution: int) -> Case:
    """The same case in whole steps of budget / resolution, each time rounded up."""
    step = Fraction(budget) / resolution
    return case._replace(
        dw=[float(ceil(Fraction(t) / step)) for t in case.dw],
        dy=[float(ceil(Fraction(t) / step)) for t in case.dy],
    )


@readings
@given(case=whole_cases, budget=st.integers(1, 120))
@settings(max_examples=300, deadline=None)
def test_no_mask_within_the_budget_is_better(pays_deepest: bool, case: Case, budget: int) -> None:
    mask = solve(case, budget, pays_deepest, resolution=budget)
    assert cost(case, mask, pays_deepest) <= budget
    assert objective(case, mask) == best(case, budget, pays_deepest)


@readings
@given(
    case=float_cases,
    budget=st.floats(1e-6, 12) | st.sampled_from([0.1, 0.3, 0.6, 1 / 3]),
    resolution=st.sampled_from([1, 3, 10, 100, 1000]),
)
@settings(max_examples=300, deadline=None)
def test_real_times_stay_within_the_budget_and_rounding_up_is_all_that_is_lost(
    pays_deepest: bool, case: Case, budget: float, resolution: int
) -> None:
    mask = solve(case, budget, pays_deepest, resolution)
    assert cost(case, mask, pays_deepest) <= Fraction(budget)
    coarse = best(in_steps(case, budget, resolution), resolution, pays_deepest)
    assert objective(case, mask) >= coarse - 1e-12


@given(case=whole_cases, budget=st.floats(0, 100, exclude_min=True), steps=st.integers(1, 2000))
@settings(max_examples=200, deadline=None)
def test_times_that_fill_the_budget_to_the_last_bit_never_overflow_it(
    case: Case, budget: float, steps: int
) -> None:
    # The same case, scaled so that its dearest mask costs about the budget.
    total = sum(case.dw) + sum(case.dy) or 1.0
    case = case._replace(
        dw=[t * budget / total for t in case.dw], dy=[t * budget / total for t in case.dy]
    )
    assert cost(case, solve(case, budget, True, steps), True) <= Fraction(budget)


# Whole layers.


def layered(case: Case) -> st.SearchStrategy[tuple[Case, list[str]]]:
    """The case with a layer for each tensor: runs of one to four, as layers have tensors."""
    n = len(case.dw)
    cuts = st.lists(st.booleans(), min_size=n, max_size=n)
    return cuts.map(lambda c: (case, [f"layer{sum(c[: i + 1])}" for i in range(n)]))


def best_of_layers(case: Case, layers: list[str], budget: float, pays_deepest: bool) -> float:
    """The most importance of all selections of whole layers, each tried as a mask of tensors."""
    names = list(dict.fromkeys(layers))
    found = 0.0
    for chosen in product((False, True), repeat=len(names)):
        taken = {name for name, c in zip(names, chosen, strict=True) if c}
        mask = np.array([layer in taken for layer in layers], dtype=bool)
        if cost(case, mask, pays_deepest) <= budget:
            found = max(found, objective(case, mask))
    return found


def solve_layers(case: Case, layers: list[str], budget: float, pays_deepest: bool) -> Mask:
    dy = case.dy if pays_deepest else pruned(case.dy)
    return select(case.dw, dy, case.gain, budget, int(budget), layers)


def assert_best_of_layers(case: Case, layers: list[str], budget: float, pays_deepest: bool) -> None:
    mask = solve_layers(case, layers, budget, pays_deepest)
    assert {layers[k] for k in np.flatnonzero(mask)} & {
        layers[k] for k in np.flatnonzero(~mask)
    } == set()
    assert cost(case, mask, pays_deepest) <= budget
    assert objective(case, mask) == best_of_layers(case, layers, budget, pays_deepest)


@readings
@given(asked=whole_cases.flatmap(layered), budget=st.integers(1, 120))
@settings(max_examples=100, deadline=None)
def test_no_selection_of_whole_layers_within_the_budget_is_better(
    pays_deepest: bool, asked: tuple[Case, list[str]], budget: int
) -> None:
    assert_best_of_layers(*asked, budget, pays_deepest)


@readings
@given(asked=cases(st.integers(0, 6).map(float), st.integers(-3, 9).map(float)), draw=st.data())
@settings(max_examples=100, deadline=None)
def test_layers_whose_tensors_are_used_apart_keep_the_budget_too(
    pays_deepest: bool, asked: Case, draw: st.DataObject
) -> None:
    n = len(asked.dw)
    layers = draw.draw(st.lists(st.sampled_from("abcd"), min_size=n, max_size=n))
    budget = draw.draw(st.integers(1, 60))
    assert_best_of_layers(asked, layers, budget, pays_deepest)


@given(case=whole_cases, budget=st.integers(1, 120))
@settings(max_examples=50, deadline=None)
def test_layers_of_one_tensor_each_change_nothing(case: Case, budget: int) -> None:
    alone = [str(k) for k in range(len(case.dw))]
    with_layers = solve_layers(case, alone, budget, True)
    assert with_layers.tolist() == solve(case, budget, True, resolution=budget).tolist()


def test_a_layer_is_worth_the_sum_of_its_tensors() -> None:
    # The first tensor alone would lower the loss least; its layer lowers it most.
    mask = select([1.0] * 3, [0.0] * 3, [4.0, -1.0, 2.0], 2.0, 2, ["a", "a", "b"])
    assert mask.tolist() == [True, True, False]


def test_a_tensor_that_takes_the_whole_budget_is_selected_and_one_bit_more_is_not() -> None:
    for seconds in (0.1, 1 / 3, 0.7, 1e-9, 123.456):
        assert select([seconds], [0.0], [1.0], seconds, resolution=7).tolist() == [True]
        more = np.nextafter(seconds, np.inf)
        assert select([more], [0.0], [1.0], seconds, resolution=7).tolist() == [False]


def test_whole_numbers_of_steps_are_not_rounded_up() -> None:
    seconds = [n / 1024 for n in range(1, 41)]
    assert select(seconds, [0.0] * 40, [1.0] * 40, 820 / 1024, resolution=820).all()


@given(case=float_cases, budget=st.floats(0.01, 12))
@settings(max_examples=100, deadline=None)
def test_a_fine_resolution_finds_all_that_fits_with_a_little_room(
    case: Case, budget: float
) -> None:
    resolution = 10_000
    # N times are rounded up by at most one step each, and the error time once.
    room = budget * (1 - (MOST + 2) / resolution)
    mask = solve(case, budget, True, resolution)
    assert objective(case, mask) >= best(case, room, True) - 1e-12


@pytest.mark.parametrize("budget", [0, 0.0, -1, -1e300])
def test_no_budget_selects_nothing(budget: float) -> None:
    assert not select([0.0, 0.0], [0.0, 0.0], [1.0, 1.0], budget).any()


def test_tensors_that_cost_nothing_fit_the_smallest_budget() -> None:
    assert select([1.0, 0.0], [0.0, 0.0], [1.0, 1.0], SMALLEST).tolist() == [False, True]


def test_no_tensors_give_an_empty_mask() -> None:
    assert select([], [], [], 1.0).shape == (0,)


def test_worthless_tensors_are_not_selected_even_for_free() -> None:
    mask = select([0.0] * 4, [0.0] * 4, [0.0, -1.0, 1.0, -0.0], 1.0)
    assert mask.tolist() == [False, False, True, False]


def test_all_useful_tensors_are_selected_when_the_budget_does_not_bind() -> None:
    mask = select([1.0] * 5, [1.0] * 5, [1.0, 2.0, -1.0, 3.0, 1.0], 1e6)
    assert mask.tolist() == [True, True, False, True, True]


def test_among_equals_those_nearest_the_output_are_selected() -> None:
    mask = select([1.0] * 6, [0.0] * 6, [1.0] * 6, 2.0, resolution=2)
    assert mask.tolist() == [False, False, False, False, True, True]
    mask = select([1.0] * 6, [0.0] * 6, [5.0, 1.0, 1.0, 1.0, 1.0, 1.0], 2.0, resolution=2)
    assert mask.tolist() == [True, False, False, False, False, True]


def test_the_same_question_gets_the_same_answer() -> None:
    draw = np.random.default_rng(3)
    dw, dy, gain = draw.integers(0, 3, (3, 40)).astype(float)
    answers = {select(dw, dy, gain, 20.0).tobytes() for _ in range(5)}
    assert len(answers) == 1


def test_the_arrays_asked_with_are_left_alone() -> None:
    arrays = [np.array([1.0, 2.0, 3.0]) for _ in range(3)]
    select(arrays[0], arrays[1], arrays[2], 4.0)
    assert all(a.tolist() == [1.0, 2.0, 3.0] for a in arrays)


def test_pruned_leaves_out_the_way_through_the_deepest_tensor() -> None:
    assert pruned([1.0, 2.0, 4.0]).tolist() == [2.0, 4.0, 0.0]
    assert pruned([]).tolist() == []


@pytest.mark.parametrize(
    ("dw", "dy", "gain", "budget", "text"),
    [
        ([1.0], [1.0, 2.0], [1.0], 1.0, r"shapes differ: t_dw \(1,\), t_dy \(2,\), I \(1,\)"),
        ([[1.0]], [[1.0]], [[1.0]], 1.0, "shapes differ"),
        ([-1.0], [1.0], [1.0], 1.0, "times must not be negative"),
        ([1.0], [-1e-9], [1.0], 1.0, "times must not be negative"),
        ([np.nan], [1.0], [1.0], 1.0, "must be finite numbers"),
        ([1.0], [np.inf], [1.0], 1.0, "must be finite numbers"),
        ([1.0], [1.0], [np.nan], 1.0, "must be finite numbers"),
        ([1.0], [1.0], [1.0], np.nan, "the budget must be a finite number, not nan"),
    ],
)
def test_a_question_without_sense_is_refused(
    dw: list[float], dy: list[float], gain: list[float], budget: float, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        select(dw, dy, gain, budget)
