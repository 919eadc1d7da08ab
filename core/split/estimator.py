"""Bandwidth and delay of a link from the messages that pass it, without a common clock.

Bandwidth is the dispersion that a receiver sees within one frame: bytes after the first chunk, over
the time between first and last chunk. A frame that waited in a queue of its own sender comes later,
and its chunks are as far apart as ever. Delay is half of the least round trip of late.

What distorts a frame (a receiver or a link that waited for a processor) is of fixed size, some
milliseconds. A frame that takes no longer says nothing alone, as raw images of an all-cloud run on
a fast link. So the estimate is of the last frames that together took long enough, a probe among
them.
"""

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

FRAMES, SPAN_S = 5, 0.25  # in the window at least: a change of rate shows after three of them
MOST_FRAMES = 16
TRIPS = 16
SMALLEST = 8 << 10  # bytes; the spacing of fewer says more about the clock than about the link
NEAR = 0.25  # how far from the median a frame may be and still count


class Sample(NamedTuple):
    nbytes: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.nbytes / self.seconds


class Counts(NamedTuple):
    """How many samples of each kind there were."""

    up: int = 0
    down: int = 0
    trips: int = 0


class Estimator:
    """Rates in bytes per second and the one-way delay in seconds; None until something was seen.

    Knows no clock but those of its callers, and may be used from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._up: deque[Sample] = deque(maxlen=MOST_FRAMES)
        self._down: deque[Sample] = deque(maxlen=MOST_FRAMES)
        self._trips: deque[float] = deque(maxlen=TRIPS)
        self.counts = Counts()

    def uplink(self, nbytes: int, seconds: float) -> None:
        """A frame came up: bytes after its first chunk, seconds from first chunk to last."""
        if self._add(self._up, nbytes, seconds):
            self.counts = self.counts._replace(up=self.counts.up + 1)

    def downlink(self, nbytes: int, seconds: float) -> None:
        """The same of a frame that came down."""
        if self._add(self._down, nbytes, seconds):
            self.counts = self.counts._replace(down=self.counts.down + 1)

    def round_trip(self, seconds: float) -> None:
        """A small frame went and its answer came, on an idle link."""
        if seconds > 0:
            with self._lock:
                self._trips.append(seconds)
            self.counts = self.counts._replace(trips=self.counts.trips + 1)

    @property
    def up(self) -> float | None:
        with self._lock:
            return _rate(self._up)

    @property
    def down(self) -> float | None:
        with self._lock:
            return _rate(self._down)

    @property
    def delay(self) -> float | None:
        """Of one way, were both the same. Queues only add to a round trip: the least has none."""
        with self._lock:
            return min(self._trips) / 2 if self._trips else None

    def state(self) -> dict[str, Any]:
        """What was seen, for JSON; `load_state` takes it back."""
        with self._lock:
            up, down = ([list(sample) for sample in part] for part in (self._up, self._down))
            return {"up": up, "down": down, "round_trips": list(self._trips)}

    def load_state(self, state: dict[str, Any]) -> None:
        with self._lock:
            _refill(self._up, (Sample(*sample) for sample in state["up"]))
            _refill(self._down, (Sample(*sample) for sample in state["down"]))
            _refill(self._trips, state["round_trips"])

    def _add(self, window: deque[Sample], nbytes: int, seconds: float) -> bool:
        enough = nbytes >= SMALLEST and seconds > 0
        if enough:
            with self._lock:
                window.append(Sample(nbytes, seconds))
        return enough


class FromCloud:
    """What the cloud's end of a channel sees: what it sends goes down, what it gets came up."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator

    def uplink(self, nbytes: int, seconds: float) -> None:
        """A frame that this end sent."""
        self._estimator.downlink(nbytes, seconds)

    def downlink(self, nbytes: int, seconds: float) -> None:
        """A frame that came."""
        self._estimator.uplink(nbytes, seconds)

    def round_trip(self, seconds: float) -> None:
        """The same from both ends."""
        self._estimator.round_trip(seconds)


def _refill(window: deque[Any], values: Iterable[Any]) -> None:
    window.clear()
    window.extend(values)


def _rate(window: Sequence[Sample]) -> float | None:
    """The rate of the frames near the median, each counting by its bytes.

    By bytes, as what distorts a sample (a burst that a token bucket lets pass, a receiver that
    was busy) is of fixed size. Only near the median, so that one outage is not an average.
    """
    if not window:
        return None
    recent = _recent(window)
    middle = _weighted_median(recent)
    near = [s for s in recent if abs(s.rate - middle) <= NEAR * middle]
    return sum(s.nbytes for s in near) / sum(s.seconds for s in near)


def _recent(window: Sequence[Sample]) -> list[Sample]:
    """The last FRAMES, and more where these took less than SPAN_S together."""
    found: list[Sample] = []
    for sample in reversed(window):
        if len(found) >= FRAMES and sum(s.seconds for s in found) >= SPAN_S:
            break
        found.append(sample)
    return found


def _weighted_median(window: Sequence[Sample]) -> float:
    half = sum(sample.nbytes for sample in window) / 2
    passed = 0.0
    ordered = sorted(window, key=lambda sample: sample.rate)
    for sample in ordered:
        passed += sample.nbytes
        if passed >= half:
            break
    return sample.rate
