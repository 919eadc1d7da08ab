"""Profiles on a busy device: measured again, the best taken, and refused when none made sense."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from core.elastic.measuring import ATTEMPTS, closed_timing
from core.elastic.timing import Parts
from core.errors import DeviceError
from tests.unit.elastic.test_timing import TENSORS, parts

NONSENSE = parts(forward=94, full=30)  # the forward pass alone took longer
CLOSED, FAR, FARTHER = parts(), parts(1.2), parts(0.5)


def measured(*each: Parts) -> tuple[Any, list[Parts]]:
    """A backend whose measurements are these, and those that were not asked for."""
    left = list(each)
    return SimpleNamespace(tensors=TENSORS, time_parts=lambda *_: left.pop(0)), left


def timing_of(backend: Any) -> Any:
    return closed_timing(backend, None, None, 10, {})


def test_a_measurement_that_makes_no_sense_is_made_again() -> None:
    backend, left = measured(NONSENSE, NONSENSE, CLOSED)
    assert timing_of(backend).closure == 0
    assert not left


def test_none_is_made_again_once_one_closes() -> None:
    backend, left = measured(CLOSED, NONSENSE)
    assert timing_of(backend).full == CLOSED.full
    assert left == [NONSENSE]


@pytest.mark.parametrize("order", [(FAR, FARTHER, NONSENSE), (NONSENSE, FARTHER, FAR)])
def test_of_those_that_do_not_close_the_best_is_taken_and_said(
    order: tuple[Parts, ...], caplog: pytest.LogCaptureFixture
) -> None:
    backend, _ = measured(*order)
    assert timing_of(backend).closure == pytest.approx(0.2)
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warned) == 1
    assert "does not close within 10 %" in warned[0]


def test_a_device_that_never_made_sense_is_refused() -> None:
    backend, left = measured(*[NONSENSE] * ATTEMPTS)
    with pytest.raises(DeviceError, match="something else keeps this device busy; measure again"):
        timing_of(backend)
    assert not left
