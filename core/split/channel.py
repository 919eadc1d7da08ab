"""An ordered channel over streams that may break: every frame arrives once, in order.

The same on both sides. Frames are numbered in each direction and kept until the other side has
acknowledged them; after a broken stream they are sent again, and what comes twice is dropped.
`core.split.client.connect` makes the edge's end, `core.split.server.Server.accept` the cloud's.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from core.errors import PeerError
from core.split import wire
from core.split.window import Inbox, Limits, Outbox
from core.split.wire import Assembler, Frame
from core.split.wire_pb2 import Ack, Chunk, Dispersion, Message
from core.split.wire_pb2 import Limits as LimitsMessage

log = logging.getLogger(__name__)

VERSION = 1  # of the protocol; both sides must have the same
METHOD = "/core.split.Split/Stream"
DEFAULT = Limits()
SLOWEST = 1e5  # bytes/s: what is on the way may fill the buffers of a link that slow
TICK = 1e-9  # seconds: no clock tells less apart
REPORTED = 64  # dispersions that wait for the next acknowledgement at most


class SessionLost(PeerError):  # noqa: N818
    """The other side ended the session or forgot it: go back to a snapshot, open another one."""


class LinkObserver(Protocol):
    """What one end reports about the link; called from its reader thread. Up is what it sends."""

    def uplink(self, nbytes: int, seconds: float) -> None:
        """Bytes after the first chunk of a frame, and the time from its first to its last."""

    def downlink(self, nbytes: int, seconds: float) -> None:
        """The same of a frame that came down."""

    def round_trip(self, seconds: float) -> None:
        """Of a ping while nothing else was under way."""


@dataclass(frozen=True)
class Hello:
    """Who calls. digest: of the run spec. party: as in its certificate. snapshots: steps that it
    could go on from."""

    party: str
    digest: str
    snapshots: tuple[int, ...] = ()


class Stream:
    """One connection in the life of a channel."""

    def __init__(self, limits: Limits) -> None:
        self.assembler = Assembler(limits.frame_bytes)
        self.cancel: Callable[[], object] = lambda: None  # ends it from this side
        self.sent = 0  # sequence of the last frame that was begun on it
        self.over = False


class Channel:
    """One end. `hello`: the edge's. `start`: the step that both go on from, as the cloud chose.

    Any thread may call any method. Every method that waits raises PeerError once the other side
    has stayed away for longer than `limits.patience` seconds, and SessionLost once it has ended
    the session or forgotten it; frames that had arrived before are received first.
    As a context manager it closes at the end.

    sent_bytes, received_bytes: messages as handed to gRPC, headers and repeats included.
    reconnects: streams after the first one.
    """

    def __init__(
        self,
        hello: Hello,
        limits: Limits = DEFAULT,
        observer: LinkObserver | None = None,
        start: int = 0,
    ) -> None:
        """Without a stream: use `connect` or `Server.accept`."""
        self.hello, self.limits, self.start = hello, limits, start
        self.sent_bytes = self.received_bytes = 0
        self.reconnects = -1
        self.failure: PeerError | None = None  # why the session is over
        self.heard = 0.0  # when the last message came, by time.monotonic
        self._observer = observer
        self._changed = threading.Condition()  # guards what is above and below
        self._stream: Stream | None = None
        self._sending = limits
        self._outbox, self._inbox = Outbox(), Inbox(limits)
        self._ack_due = False
        self._dispersions: deque[Dispersion] = deque(maxlen=REPORTED)
        self._ping_due, self._pong_due = False, 0
        self._ping, self._ping_sent = 0, 0.0  # the last one: number, when it went out
        self._quiet = False  # no frame was queued or came since then
        self._moved = 0.0  # when a chunk went out
        self._closing = False

    def __enter__(self) -> "Channel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def observe(self, observer: LinkObserver) -> None:
        """Report about the link from now on."""
        self._observer = observer

    def send(self, frame: Frame) -> None:
        """Queue a frame; blocks while the window is full.

        Its arrays must not change until the other side has it (`idle`, or an answer to it,
        tells). Raises ValueError for a frame that breaks a limit.
        """
        head = wire.head_of(frame, self._sending.frame_bytes)
        with self._changed:
            self._wait(lambda: not self.failure and self._outbox.fits(frame.nbytes, self._sending))
            self._outbox.add(head, frame)
            self._quiet = False
            self._changed.notify_all()

    def receive(self, timeout: float | None = None) -> Frame:
        """The next frame. Raises TimeoutError when none came within `timeout` seconds (0: now)."""
        with self._changed:
            self._wait(lambda: len(self._inbox) > 0, timeout)
            frame, more = self._inbox.take()
            if more:
                self._ack_due = True
                self._changed.notify_all()
            return frame

    def idle(self) -> bool:
        """Nothing of ours waits for an acknowledgement, nothing of theirs is half received."""
        with self._changed:
            return not self._outbox and not (self._stream and self._stream.assembler.busy)

    def ping(self, urgent: bool = False) -> None:
        """Measure a round trip; the observer gets the result if nothing else was under way.

        urgent: ask even when it would measure nothing, to see whether the other side is there.
        """
        with self._changed:
            if urgent or self.idle():
                self._ping_due = True
                self._changed.notify_all()

    def close(self, timeout: float = 10.0) -> None:
        """End the session in good order: what is queued still goes out, for `timeout` seconds at
        most. The other side's `receive` then raises SessionLost."""
        deadline = time.monotonic() + timeout
        with self._changed:
            if not self._changed.wait_for(lambda: not self._outbox or self.failure, timeout):
                log.warning("%d frames did not arrive before the end", len(self._outbox))
            self._closing = True
            self._changed.notify_all()
            left = max(0.0, deadline - time.monotonic())
            self._changed.wait_for(lambda: self._stream is None, left)
        self.fail(PeerError("this side ended the session"))

    def _wait(self, ready: Callable[[], bool], timeout: float | None = None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not ready():
            if self.failure:
                raise self.failure
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"no frame came within {timeout} s")
            self._changed.wait(left)

    # For the two ends, which bring streams.

    @property
    def alive(self) -> bool:
        """There is a stream."""
        return self._stream is not None

    @property
    def acknowledged(self) -> int:
        """Sequence up to which the other side need not send again."""
        return self._inbox.acknowledged

    def attach(self, stream: Stream, acknowledged: int, peer: LimitsMessage) -> None:
        """Go on over a new stream, from what the other side has acknowledged; the old one ends.

        Raises WireError when that cannot be, PeerError when the session is over.
        """
        with self._changed:
            if self.failure:
                raise self.failure
            self._outbox.acknowledge(acknowledged)
            self._sending = self.limits.within(peer)
            if self._stream:
                self._stream.over = True
            stream.sent = self._outbox.acknowledged
            self._stream = stream
            self.reconnects += 1
            self.heard = self._moved = time.monotonic()
            if not self.reconnects:
                threading.Thread(target=self._watch, name="split-watch", daemon=True).start()
            self._ping_due, self._pong_due, self._quiet = False, 0, False
            self._changed.notify_all()

    def detach(self, stream: Stream) -> bool:
        """The stream is over. Whether the session goes on and has no other one yet."""
        with self._changed:
            stream.over = True
            last = self._stream is stream
            if last:
                self._stream = None
            self._changed.notify_all()
            return last and self.failure is None and not self._closing

    def fail(self, error: PeerError) -> None:
        """The session is over; whoever waits gets the error. The first one counts."""
        with self._changed:
            self.failure = self.failure or error
            stream = self._stream
            if stream:
                self.detach(stream)
            self._changed.notify_all()
        if stream:
            stream.cancel()

    def wait_over(self, timeout: float | None = None) -> bool:
        """Whether the session is over; waits for that."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closing or bool(self.failure), timeout)

    def wait_attached(self) -> None:
        """Until there was a stream. Raises PeerError when there will be none."""
        with self._changed:
            self._wait(lambda: self.reconnects >= 0)

    def outgoing(self, stream: Stream) -> Iterator[bytes]:
        """The messages to send on a stream, as they become ready, until it is over."""
        with self._changed:
            self._changed.wait_for(lambda: stream is self._stream or stream.over)
        chunks: Iterator[bytes] = iter(())
        while not stream.over:
            message = self._control(stream)
            data = wire.pack(message) if message else next(chunks, None)
            if data is None:
                chunks = self._begin(stream)
                continue
            with self._changed:
                self.sent_bytes += len(data)
                if not message:
                    self._moved = time.monotonic()
            yield data

    def _watch(self) -> None:
        """Keep-alive, from a thread of its own.

        HTTP/2 has one, which takes a slow link for a dead one when much is under way.
        """
        patience = self.limits.keepalive
        while not self.wait_over(patience / 4):
            with self._changed:
                silent = time.monotonic() - max(self.heard, self._moved)
                stream, on_the_way = self._stream, self._outbox.nbytes
            if stream is None or silent < patience:
                continue
            if silent < 3 * patience + on_the_way / SLOWEST:
                self.ping(urgent=True)
            else:
                log.warning("no sign of life for %.0f s: the connection is given up", silent)
                stream.cancel()

    def _begin(self, stream: Stream) -> Iterator[bytes]:
        """Waits for something to send; the chunks of the next frame, if it is one."""
        with self._changed:
            while not (stream.over or self._control_due()):
                # A side that made room while frames were repeated needs the rest of them no more.
                stream.sent = max(stream.sent, self._outbox.acknowledged)
                kept = self._outbox.begin(stream.sent + 1)
                if kept:
                    stream.sent += 1
                    return wire.chunks(*kept, stream.sent)
                self._changed.wait()
            return iter(())

    def _control_due(self) -> bool:
        return bool(self._ack_due or self._ping_due or self._pong_due or self._closing)

    def _control(self, stream: Stream) -> Message | None:
        """A message that goes before the next chunk."""
        with self._changed:
            if stream.over:
                return None
            if self._ack_due:
                ack = Ack(acknowledged=self._inbox.acknowledged, dispersions=self._dispersions)
                self._ack_due = False
                self._dispersions.clear()
                return Message(ack=ack)
            if self._pong_due:
                pong, self._pong_due = self._pong_due, 0
                return Message(pong=pong)
            if self._ping_due:
                self._ping_due, self._quiet = False, self.idle()
                self._ping, self._ping_sent = self._ping + 1, time.perf_counter()
                return Message(ping=self._ping)
            if self._closing:
                stream.over = True
                return Message(bye=True)
            return None

    def incoming(self, stream: Stream, data: bytes) -> None:
        """Take in a message that came on a stream. Raises WireError."""
        message, body = wire.unpack(data)
        with self._changed:
            if stream is not self._stream:
                return
            self.received_bytes += len(data)
            self.heard = time.monotonic()
        what = message.WhichOneof("what")
        if what == "chunk":
            self._on_chunk(stream, message.chunk, body, len(data))
        elif what == "ack":
            self._on_ack(message.ack)
        elif what == "ping":
            with self._changed:
                self._pong_due = message.ping
                self._changed.notify_all()
        elif what == "pong":
            self._on_pong(message.pong)
        elif what == "bye":
            self.fail(SessionLost("the other side ended the session"))
        else:
            raise wire.WireError(f"a message {what or 'of an unknown kind'} inside a session")

    def _on_chunk(self, stream: Stream, chunk: Chunk, body: memoryview, size: int) -> None:
        with self._changed:
            self._quiet = False
            if not self._inbox.expects(chunk.sequence, chunk.HasField("head")):
                return  # sent again because we had not acknowledged it yet
        arrival = stream.assembler.add(chunk, body, size)
        if arrival is None:
            return
        with self._changed:
            if stream is not self._stream:
                return  # its successor brings the frame again
            self._inbox.add(arrival)
            measured = arrival.later > 0 and arrival.seconds > 0
            if measured:
                self._dispersions.append(Dispersion(bytes=arrival.later, seconds=arrival.seconds))
            self._ack_due = True
            self._changed.notify_all()
        if self._observer and measured:
            self._observer.downlink(arrival.later, arrival.seconds)

    def _on_ack(self, ack: Ack) -> None:
        with self._changed:
            self._outbox.acknowledge(ack.acknowledged)
            self._changed.notify_all()
        for dispersion in ack.dispersions:
            if not (dispersion.bytes and TICK <= dispersion.seconds < math.inf):
                raise wire.WireError(f"{dispersion.bytes} bytes came in {dispersion.seconds} s")
            if self._observer:
                self._observer.uplink(dispersion.bytes, dispersion.seconds)

    def _on_pong(self, number: int) -> None:
        seconds = time.perf_counter() - self._ping_sent
        with self._changed:
            measured, self._quiet = self._quiet and number == self._ping, False
        if measured and self._observer:
            self._observer.round_trip(seconds)
