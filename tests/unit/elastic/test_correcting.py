"""Selections corrected by what a step under them takes, on a device whose true times are known."""

from collections.abc import Callable

import numpy as np
import pytest

from core.elastic.budget import backward_budget
from core.elastic.correcting import CLOSE, Attempt, attempts, nearest, step_share
from core.elastic.selector import Mask, select
from core.elastic.timing import Parts, Tensor, Timing

N = 60
TENSORS = tuple(Tensor(f"{i}/kernel", (3, 3), "kernel", False, str(i)) for i in range(N))
IMPORTANCE = np.random.default_rng(0).random(N)


def timing_of(seed: int, lean: float = 1.0, noise: float = 0.0) -> Timing:
    """Forward 0.3 s, full step 1 s, mostly own gradients. lean: how many times as dear these are
    against the error on the way. noise: relative, of each own gradient."""
    random = np.random.default_rng(seed)
    dw, reach, through = random.random((3, N))
    dw = dw * lean * np.exp(noise * random.normal(size=N))
    return Timing.from_parts(TENSORS, Parts(dw, 0.1 * reach, 0.1 * through, 0.3, 1.0, 0.0), {})


def chosen(profile: Timing) -> Callable[[float], Mask]:
    t_dy = profile.t_dy("realisable")
    return lambda budget: select(profile.t_dw, t_dy, IMPORTANCE, budget, 2000)


def taken(device: Timing) -> Callable[[Mask], tuple[float, float]]:
    return lambda mask: (device.predict(mask) / device.full, 0.0)


def tried(profile: Timing, device: Timing, rho: float, corrections: int) -> list[Attempt]:
    return attempts(chosen(profile), taken(device), profile, rho, "realisable", corrections)


@pytest.mark.parametrize("rho", [0.4, 0.5, 0.7])
@pytest.mark.parametrize("lean", [0.3, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_with_times_that_are_off_a_step_takes_rho_after_two_corrections(
    rho: float, lean: float, seed: int
) -> None:
    profile, device = timing_of(seed), timing_of(seed, lean, noise=0.3)
    found = tried(profile, device, rho, corrections=2)
    assert nearest(found, rho).share == pytest.approx(rho, rel=0.05)
    assert abs(nearest(found, rho).share - rho) <= abs(found[0].share - rho)


def test_without_a_correction_such_times_miss_rho_by_more() -> None:
    off = [
        tried(timing_of(seed), timing_of(seed, 0.3, noise=0.3), 0.5, corrections=0)[0].share / 0.5
        for seed in (1, 2, 3)
    ]
    assert min(off) > 1.1


@pytest.mark.parametrize("rho", [0.4, 0.5, 0.7, 1.0])
def test_an_exact_profile_is_not_corrected(rho: float) -> None:
    exact = timing_of(1)
    (only,) = tried(exact, exact, rho, corrections=5)
    assert only.mask.tolist() == chosen(exact)(backward_budget(exact, rho, "measured")).tolist()
    assert only.excess == pytest.approx(1)


@pytest.mark.parametrize("corrections", [0, 1, 3])
def test_no_more_is_tried_than_was_asked_for(corrections: int) -> None:
    random = np.random.default_rng(2)  # a device whose times have nothing to do with the profile

    def measure(mask: Mask) -> tuple[float, float]:
        return float(random.uniform(0.6, 0.9)), 0.0

    profile = timing_of(0)
    found = attempts(chosen(profile), measure, profile, 0.5, "realisable", corrections)
    assert 1 <= len(found) <= corrections + 1


def test_a_selection_that_was_tried_is_not_tried_again() -> None:
    exact = timing_of(3)

    def everything(budget: float) -> Mask:  # all that has importance, though time is left
        return np.arange(N) > N // 2

    found = attempts(everything, taken(exact), exact, 0.9, "realisable", 5)
    assert len(found) == 1
    assert found[0].share < 0.9 * (1 - CLOSE)


def test_where_nothing_fits_the_corrected_budget_the_first_selection_stays() -> None:
    profile = timing_of(4)
    wanted = backward_budget(profile, 0.4, "measured")

    def narrow(budget: float) -> Mask:
        return chosen(profile)(budget) if budget >= wanted else np.zeros(N, dtype=bool)

    found = attempts(narrow, lambda mask: (0.6, 0.0), profile, 0.4, "realisable", 3)
    assert len(found) == 1
    assert found[0].mask.any()
    # As where the excess of the last selection leaves too little for any tensor of this one.
    again = attempts(narrow, lambda mask: (0.4, 0.0), profile, 0.4, "realisable", 3, excess=2.0)
    assert again[0].mask.tolist() == found[0].mask.tolist()


def test_the_next_selection_starts_from_what_the_last_one_taught() -> None:
    profile, device = timing_of(2), timing_of(2, 0.3)
    first = nearest(tried(profile, device, 0.5, 3), 0.5)
    assert first.excess > 1.05
    found = attempts(
        chosen(profile), taken(device), profile, 0.5, "realisable", 3, excess=first.excess
    )
    assert found[0].share == pytest.approx(0.5, rel=2 * CLOSE)


@pytest.mark.parametrize(("share", "excess"), [(0.9, 2.0), (0.1, 0.5)])
def test_a_disturbed_measurement_moves_the_budget_by_no_more_than_a_factor_of_two(
    share: float, excess: float
) -> None:
    profile = timing_of(7)
    found = attempts(chosen(profile), lambda mask: (share, 0.0), profile, 0.5, "realisable", 0)
    assert found[0].excess == excess


@pytest.mark.parametrize(("error", "tried"), [(0.01, 2), (0.06, 1)])
def test_what_noise_may_have_made_is_not_corrected(error: float, tried: int) -> None:
    profile = timing_of(9)
    found = attempts(
        chosen(profile), lambda mask: (0.6, error), profile, 0.5, "realisable", corrections=1
    )
    assert len(found) == tried


def test_a_share_goes_by_the_forward_passes_beside_the_steps() -> None:
    # The second half was measured while the machine was half as fast.
    steps, forwards = [0.5, 0.5, 1.0, 1.0], [0.3, 0.3, 0.6, 0.6]
    assert step_share(timing_of(8), steps, forwards) == pytest.approx((0.5, 0.0))


def test_the_error_of_a_share_is_that_of_a_median() -> None:
    random = np.random.default_rng(0)
    many = random.normal(0.5, 0.05, (2000, 9))
    found = [step_share(timing_of(8), row.tolist(), [0.3] * 9) for row in many]
    medians, errors = zip(*found, strict=True)
    assert np.mean(errors) == pytest.approx(np.std(medians), rel=0.15)
