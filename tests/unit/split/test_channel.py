"""core.split.channel: over a link that breaks, every frame arrives once and in order."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from core.errors import PeerError
from core.split.certificates import Security, make
from core.split.channel import Channel, Hello, SessionLost, Stream
from core.split.client import connect
from core.split.server import Expected, Server
from core.split.window import Limits
from core.split.wire import Frame, WireError
from core.split.wire_pb2 import Ack, Dispersion

HELLO = Hello("edge", "digest")
QUICK = Limits(window=4, window_bytes=1 << 22, frame_bytes=1 << 23, patience=10, keepalive=5)


class Proxy:
    """Stands between the sides. `allow(n)`: the connections end after n more bytes."""

    def __init__(self, target: int, rate: float | None = None) -> None:
        """rate: bytes/s in each direction."""
        self.target, self.rate = target, rate
        self.left: int | None = None
        self.cuts = 0
        self._open: list[socket.socket] = []
        self._lock = threading.RLock()  # guards what is above
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def allow(self, nbytes: int | None) -> None:
        with self._lock:
            self.left = nbytes

    def cut(self) -> None:
        with self._lock:
            self.left = None
            self.cuts += bool(self._open)
            for end in self._open:
                _shut(end)
            self._open = []

    def stop(self) -> None:
        self._listening.close()
        self.cut()

    def _listen(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open += [near, far]
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(a, b), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := self._allowed(near, near.recv(16384)):
                if self.rate:
                    time.sleep(len(data) / self.rate)
                far.sendall(data)
                if self.left == 0:
                    self.cut()
        _shut(far, socket.SHUT_WR)

    def _allowed(self, near: socket.socket, data: bytes) -> bytes:
        """What of it may pass. Nothing after a byte was held back: TCP has no holes."""
        with self._lock:
            if near not in self._open:
                return b""
            if self.left is not None:
                data = data[: self.left]
                self.left -= len(data)
            return data


def _shut(end: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    with suppress(OSError):
        end.shutdown(how)


class Observer:
    """Keeps what the channel reports."""

    def __init__(self) -> None:
        self.up: list[tuple[int, float]] = []
        self.down: list[tuple[int, float]] = []
        self.trips: list[float] = []

    def uplink(self, nbytes: int, seconds: float) -> None:
        self.up.append((nbytes, seconds))

    def downlink(self, nbytes: int, seconds: float) -> None:
        self.down.append((nbytes, seconds))

    def round_trip(self, seconds: float) -> None:
        self.trips.append(seconds)


class Pair:
    """Both ends of a channel, with a proxy between."""

    def __init__(
        self, limits: Limits = QUICK, tls: Path | None = None, rate: float | None = None
    ) -> None:
        load = Security.load
        self.server = Server(
            "127.0.0.1:0", load(tls, "cloud") if tls else None, Expected("digest"), limits
        )
        self.proxy = Proxy(self.server.port, rate)
        self.observer = Observer()
        self.edge = connect(
            f"127.0.0.1:{self.proxy.port}",
            load(tls, "edge") if tls else None,
            HELLO,
            self.observer,
            limits,
        )
        self.cloud = self.server.accept(timeout=5)

    def stop(self) -> None:
        self.edge.close(timeout=1)
        self.server.stop()
        self.proxy.stop()


@pytest.fixture
def pairs() -> Iterator[Callable[..., Pair]]:
    made: list[Pair] = []

    def pair(*args: object, **named: object) -> Pair:
        made.append(Pair(*args, **named))  # type: ignore[arg-type]
        return made[-1]

    yield pair
    for one in made:
        one.stop()


def frame(step: int, nbytes: int = 100) -> Frame:
    return Frame("features", step, {"x": np.full(nbytes, step % 251, np.uint8)}, {"n": nbytes})


def soon(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


def test_frames_go_both_ways(pairs) -> None:
    pair = pairs()
    assert (pair.cloud.hello, pair.cloud.start, pair.edge.start) == (HELLO, 0, 0)
    pair.edge.send(frame(1))
    got = pair.cloud.receive(timeout=5)
    assert (got.kind, got.step, got.facts) == ("features", 1, {"n": 100})
    assert got.arrays["x"].tolist() == [1] * 100
    pair.cloud.send(frame(2))
    assert pair.edge.receive(timeout=5).step == 2
    assert soon(pair.edge.idle)
    assert soon(pair.cloud.idle)
    assert [channel.reconnects for channel in (pair.edge, pair.cloud)] == [0, 0]
    # What one side counts as sent, the other counts as received, but for hello and welcome.
    assert soon(lambda: pair.edge.sent_bytes == pair.cloud.received_bytes > 100)
    assert soon(lambda: pair.cloud.sent_bytes == pair.edge.received_bytes > 100)


def send_all(channel: Channel, count: int, seed: int) -> None:
    draw = random.Random(seed)
    for step in range(count):
        channel.send(frame(step, draw.choice([0, 10, 1000, 40_000, 300_000, 2_500_000])))


def receive_all(channel: Channel, count: int) -> list[int]:
    steps = []
    for _ in range(count):
        got = channel.receive(timeout=30)
        assert (got.arrays["x"] == got.step % 251).all()
        assert len(got.arrays["x"]) == got.facts["n"]
        steps.append(got.step)
    return steps


def cross(pair: Pair, count: int, seed: int) -> int:
    """Numbered frames both ways while the link is cut at random moments; how often it was."""
    draw = random.Random(seed)
    with ThreadPoolExecutor(4) as pool:
        for channel in (pair.edge, pair.cloud):
            pool.submit(send_all, channel, count, seed)
        results = [pool.submit(receive_all, c, count) for c in (pair.edge, pair.cloud)]
        while wait(results, 0.05, FIRST_EXCEPTION).not_done:
            if any(result.done() and result.exception() for result in results):
                pair.stop()  # the others need not wait
            elif pair.proxy.left is None:
                pair.proxy.allow(int(10 ** draw.uniform(2, 7.3)))
        pair.proxy.allow(None)
        assert [result.result() for result in results] == [list(range(count))] * 2
    return pair.proxy.cuts


@pytest.mark.parametrize("seed", range(3))
def test_over_a_link_that_breaks_everything_arrives_once_and_in_order(pairs, seed: int) -> None:
    pair = pairs()
    assert cross(pair, 60, seed) >= 2
    assert pair.edge.reconnects >= 1
    assert pair.cloud.reconnects >= 1


def test_the_same_over_tls(pairs, tmp_path: Path) -> None:
    make(tmp_path)
    pair = pairs(tls=tmp_path)
    assert cross(pair, 60, 3) >= 2
    assert pair.edge.reconnects >= 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 20))
def test_the_same_many_times(pairs, seed: int) -> None:
    assert cross(pairs(), 100, seed) >= 2


def test_a_link_cut_in_the_middle_of_a_frame_brings_it_again_whole(pairs) -> None:
    pair = pairs()
    pair.proxy.allow(1_200_000)
    pair.edge.send(frame(1, 2_000_000))
    got = pair.cloud.receive(timeout=10)
    assert pair.proxy.cuts == 1
    assert (got.arrays["x"] == 1).all()
    assert pair.edge.reconnects == 1
    with pytest.raises(TimeoutError):
        pair.cloud.receive(timeout=0.2)


def test_a_reader_that_catches_up_while_frames_are_repeated_gets_what_comes_next() -> None:
    """By hand, over two streams: it makes room for frames that the sender has not repeated yet."""
    limits = Limits(window=2, window_bytes=1 << 20, frame_bytes=1 << 20, patience=30)
    near, far = Channel(HELLO, limits), Channel(HELLO, limits)

    def joined() -> tuple[Callable[[], None], Callable[[], None]]:
        """Over a new stream: carry the next message there, or back."""
        streams = Stream(limits), Stream(limits)
        acknowledged = far.acknowledged, near.acknowledged
        ways = []
        for channel, stream, known in zip((near, far), streams, acknowledged, strict=True):
            channel.attach(stream, known, limits.message())
            ways.append(channel.outgoing(stream))
        return (
            lambda: far.incoming(streams[1], next(ways[0])),
            lambda: near.incoming(streams[0], next(ways[1])),
        )

    there, back = joined()
    for steps in ((1, 2), (3, 4)):
        for step in steps:
            near.send(frame(step))
            there()
        back()  # of the first two; the others wait for room
    there, back = joined()
    there()  # the third once more
    assert [far.receive(timeout=1).step for _ in range(4)] == [1, 2, 3, 4]
    back()
    near.send(frame(5))
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(there)
        try:
            sent.result(timeout=5)
            assert far.receive(timeout=1).step == 5
        finally:
            near.fail(PeerError("the test is over"))
            far.fail(PeerError("the test is over"))


@pytest.mark.parametrize("seconds", [0.0, 1e-300, float("inf"), float("nan")])
def test_a_report_of_a_link_that_cannot_be_is_refused(seconds: float) -> None:
    report = Dispersion(bytes=1 << 63, seconds=seconds)
    channel = Channel(HELLO, observer=Observer())
    with pytest.raises(WireError, match=r"9223372036854775808 bytes came in .* s"):
        channel._on_ack(Ack(acknowledged=0, dispersions=[report]))


def test_send_blocks_while_the_window_is_full(pairs) -> None:
    pair = pairs()
    pair.proxy.target = 1  # nobody listens there: nothing is acknowledged
    pair.proxy.cut()
    for step in range(QUICK.window):
        pair.edge.send(frame(step))
    with ThreadPoolExecutor(1) as pool:
        one_more = pool.submit(pair.edge.send, frame(9))
        with pytest.raises(FutureTimeout):
            one_more.result(timeout=0.3)
        assert not pair.edge.idle()
        pair.proxy.target = pair.server.port
        one_more.result(timeout=5)
    assert [pair.cloud.receive(timeout=5).step for _ in range(5)] == [0, 1, 2, 3, 9]


def test_send_blocks_when_the_other_side_does_not_read_and_goes_on_when_it_does(pairs) -> None:
    pair = pairs()
    count, sent = 30, []

    def send() -> None:
        for step in range(count):
            pair.edge.send(frame(step, 1_500_000))
            sent.append(step)

    thread = threading.Thread(target=send)
    thread.start()
    thread.join(1.5)
    # 4 MiB hold 2 of them, and as many may wait without an acknowledgement.
    assert len(sent) == 4
    assert receive_all(pair.cloud, count) == list(range(count))
    thread.join(5)
    assert not thread.is_alive()


def test_a_frame_larger_than_the_window_goes_alone_and_one_over_the_limit_is_not_sent(pairs):
    pair = pairs()
    pair.edge.send(frame(1, QUICK.window_bytes + 1))
    assert pair.cloud.receive(timeout=5).step == 1
    with pytest.raises(WireError, match=r"at most 8388608 are allowed|has the shape"):
        pair.edge.send(frame(2, QUICK.frame_bytes + 1))
    pair.edge.send(frame(3))
    assert pair.cloud.receive(timeout=5).step == 3


def test_the_smaller_limits_of_both_sides_hold() -> None:
    small = Limits(window=1, window_bytes=100, frame_bytes=1000, patience=5)
    server = Server("127.0.0.1:0", None, Expected("digest"), small)
    edge = connect(f"127.0.0.1:{server.port}", None, HELLO, limits=QUICK)
    with pytest.raises(WireError, match="has the shape"):
        edge.send(frame(1, 1001))
    edge.close()
    server.stop()


def test_a_ping_is_measured_on_an_idle_link_only(pairs) -> None:
    pair = pairs(rate=2e6)
    pair.edge.ping()
    assert soon(lambda: len(pair.observer.trips) == 1)
    assert 0 < pair.observer.trips[0] < 1
    pair.edge.send(frame(1, 400_000))
    pair.edge.ping()  # not idle
    assert pair.cloud.receive(timeout=5).step == 1
    assert soon(pair.edge.idle)
    pair.edge.ping()
    pair.edge.send(frame(2, 400_000))  # while the ping is under way
    assert pair.cloud.receive(timeout=5).step == 2
    time.sleep(0.1)
    assert len(pair.observer.trips) == 1
    assert soon(pair.edge.idle)
    pair.edge.ping()
    assert soon(lambda: len(pair.observer.trips) == 2)


def test_the_edge_learns_how_frames_arrived_on_both_ways(pairs) -> None:
    rate = 2e6
    pair = pairs(rate=rate)
    pair.edge.send(frame(1, 1_000_000))
    pair.cloud.receive(timeout=5)
    pair.cloud.send(frame(2, 600_000))
    pair.edge.receive(timeout=5)
    assert soon(lambda: bool(pair.observer.up and pair.observer.down))
    for size, [(nbytes, seconds)] in (
        (1_000_000, pair.observer.up),
        (600_000, pair.observer.down),
    ):
        assert size * 7 / 8 < nbytes < size * 7 / 8 + 1000
        assert 0.6 * rate < nbytes / seconds < 1.3 * rate


def test_small_frames_say_nothing_about_the_rate(pairs) -> None:
    pair = pairs()
    pair.edge.send(frame(1, 10_000))
    pair.cloud.receive(timeout=5)
    assert soon(pair.edge.idle)
    assert pair.observer.up == []


def test_receive_returns_at_once_or_in_time_when_nothing_is_there(pairs) -> None:
    pair = pairs()
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="no frame came within 0 s"):
        pair.edge.receive(timeout=0)
    with pytest.raises(TimeoutError):
        pair.edge.receive(timeout=0.2)
    assert 0.2 <= time.monotonic() - start < 2


@pytest.mark.parametrize(("closing", "other"), [("edge", "cloud"), ("cloud", "edge")])
def test_after_an_end_in_good_order_what_was_sent_is_received_first(pairs, closing, other):
    pair = pairs()
    ends = {"edge": pair.edge, "cloud": pair.cloud}
    for step in range(3):
        ends[closing].send(frame(step, 500_000))
    ends[closing].close()
    assert receive_all(ends[other], 3) == [0, 1, 2]
    with pytest.raises(SessionLost, match="the other side ended the session"):
        ends[other].receive(timeout=5)
    with pytest.raises(PeerError, match="this side ended the session"):
        ends[closing].receive()
    with pytest.raises(PeerError, match="ended the session"):
        ends[other].send(frame(4))


def test_two_threads_may_send_while_another_receives(pairs) -> None:
    pair = pairs()
    with ThreadPoolExecutor(3) as pool:
        for first in (0, 1):
            steps = range(first, 200, 2)
            pool.submit(lambda steps=steps: [pair.edge.send(frame(s, 5000)) for s in steps])
        steps = [pair.cloud.receive(timeout=5).step for _ in range(200)]
    assert sorted(steps) == list(range(200))
    assert [s for s in steps if s % 2] == list(range(1, 200, 2))
