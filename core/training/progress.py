"""Progress with time left: a bar on a terminal, a line now and then in a log."""

import logging
import sys
import time
from contextlib import suppress
from types import TracebackType

from tqdm import tqdm

log = logging.getLogger(__name__)

LINE_EVERY_S = 30


class ProgressBar:
    """Counts the steps of a run; `done` of them were taken before this process."""

    def __init__(self, total: int, done: int, shows: bool = True) -> None:
        """shows: it may draw a bar and say lines; not so for one of several processes that have
        one terminal."""
        self._shows = shows
        self._total, self._done, self._first = total, done, done
        self._start = self._said = time.monotonic()
        self._bar = None
        if shows and sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True)

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            with suppress(OSError):  # the terminal may be gone
                self._bar.close()

    def step(self) -> None:
        """One step was taken."""
        self._done += 1
        if self._bar is not None:
            with suppress(OSError):
                self._bar.update()
        elif self._shows and time.monotonic() - self._said > LINE_EVERY_S:
            self.say(f"step {self._done}/{self._total}")

    def say(self, text: str) -> None:
        """A line with the time left, beside the bar if there is one."""
        self._said = time.monotonic()
        log.info("%s%s", text, self._left())

    def _left(self) -> str:
        taken = self._done - self._first
        if not taken or self._done >= self._total:
            return ""
        seconds = (time.monotonic() - self._start) / taken * (self._total - self._done)
        return f"; about {minutes(seconds)} left"


def minutes(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
