"""How long to wait before trying again."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Seconds. first: before the second attempt; each wait is `factor` times the one before, up to
    `longest`; together no more than `patience`."""

    first: float = 0.5
    factor: float = 2.0
    longest: float = 15.0
    patience: float = 600.0

    def waits(self) -> Iterator[float]:
        """Each wait; it ends when patience does."""
        wait, left = self.first, self.patience
        while left > 0:
            now = min(wait, self.longest, left)
            yield now
            left -= now
            wait *= self.factor
