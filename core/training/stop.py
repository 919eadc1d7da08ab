"""Stopping between two steps: a signal asks, the loop answers with a snapshot."""

import signal
from types import FrameType, TracebackType

# Ctrl-C, `kill`, and a terminal or SSH connection that closes.
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """While active, each of ASKING sets `signal`; a second one ends the process at once. But for
    that of a terminal, which comes twice when one closes: from the shell and from the kernel."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __enter__(self) -> "Stop":
        self._before = {s: signal.signal(s, self._ask) for s in ASKING}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.signal == number == signal.SIGHUP:
            return
        if self.signal is not None:
            raise SystemExit(128 + number)
        self.signal = number
