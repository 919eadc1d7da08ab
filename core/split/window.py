"""What is on the way between two sides: frames kept until acknowledged, and those that arrived.

Plain bookkeeping without threads or time; `core.split.channel` guards it with its lock.
"""

from collections import deque
from dataclasses import dataclass

from core.split.wire import Arrival, Frame, WireError
from core.split.wire_pb2 import Head
from core.split.wire_pb2 import Limits as LimitsMessage


@dataclass(frozen=True)
class Limits:
    """What one side takes; each keeps within its own and the other's.

    window, window_bytes: frames and bytes that are sent and not yet acknowledged; one frame of
        any size passes alone.
    frame_bytes: of the arrays of one frame.
    patience: seconds that the other side may stay away.
    keepalive: seconds of silence after which the other side is asked for a sign of life. After
        three times as long the connection is given up.
    """

    window: int = 32
    window_bytes: int = 256 << 20
    frame_bytes: int = 512 << 20
    patience: float = 600.0
    keepalive: float = 30.0

    def message(self) -> LimitsMessage:
        """What the other side must know."""
        return LimitsMessage(
            window=self.window, window_bytes=self.window_bytes, frame_bytes=self.frame_bytes
        )

    def within(self, peer: LimitsMessage) -> "Limits":
        """The smaller ones of both sides, for sending. Raises WireError for none at all."""
        window = min(self.window, peer.window)
        window_bytes = min(self.window_bytes, peer.window_bytes)
        frame_bytes = min(self.frame_bytes, peer.frame_bytes)
        if not (window and window_bytes and frame_bytes):
            raise WireError("the other side takes no frames at all")
        return Limits(window, window_bytes, frame_bytes, self.patience, self.keepalive)


class Outbox:
    """Frames that were queued and not yet acknowledged, numbered from 1."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Head, Frame]] = {}
        self._nbytes = 0
        self._queued = self._begun = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Of the arrays of all frames here."""
        return self._nbytes

    @property
    def acknowledged(self) -> int:
        """Sequence of the last frame that need not be sent again."""
        return self._queued - len(self._kept)

    def fits(self, nbytes: int, limits: Limits) -> bool:
        """Whether one more frame of that size may be queued."""
        room = len(self._kept) < limits.window and self._nbytes + nbytes <= limits.window_bytes
        return room or not self._kept

    def add(self, head: Head, frame: Frame) -> None:
        """Queue a frame."""
        self._queued += 1
        self._kept[self._queued] = head, frame
        self._nbytes += frame.nbytes

    def begin(self, sequence: int) -> tuple[Head, Frame] | None:
        """The frame of that number, to be sent now; None when it is not there yet."""
        kept = self._kept.get(sequence)
        if kept:
            self._begun = max(self._begun, sequence)
        return kept

    def acknowledge(self, sequence: int) -> None:
        """Frames up to that number arrived. Raises WireError for one that was never sent."""
        if sequence > self._begun:
            raise WireError(f"frame {sequence} is acknowledged before it was sent")
        for arrived in range(self.acknowledged + 1, sequence + 1):
            self._nbytes -= self._kept.pop(arrived)[1].nbytes


class Inbox:
    """Frames that arrived and that nobody took yet.

    They are acknowledged on arrival as long as there is room for the window once more, the others
    when room is made: so a side that does not read its frames stops the other one, and holds no
    more than two windows and a frame.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.acknowledged = 0
        self._received = self._taken = 0
        self._frames: deque[Frame] = deque()  # taken + 1 … received

    def __len__(self) -> int:
        return len(self._frames)

    def expects(self, sequence: int, begins: bool) -> bool:
        """Whether a chunk is of the next frame; False for one of a frame that is here already.

        Raises WireError when a frame is missing, or begins without room for it in the window.
        """
        if sequence > self._received + 1:
            raise WireError(f"frame {sequence} comes after frame {self._received}")
        if sequence <= self._received:
            return False
        waiting = self._received - self.acknowledged
        full = waiting >= self.limits.window or self._bytes(waiting) > self.limits.window_bytes
        if begins and waiting and full:
            raise WireError(f"frame {sequence} comes while {waiting} are not acknowledged")
        return True

    def add(self, arrival: Arrival) -> None:
        """The next frame is whole."""
        self._received += 1
        self._frames.append(arrival.frame)
        self._advance()

    def take(self) -> tuple[Frame, bool]:
        """The oldest frame, and whether there is more to acknowledge now."""
        self._taken += 1
        frame = self._frames.popleft()
        before = self.acknowledged
        self.acknowledged = max(before, self._taken)
        self._advance()
        return frame, self.acknowledged > before

    def _advance(self) -> None:
        while self.acknowledged < self._received:
            held = self.acknowledged - self._taken  # acknowledged and not taken
            nbytes = sum(self._frames[i].nbytes for i in range(held + 1))
            fits = held < self.limits.window and nbytes <= self.limits.window_bytes
            if held and not fits:
                return
            self.acknowledged += 1

    def _bytes(self, last: int) -> int:
        return sum(self._frames[-1 - i].nbytes for i in range(last))
