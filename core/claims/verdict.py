"""The verdict on one claim, from its numbers alone."""

from collections.abc import Sequence
from math import isfinite
from statistics import mean, median
from typing import Literal

Direction = Literal["higher", "lower", "equal"]
Verdict = Literal["reproduced", "within noise", "not reproduced", "not comparable", "not run"]


def reaches(value: float, published: float, direction: Direction, tolerance: float) -> bool:
    """Whether a number is as good as the published one, within a part of it. higher: not smaller;
    lower: not larger; equal: neither."""
    room = tolerance * abs(published)
    small, large = value < published - room, value > published + room
    return not {"higher": small, "lower": large, "equal": small or large}[direction]


def judge(
    values: Sequence[float],
    published: float,
    direction: Direction,
    tolerance: float,
    comparable: bool,
) -> Verdict:
    """values: one for each seed; none where nothing was run. comparable: same setting as published.

    `within noise`: the mean misses what at least one of several seeds reaches. Where a seed never
    came to a number at all, which is infinite, it would decide alone: then the median stands for
    the mean.
    """
    if not values:
        return "not run"
    if not comparable:
        return "not comparable"
    centre = mean(values) if all(map(isfinite, values)) else median(values)
    if reaches(centre, published, direction, tolerance):
        return "reproduced"
    if len(values) > 1 and any(reaches(v, published, direction, tolerance) for v in values):
        return "within noise"
    return "not reproduced"
