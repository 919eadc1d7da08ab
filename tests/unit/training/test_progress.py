"""core.training.progress: how far a run is, on whatever there is to say it."""

import os
import sys

import pytest

from core.training.progress import ProgressBar, minutes


def test_a_terminal_that_closes_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    terminal = os.fdopen(theirs, "w")
    monkeypatch.setattr(sys, "stderr", terminal)
    with ProgressBar(9, 0) as bar:
        assert bar._bar is not None
        bar._bar.mininterval = bar._bar.miniters = 0  # drawn at every step
        bar.step()
        os.close(ours)
        bar.step()
    with pytest.raises(OSError, match="Input/output error"):
        os.write(theirs, b"nobody reads this")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (89, "89 s"), (120, "2 min"), (5400, "1.5 h")]
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert minutes(seconds) == said
