"""A slower device, emulated: after each piece of work it rests for as long as that one would have
gone on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """Counts the seconds of work as the slower device has them."""

    def __init__(self, slowdown: float) -> None:
        """slowdown: how many times slower; 1 is this machine as it is."""
        self._rest = slowdown - 1
        self.seconds = 0.0

    @contextmanager
    def work(self) -> Iterator[None]:
        """Do a piece of work at this pace. Waiting for the other side is no work."""
        start = time.perf_counter()
        yield
        if self._rest > 0:
            time.sleep(self._rest * (time.perf_counter() - start))
        self.seconds += time.perf_counter() - start

    def lap(self) -> float:
        """Seconds of work since the last call."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds
