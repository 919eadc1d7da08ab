"""The rate of a link over time: constant, synthetic, or read from a trace file.

Times are seconds since the first byte that passes the link, rates are bytes per second.
"""

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import NormalDist

from core.errors import DataError

MBIT = 125_000  # bytes
LIMIT = 2  # standard deviations: a radio has a best rate, and a fade is what goes below the worst
OPPORTUNITY = 1500  # bytes that one line of a mahimahi trace lets pass


@dataclass(frozen=True)
class Trace:
    """A rate that changes in steps: rates[i] holds from times[i] to times[i + 1].

    times: seconds, from 0, strictly increasing. rates: bytes per second.
    period: seconds after which the trace starts again; None lets the last rate hold for ever.
    Raises ValueError where these do not fit, and where the link would never pass a byte again.
    """

    times: tuple[float, ...]
    rates: tuple[float, ...]
    period: float | None = None

    def __post_init__(self) -> None:
        if not self.times or len(self.times) != len(self.rates) or self.times[0] != 0:
            raise ValueError("a trace needs one rate for each time, the first time being 0")
        if any(b <= a for a, b in pairwise(self.times)):
            raise ValueError("the times of a trace must increase")
        if not all(math.isfinite(v) and v >= 0 for v in (*self.times, *self.rates)):
            raise ValueError("times and rates must be finite and not negative")
        if self.period is not None and not self.times[-1] < self.period < math.inf:
            raise ValueError("a trace must start again after its last time")
        if (self.rates[-1] if self.period is None else max(self.rates)) <= 0:
            raise ValueError("the rate must not stay zero for ever")

    @classmethod
    def constant(cls, rate: float) -> "Trace":
        """The same rate at all times, in bytes per second."""
        return cls((0.0,), (rate,))

    @cached_property
    def _passed(self) -> tuple[float, ...]:
        """Bytes up to each of `times`, and to the end of the period where there is one."""
        ends = self.times if self.period is None else (*self.times, self.period)
        spans = [end - start for start, end in pairwise(ends)]
        parts = (rate * span for rate, span in zip(self.rates, spans, strict=False))
        return tuple(accumulate(parts, initial=0.0))

    def rate(self, seconds: float) -> float:
        """Bytes per second at a moment."""
        _, within = self._within(seconds)
        return self.rates[bisect_right(self.times, within) - 1]

    def bytes_until(self, seconds: float) -> float:
        """Bytes that can pass from 0 to `seconds`."""
        turns, within = self._within(seconds)
        i = bisect_right(self.times, within) - 1
        return turns * self._passed[-1] + self._passed[i] + self.rates[i] * (within - self.times[i])

    def time_for(self, start: float, nbytes: float) -> float:
        """The moment at which the last of `nbytes` has passed, the first one leaving at `start`."""
        if nbytes <= 0:
            return start
        target = self.bytes_until(start) + nbytes
        turns = 0.0
        if self.period is not None:
            # Zero bytes into a turn is the end of the turn before: nothing has yet passed in this.
            turns = math.ceil(target / self._passed[-1]) - 1
            target -= turns * self._passed[-1]
        i = min(max(bisect_left(self._passed, target), 1), len(self.times)) - 1
        while self.rates[i] <= 0:  # only where rounding put the target on the edge of an outage
            i = (i + 1) % len(self.rates)
        within = self.times[i] + (target - self._passed[i]) / self.rates[i]
        return max(start, turns * (self.period or 0.0) + within)

    def mean(self) -> float:
        """Bytes per second over one period; of a trace that holds, its last rate."""
        return self.rates[-1] if self.period is None else self._passed[-1] / self.period

    def _within(self, seconds: float) -> tuple[float, float]:
        return (0.0, seconds) if self.period is None else divmod(seconds, self.period)


@dataclass(frozen=True)
class Fading:
    """How a synthetic rate wanders. The model and its numbers are ours; nothing was measured.

    seconds: length; the trace starts again after it. step_s: how long one rate holds.
    spread: standard deviation of the logarithm of the rate.
    coherence_s: time over which that logarithm keeps 1/e of its correlation.
    fade_every_s: mean time between two fades (handovers, shadows); 0 for none.
    fade_s: mean length of a fade. fade_depth: part of the rate that is left in a fade.
    """

    seconds: float
    step_s: float
    spread: float
    coherence_s: float
    fade_every_s: float
    fade_s: float
    fade_depth: float


def synthetic(up: float, down: float, fading: Fading, seed: int) -> tuple[Trace, Trace]:
    """Traces (up, down) around mean rates in bytes per second; the same ones for a seed.

    The logarithm of a rate is an autoregressive process of first order, each direction with its
    own draws; a two-state Markov chain adds the fades, which strike both directions at once.
    """
    steps = max(2, round(fading.seconds / fading.step_s))
    fades = list(_fades(steps, fading, random.Random(f"fades {seed}")))
    made = []
    for name, mean in (("up", up), ("down", down)):
        draws = random.Random(f"{name} {seed}")
        shape = [math.exp(fading.spread * x) for x in _wandering(steps, fading, draws)]
        unit = mean / (sum(shape) / steps)  # so that the mean without fades is the asked one
        rates = [unit * x * fade for x, fade in zip(shape, fades, strict=True)]
        times = tuple(i * fading.step_s for i in range(steps))
        made.append(Trace(times, tuple(rates), steps * fading.step_s))
    return made[0], made[1]


def _wandering(steps: int, fading: Fading, draws: random.Random) -> Iterator[float]:
    """An autoregressive process of first order, of mean 0 and deviation 1, within its limit."""
    kept = math.exp(-fading.step_s / fading.coherence_s)
    fresh = math.sqrt(1 - kept**2)
    value = _normal(draws)
    for _ in range(steps):
        yield max(-LIMIT, min(value, LIMIT))
        value = kept * value + fresh * _normal(draws)


def _normal(draws: random.Random) -> float:
    """From `random()` alone, the one method that draws the same numbers in every Python."""
    return NormalDist().inv_cdf(max(draws.random(), 2**-53))


def _fades(steps: int, fading: Fading, draws: random.Random) -> Iterator[float]:
    enter = min(1.0, fading.step_s / fading.fade_every_s) if fading.fade_every_s > 0 else 0.0
    leave = min(1.0, fading.step_s / fading.fade_s) if fading.fade_s > 0 else 1.0
    faded = False
    for _ in range(steps):
        yield fading.fade_depth if faded else 1.0
        faded = draws.random() >= leave if faded else draws.random() < enter


def read_mahimahi(path: Path) -> Trace:
    """A mahimahi trace: every line is a moment in ms at which 1500 bytes can pass; it repeats.

    Bytes are spread evenly over the time since the moment before, so that the trace passes as
    many bytes up to each listed moment as the file says. Raises DataError with file and line.
    """
    moments: dict[int, int] = {}
    latest = 0
    for number, line in _lines(path):
        if not line.isdecimal():
            raise DataError(f"{path}:{number}: {line!r} is not a whole number of milliseconds")
        if int(line) < latest:
            raise DataError(f"{path}:{number}: {line} ms comes after {latest} ms; sort the file")
        latest = int(line)
        moments[latest] = moments.get(latest, 0) + OPPORTUNITY
    if latest == 0:
        raise DataError(f"{path}: no moment above 0 ms; a mahimahi trace needs one")
    # The start of a turn is the end of the one before, and no time has passed at 0 to spread over.
    moments[latest] += moments.pop(0, 0)
    starts = [0, *moments][:-1]
    ends = zip(starts, moments.items(), strict=True)
    rates = [nbytes / (end - start) * 1e3 for start, (end, nbytes) in ends]
    return Trace(tuple(s / 1e3 for s in starts), tuple(rates), latest / 1e3)


def read_csv(path: Path) -> Trace:
    """Lines of `time,rate` (seconds, Mbit/s), a header allowed: each rate holds until the next.

    The last rate holds for ever. Raises DataError with file and line.
    """
    times: list[float] = []
    rates: list[float] = []
    for number, line in _lines(path):
        fields = [field.strip() for field in line.split(",")]
        if number == 1 and fields == ["time", "rate"]:
            continue
        time, rate = _pair(fields, f"{path}:{number}")
        if not times and time != 0:
            raise DataError(f"{path}:{number}: the first time is {time:g} s; it must be 0")
        if times and time <= times[-1]:
            raise DataError(f"{path}:{number}: {time:g} s does not come after {times[-1]:g} s")
        times.append(time)
        rates.append(rate * MBIT)
    if not times:
        raise DataError(f"{path}: no line of time,rate (seconds, Mbit/s)")
    if rates[-1] == 0:
        raise DataError(f"{path}: the last rate holds for ever and must be above 0")
    return Trace(tuple(times), tuple(rates))


def _pair(fields: Sequence[str], where: str) -> tuple[float, float]:
    try:
        time, rate = map(float, fields)
    except ValueError:
        raise DataError(
            f"{where}: {','.join(fields)!r} is not time,rate (seconds, Mbit/s)"
        ) from None
    if not (0 <= time < math.inf and 0 <= rate < math.inf):
        raise DataError(f"{where}: time and rate must be finite and not negative")
    return time, rate


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not empty. Raises DataError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise DataError(f"the trace {path} cannot be read: {reason}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, line.strip()
