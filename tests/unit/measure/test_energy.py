"""Energy from readings, against closed forms."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.measure.energy import COUNTER_GAP_S, LEAST_GAP_S, Integral
from core.measure.meter import Reading

steps = st.lists(st.floats(0.001, LEAST_GAP_S), min_size=1, max_size=50)
watts = st.floats(0, 1e4)


def moments(gaps: list[float]) -> list[float]:
    """Times from 7 on, with these gaps between."""
    return [7.0, *(7 + sum(gaps[: i + 1]) for i in range(len(gaps)))]


@given(steps, watts)
def test_constant_power_gives_power_times_time_wherever_samples_are(
    gaps: list[float], power: float
) -> None:
    integral = Integral(LEAST_GAP_S + 1)
    for at in moments(gaps):
        integral.add(at, Reading(watts=power))
    assert integral.joules == pytest.approx(power * sum(gaps), rel=1e-9, abs=1e-9)
    assert integral.covered_s == pytest.approx(sum(gaps))


@given(steps, watts, st.floats(0, 100))
def test_a_ramp_is_exact(gaps: list[float], start: float, slope: float) -> None:
    integral = Integral(LEAST_GAP_S + 1)
    for at in moments(gaps):
        integral.add(at, Reading(watts=start + slope * (at - 7)))
    seconds = sum(gaps)
    expected = start * seconds + slope * seconds**2 / 2
    assert integral.joules == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_sine_is_close_with_twenty_samples_a_period() -> None:
    integral = Integral(LEAST_GAP_S)
    for number in range(201):
        at = number / 20
        integral.add(at, Reading(watts=10 + 3 * math.sin(2 * math.pi * at)))
    assert integral.joules == pytest.approx(100, rel=1e-9)  # ten whole periods


@given(steps, st.floats(COUNTER_GAP_S + 0.01, 1e5), watts)
def test_what_happened_in_a_gap_is_not_made_up(gaps: list[float], gap: float, power: float) -> None:
    integral = Integral(LEAST_GAP_S)
    for at in moments(gaps):
        integral.add(at, Reading(watts=power))
    before = (integral.joules, integral.covered_s)
    assert integral.add(7 + sum(gaps) + gap, Reading(watts=power)) == power
    assert (integral.joules, integral.covered_s) == before


def test_a_meter_that_also_counts_fills_the_gap_by_its_count() -> None:
    integral = Integral(LEAST_GAP_S)
    integral.add(0, Reading(watts=10, joules=500))
    assert integral.add(100, Reading(watts=12, joules=1700)) == 12
    assert (integral.joules, integral.covered_s) == (1200, 100)


def test_a_counter_that_was_reset_counts_nothing_for_that_time() -> None:
    integral = Integral(LEAST_GAP_S)
    for at, joules in ((0, 900.0), (1, 910.0), (2, 0.0), (3, 5.0)):
        integral.add(at, Reading(joules=joules))
    assert (integral.joules, integral.covered_s) == (15, 2)


def test_a_counter_over_more_than_a_minute_may_have_wrapped_twice() -> None:
    integral = Integral(LEAST_GAP_S)
    integral.add(0, Reading(joules=0))
    integral.add(COUNTER_GAP_S, Reading(joules=600))
    integral.add(2 * COUNTER_GAP_S + 1, Reading(joules=1200))
    assert (integral.joules, integral.covered_s) == (600, COUNTER_GAP_S)


def test_a_clock_that_stands_still_adds_nothing() -> None:
    integral = Integral(LEAST_GAP_S)
    integral.add(1, Reading(watts=5))
    assert integral.add(1, Reading(watts=7)) is None
    assert integral.joules == 0


def test_a_moment_between_two_readings_is_counted_as_the_time_before_it() -> None:
    integral = Integral(LEAST_GAP_S)
    assert integral.so_far(3) == (0, 0)
    integral.add(0, Reading(watts=10))
    assert integral.so_far(0.5) == (5, 0.5)
    integral.add(1, Reading(watts=20))
    assert integral.so_far(2) == (30, 2)  # 15 W on the way here
    assert integral.so_far(1000) == (15 + 15 * LEAST_GAP_S, 1 + LEAST_GAP_S)
    assert (integral.joules, integral.covered_s) == (15, 1)
