"""One direction of an emulated link: delay, then a token bucket that all connections share.

Bytes that were read wait their delay and jitter, in order, and then leave one after the other in
small pieces at the rate of the trace. What may wait is bounded by the product of rate and delay and
a little more; then nothing is read, and the sender feels it as on a real link.
"""

import asyncio
import math
import random
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from core.split.contexts import Way
from core.split.traces import MBIT, Trace

PIECE_S = 0.001  # of the rate, in a piece: what leaves at once
PIECE = 1448  # bytes at least: what a packet carries
CATCH_UP_S = 0.008  # how far pieces that leave late (a busy processor) may catch up
ROOM_S = 0.03  # of the rate, that may wait beside what is on its way
ROOM = 16 << 10  # bytes that may wait at least
READ = 256 << 10  # bytes at once at most
SPAN_S = 0.02  # shorter busy times say more about the clock than about the rate


@dataclass
class Block:
    """Bytes that were read together. `due`: when their delay is over. Empty: the end."""

    data: memoryview
    arrived: float
    due: float
    idle: bool  # found the lane idle, so that its delay can be measured


class Flow:
    """One direction of one connection."""

    def __init__(
        self,
        lane: "Lane",
        source: socket.socket,
        sink: socket.socket,
        on_end: Callable[[], None],
        on_break: Callable[[], None],
    ) -> None:
        self.lane, self.source, self.sink = lane, source, sink
        self.on_end, self.on_break = on_end, on_break
        self.blocks: deque[Block] = deque()
        self.queued = 0
        self.owed = memoryview(b"")  # has left the lane, and the receiver does not take it yet
        self._loop = lane.loop
        self._reading = self._closed = False
        lane.flows.append(self)
        self.resume()

    def resume(self) -> None:
        """Read again, once there is room."""
        if not (self._reading or self._closed) and self.queued <= self.lane.room()[1]:
            self._reading = True
            self._loop.add_reader(self.source, self._read)

    def close(self) -> None:
        """Forget what waits."""
        self._closed = True
        self._pause()
        self._loop.remove_writer(self.sink)
        self.blocks.clear()
        self.lane.forget(self)

    def put(self, data: memoryview) -> None:
        """Hand bytes to the receiver; what it does not take stays owed."""
        try:
            sent = self.sink.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.on_break()
            return
        self.owed = data[sent:]
        if self.owed:
            self._loop.add_writer(self.sink, self._go_on)

    def end(self) -> None:
        """Tell the receiver that no more will come."""
        with suppress(OSError):
            self.sink.shutdown(socket.SHUT_WR)
        self._closed = True
        self.lane.forget(self)
        self.on_end()

    def _go_on(self) -> None:
        self._loop.remove_writer(self.sink)
        self.put(self.owed)
        if not self.owed:
            self.lane.pump()

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self.source)

    def _read(self) -> None:
        room, _ = self.lane.room()
        try:
            data = self.source.recv(max(PIECE, min(READ, room - self.queued)))
        except BlockingIOError:
            return
        except OSError:
            self.on_break()
            return
        self.queued += len(data)
        if not data or self.queued >= room:
            self._pause()
        self.lane.arrived(self, data)


@dataclass
class Given:
    """What a lane gave, over busy times of SPAN_S and more: first piece to last piece of each."""

    nbytes: int = 0  # all of them
    busy_s: float = 0.0
    busy_bytes: int = 0
    asked_bytes: float = 0.0
    delayed: int = 0  # blocks that found the lane idle, and their delays in seconds
    delays_s: float = 0.0
    shortest_s: float = math.inf
    longest_s: float = 0.0
    _first: float | None = None
    _last: float = 0.0
    _bytes: int = 0

    def piece(self, nbytes: int, now: float) -> None:
        self.nbytes += nbytes
        if self._first is None:
            self._first, self._bytes = now, 0
        else:
            self._bytes += nbytes
        self._last = now

    def delay(self, seconds: float) -> None:
        self.delayed += 1
        self.delays_s += seconds
        self.shortest_s = min(self.shortest_s, seconds)
        self.longest_s = max(self.longest_s, seconds)

    def pause(self, trace: Trace, origin: float) -> None:
        """The lane has nothing to pass, or another rate from now on. origin: see `Lane`."""
        if self._first is not None and self._last - self._first >= SPAN_S:
            self.busy_s += self._last - self._first
            self.busy_bytes += self._bytes
            start, end = (trace.bytes_until(t - origin) for t in (self._first, self._last))
            self.asked_bytes += end - start
        self._first = None

    def report(self, way: Way) -> dict[str, Any]:
        """Rates in Mbit/s, delays in ms; None where there was too little to measure."""

        def rate(nbytes: float) -> float | None:
            return round(nbytes / self.busy_s / MBIT, 4) if self.busy_s else None

        delays = (self.shortest_s, self.delays_s / max(1, self.delayed), self.longest_s)
        asked = (way.delay_ms, way.delay_ms + way.jitter_ms / 2, way.delay_ms + way.jitter_ms)
        names = ("least", "mean", "most")
        given = {name: round(1e3 * d, 3) for name, d in zip(names, delays, strict=True)}
        return {
            "bytes": self.nbytes,
            "busy_s": round(self.busy_s, 4),
            "asked_mbit": rate(self.asked_bytes),
            "given_mbit": rate(self.busy_bytes),
            "asked_delay_ms": dict(zip(names, asked, strict=True)),
            "given_delay_ms": given if self.delayed else None,
        }


class Lane:
    """The shaper of one direction. `origin` is the moment of the link's first byte."""

    def __init__(self, loop: asyncio.AbstractEventLoop, way: Way, trace: Trace, seed: str) -> None:
        self.loop, self.way, self.trace = loop, way, trace
        self.origin: float | None = None
        self.on_first: Callable[[float], None] = lambda now: None
        self.flows: list[Flow] = []
        self.given = Given()
        self._draws = random.Random(seed)
        self._due = 0.0  # of the latest block: nothing overtakes it
        self._free = 0.0  # when the bucket has passed what it was given
        self._stalled = 0.0  # until when nothing passes
        self._serving: tuple[Flow, int, float] | None = None  # flow, bytes, when they have passed
        self._timer: asyncio.TimerHandle | None = None

    def room(self) -> tuple[int, int]:
        """Bytes of one connection that may wait (on their way, and a little more), and to how
        many they must have fallen for more to be read."""
        rate = self.trace.rate(self._since(self.loop.time()))
        way = rate * (self.way.delay_ms + self.way.jitter_ms) / 1e3
        more = max(ROOM, rate * ROOM_S)
        return int(way + more), int(way + more / 2)

    def arrived(self, flow: Flow, data: bytes) -> None:
        """Take bytes that were read; none stand for the end of the flow."""
        now = self.loop.time()
        if self.origin is None:
            self.on_first(now)
        idle = self._serving is None and not any(f.blocks for f in self.flows)
        delay = self.way.delay_ms + self.way.jitter_ms * self._draws.random()
        self._due = max(self._due, now + delay / 1e3)
        flow.blocks.append(Block(memoryview(data), now, self._due, idle))
        if self._serving is None:
            self.pump()

    def pump(self) -> None:
        """Pass what is due, and come back when the next piece is."""
        while True:
            now = self.loop.time()
            at = self._stalled if self._stalled > now else self._next(now)
            if at is None or at > now:
                self._wake(at)
                return
            self._pass(now)

    def stall(self, until: float) -> None:
        """Let nothing pass until a moment of the loop's clock."""
        self._change()
        self._stalled = max(self._stalled, until)
        self.pump()

    def set_rate(self, rate: float) -> None:
        """Pass `rate` bytes per second from now on."""
        self._change()
        self.trace = Trace.constant(rate)
        self.pump()

    def forget(self, flow: Flow) -> None:
        """Drop a flow that has ended or is broken; the others go on."""
        if flow in self.flows:
            self.flows.remove(flow)
        if self._serving and self._serving[0] is flow:
            self._serving = None
            self.pump()

    def report(self) -> dict[str, Any]:
        self._pause()
        return self.given.report(self.way)

    def _change(self) -> None:
        """What is being passed was timed for what no longer holds: time it again from now."""
        self._pause()
        self._serving = None
        self._free = min(self._free, self.loop.time())
        for flow in self.flows:
            for block in flow.blocks:
                block.idle = False

    def _since(self, moment: float) -> float:
        """Seconds since the first byte."""
        return 0.0 if self.origin is None else max(0.0, moment - self.origin)

    def _time_for(self, start: float, nbytes: int) -> float:
        """Seconds that bytes take from a moment on."""
        since = self._since(start)
        return self.trace.time_for(since, nbytes) - since

    def _pause(self) -> None:
        self.given.pause(self.trace, self.origin or 0.0)

    def _next(self, now: float) -> float | None:
        """When the next thing happens: a piece has passed, or a block becomes due."""
        if self._serving is not None:
            return self._serving[2]
        ready = [f for f in self.flows if f.blocks and not f.owed]
        if not ready:
            self._pause()
            return None
        flow = min(ready, key=lambda f: f.blocks[0].due)
        block = flow.blocks[0]
        if block.due > now:
            return block.due
        if block.due > self._free:
            self._pause()
        start = max(self._free, block.due, self._stalled, now - CATCH_UP_S)
        usual = self.trace.rate(self._since(start)) * PIECE_S
        piece = min(len(block.data), max(PIECE, int(usual)))
        passed = start + self._time_for(start, piece)
        self._serving = flow, piece, passed
        return passed

    def _pass(self, now: float) -> None:
        """Hand over the piece that has passed, and charge the bucket for it."""
        if self._serving is None:
            return
        flow, piece, passed = self._serving
        self._serving = None
        block = flow.blocks[0]
        if not block.data:
            flow.blocks.popleft()
            flow.end()
            return
        if block.idle:
            block.idle = False
            self.given.delay(now - block.arrived - self._time_for(block.due, piece))
        self._free = passed
        self.given.piece(piece, now)
        data, block.data = block.data[:piece], block.data[piece:]
        if not block.data:
            flow.blocks.popleft()
        flow.queued -= piece
        flow.put(data)
        flow.resume()

    def _wake(self, at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer = self.loop.call_at(at, self.pump)
