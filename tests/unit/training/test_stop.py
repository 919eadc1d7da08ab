"""core.training.stop: who asks, and how often."""

import signal

import pytest

from core.training.stop import ASKING, Stop


@pytest.mark.parametrize("number", ASKING)
def test_each_signal_asks_once(number: int) -> None:
    before = signal.getsignal(number)
    with Stop() as stop:
        assert stop.signal is None
        signal.raise_signal(number)
        assert stop.signal == number
    assert signal.getsignal(number) == before


def test_a_terminal_that_closes_signals_twice_and_asks_once() -> None:
    with Stop() as stop:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert stop.signal == signal.SIGHUP


@pytest.mark.parametrize(
    ("first", "second"),
    [("SIGINT", "SIGINT"), ("SIGTERM", "SIGTERM"), ("SIGHUP", "SIGTERM"), ("SIGINT", "SIGHUP")],
)
def test_whoever_asks_again_ends_the_process_at_once(first: str, second: str) -> None:
    with Stop():
        signal.raise_signal(getattr(signal, first))
        with pytest.raises(SystemExit) as ended:
            signal.raise_signal(getattr(signal, second))
        assert ended.value.code == 128 + getattr(signal, second)
