"""Energy from readings at moments: the trapezoid rule, or differences of a counter."""

from dataclasses import dataclass

from core.measure.meter import Reading

LEAST_GAP_S = 5.0  # that power readings may always lie apart
NOTHING = Reading()
COUNTER_GAP_S = 60.0  # that readings of a counter may: it wraps around at most once in a minute


@dataclass
class Integral:
    """Joules so far, and the seconds in which they were measured. Both only grow.

    Power is a straight line between two readings that lie at most `gap_s` apart; beyond that
    nobody knows what it was, and that time is not covered, unless the meter counted meanwhile.
    """

    gap_s: float
    joules: float = 0.0
    covered_s: float = 0.0
    _at: float | None = None
    _last: Reading = NOTHING
    _power: float | None = None

    def add(self, at: float, reading: Reading) -> float | None:
        """Take a reading of a moment, in seconds of a clock that never goes back. Returns the mean
        power since the one before, W; None where it is not known."""
        before, since = self._last, self._at
        if since is not None and at <= since:
            return None
        self._at, self._last, self._power = at, reading, reading.watts
        energy = None if since is None else self._energy(before, reading, at - since)
        if since is not None and energy is not None:
            self.joules += energy
            self.covered_s += at - since
            self._power = energy / (at - since)
        return self._power

    def so_far(self, at: float) -> tuple[float, float]:
        """Joules and covered seconds up to a moment after the last reading, as if the power had
        stayed since, for `gap_s` at most. They stay as they are."""
        if self._at is None or self._power is None:
            return self.joules, self.covered_s
        since = min(max(at - self._at, 0.0), self.gap_s)
        return self.joules + self._power * since, self.covered_s + since

    def _energy(self, before: Reading, now: Reading, seconds: float) -> float | None:
        if before.watts is not None and now.watts is not None and seconds <= self.gap_s:
            return seconds * (before.watts + now.watts) / 2
        if before.joules is None or now.joules is None or now.joules < before.joules:
            return None  # (a plug that was reset counts from zero again)
        if now.watts is None and seconds > COUNTER_GAP_S:
            return None
        return now.joules - before.joules
