"""An emulated link between edge and cloud: a TCP proxy in a process of its own.

Everything of a connection passes it: TLS, headers, acknowledgements of the stream. What it was
asked and what it gave are both in its report. `python -m core.split.link` is the process that
`Link` starts: it takes the context and then commands on its standard input, and ends with it.
"""

import argparse
import asyncio
import json
import logging
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import core
from core import files
from core.errors import ConfigError, PeerError
from core.split.contexts import Context
from core.split.lane import Flow, Lane
from core.split.traces import MBIT, Trace

log = logging.getLogger(__name__)

Address = tuple[str, int]

LOOPBACK = "127.0.0.1"
CONNECT_S = 10.0
STOP_S = 10.0
ALONE_S = 1.0  # how often to look whether whoever started the link is still there
PRIORITY = -10
CONNECTIONS = 200  # at once; more are refused, as `select` takes no more than 1024 files
BUFFER_S = 0.02  # of the rate, that the kernel may keep of what was not read yet
BUFFER = (16 << 10, 4 << 20)  # bytes, at least and at most
SEGMENT = 1448  # bytes: the large segments of a loopback would make a slow link coarse
_COMMANDS = "drop SECONDS, stall SECONDS, rate up|down MBIT, stop"


class Connection:
    """A client's connection and the one to the target that stands for it."""

    def __init__(self, link: "Proxy", client: socket.socket, target: socket.socket) -> None:
        self._link, self._sockets = link, (client, target)
        self._open = 2
        pairs = ((link.up, client, target), (link.down, target, client))
        self._flows = [Flow(lane, a, b, self._ended, self.cut) for lane, a, b in pairs]

    def cut(self) -> None:
        """Reset both sides at once; what was on its way is lost."""
        self._close(reset)

    def _ended(self) -> None:
        self._open -= 1
        if not self._open:
            self._close(socket.socket.close)

    def _close(self, close: Callable[[socket.socket], None]) -> None:
        if self in self._link.connections:
            self._link.connections.remove(self)
            for flow in self._flows:
                flow.close()
            for end in self._sockets:
                close(end)


class Proxy:
    """The emulated link, inside its process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, context: Context, to: Address) -> None:
        if context.up is None or context.down is None:
            raise ConfigError(f"context {context.name} emulates no network: connect directly")
        up, down = context.traces()
        self._loop, self._context = loop, context
        self._to = _resolved(to)
        self.up = Lane(loop, context.up, up, "up")
        self.down = Lane(loop, context.down, down, "down")
        for lane in (self.up, self.down):
            lane.on_first = self._first_byte
        self.connections: list[Connection] = []
        self.ended = loop.create_future()
        self._calls: set[asyncio.Task[None]] = set()
        self._counts = {"connections": 0, "drops": 0, "stalls": 0}
        self._reopens: asyncio.TimerHandle | None = None
        self._started = time.monotonic()
        self._began_unix: float | None = None

    def open(self, listen: Address) -> int:
        """Listen, and return the port. Raises PeerError."""
        try:
            self._listener = self._bind(listen)
            self._listener.listen()
        except OSError as error:
            where = f"{listen[0]}:{listen[1]}"
            raise PeerError(f"cannot listen on {where}: {error.strerror}") from None
        self._loop.add_reader(self._listener, self._accept)
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        self._loop.remove_reader(self._listener)
        self._listener.close()
        self._cut_all()

    def obey(self, line: str) -> None:
        """Carry out a command. Raises ValueError for one that is not known."""
        match line.split():
            case ["drop", seconds]:
                self.drop(_positive(seconds))
            case ["stall", seconds]:
                self.stall(_positive(seconds))
            case ["rate", "up" | "down" as way, mbit]:
                getattr(self, way).set_rate(_positive(mbit) * MBIT)
            case ["stop"]:
                self.stop()
            case _:
                raise ValueError(f"unknown command {line!r}; known: {_COMMANDS}")

    def drop(self, seconds: float) -> None:
        """Cut every connection, and refuse new ones for a while."""
        self._counts["drops"] += 1
        until = self._loop.time() + seconds
        if self._reopens is not None:
            until = max(until, self._reopens.when())
            self._reopens.cancel()
        else:
            self._loop.remove_reader(self._listener)
            address = self._listener.getsockname()[:2]
            self._listener.close()
            self._listener = self._bind(address)  # bound and not listening: ours, and refused
        self._cut_all()
        self._reopens = self._loop.call_at(until, self._reopen)

    def stall(self, seconds: float) -> None:
        """Let nothing pass for a while."""
        self._counts["stalls"] += 1
        for lane in (self.up, self.down):
            lane.stall(self._loop.time() + seconds)

    def stop(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def report(self) -> dict[str, Any]:
        """What was asked and what was given. Seconds of the process and of its processor; when
        its first byte came, in Unix time."""
        return {
            "context": self._context.name,
            "timing": self._context.timing,
            "seconds": round(time.monotonic() - self._started, 3),
            "cpu_s": round(time.process_time(), 3),
            "began_unix": self._began_unix,
            **self._counts,
            "up": self.up.report(),
            "down": self.down.report(),
        }

    def _bind(self, address: Address) -> socket.socket:
        family, address = _resolved(address)
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _set_up(listener, self.up)  # before it listens: what it accepts inherits the buffer
        listener.setblocking(False)
        listener.bind(address)
        return listener

    def _reopen(self) -> None:
        self._reopens = None
        self._listener.listen()
        self._loop.add_reader(self._listener, self._accept)

    def _cut_all(self) -> None:
        for call in self._calls:
            call.cancel()
        for connection in self.connections[:]:
            connection.cut()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:  # gone again
            return
        if len(self.connections) + len(self._calls) >= CONNECTIONS:
            log.warning("a connection was refused: there are %d already", CONNECTIONS)
            reset(client)
            return
        call = self._loop.create_task(self._call(client))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(self, client: socket.socket) -> None:
        """Connect to the target on behalf of a client, or refuse it as the target does."""
        family, address = self._to
        target = socket.socket(family, socket.SOCK_STREAM)
        try:
            for end in (client, target):
                end.setblocking(False)
            _set_up(target, self.down)
            await asyncio.wait_for(self._loop.sock_connect(target, address), CONNECT_S)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, asyncio.TimeoutError, asyncio.CancelledError) as error:
            log.info("no connection to %s:%d: %r", *address[:2], error)
            reset(client)
            reset(target)
            return
        self._counts["connections"] += 1
        self.connections.append(Connection(self, client, target))

    def _first_byte(self, now: float) -> None:
        """Traces and outages count from here."""
        self._began_unix = time.time()
        self.up.origin = self.down.origin = now
        for outage in self._context.outages:
            self._loop.call_at(now + outage.at_s, getattr(self, outage.kind), outage.for_s)


def _resolved(address: Address) -> tuple[socket.AddressFamily, Any]:
    """Family and address for the calls of `socket`. Raises PeerError."""
    try:
        family, *_, found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise PeerError(f"{address[0]}:{address[1]} is no address: {error.strerror}") from None
    return family, found


def _set_up(end: socket.socket, lane: Lane) -> None:
    """Small buffers, so that a sender feels the link, and pieces that leave at once."""
    least, most = BUFFER
    buffer = int(min(max(lane.trace.mean() * BUFFER_S, least), most))
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def reset(end: socket.socket) -> None:
    """Close a socket so that the other side sees the connection break."""
    try:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        end.close()


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise ValueError(f"{text} is not a number above 0")
    return value


def serve(
    listen: Address,
    to: Address,
    context: Context,
    report: Path | None = None,
    commands: int | None = None,
    ready: Callable[[int], None] = lambda port: None,
    answer: Callable[[str], None] = log.info,
) -> dict[str, Any]:
    """Emulate a link until SIGTERM, SIGINT or `stop`; return its report, and write it as JSON.

    listen, to: host and port; port 0 takes a free one, which `ready` gets.
    commands: file descriptor that commands are read from, a line each; its end is the link's.
    answer: gets "ok" or what is wrong, once for each command.

    Raises ConfigError for a context without emulation, DataError for its trace files, PeerError
    where `listen` cannot be had, StorageError where the report cannot be written.
    """
    # Not epoll, whose timeouts are whole milliseconds.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    try:
        made = loop.run_until_complete(_serve(loop, listen, to, context, commands, ready, answer))
    finally:
        loop.close()
    if report is not None:
        files.write_text(report, json.dumps(made, indent=2) + "\n")
    return made


async def _serve(
    loop: asyncio.AbstractEventLoop,
    listen: Address,
    to: Address,
    context: Context,
    commands: int | None,
    ready: Callable[[int], None],
    answer: Callable[[str], None],
) -> dict[str, Any]:
    proxy, parent = Proxy(loop, context, to), os.getppid()  # who may be gone once it is ready
    ready(proxy.open(listen))
    if commands is not None:
        loop.add_reader(commands, _obey, proxy, commands, bytearray(), answer)
        _watch(loop, proxy, parent)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, proxy.stop)
    await proxy.ended
    made = proxy.report()
    proxy.close()
    return made


def _watch(loop: asyncio.AbstractEventLoop, proxy: Proxy, parent: int) -> None:
    """Stop when the parent is gone, even if others hold the other end of the commands."""
    if os.getppid() != parent:
        proxy.stop()
    loop.call_later(ALONE_S, _watch, loop, proxy, parent)


def _obey(proxy: Proxy, source: int, rest: bytearray, answer: Callable[[str], None]) -> None:
    """Carry out the commands that have come in; stop with the one who gives them."""
    data = os.read(source, 4096)
    if not data:
        proxy.stop()
    rest += data
    while b"\n" in rest:
        line, _, after = rest.partition(b"\n")
        rest[:] = after
        try:
            proxy.obey(line.decode(errors="replace"))
        except ValueError as error:
            answer(str(error))
        else:
            answer("ok")


class Link:
    """An emulated link in a process of its own, in front of a port of this machine.

    `with Link(context, port) as link:` starts it, and its clients connect to `link.port`. Where
    the context emulates nothing there is no process, and `link.port` is the target's.
    """

    def __init__(self, context: Context, target_port: int, listen: str = LOOPBACK) -> None:
        """listen: address at which it waits for the edge."""
        self._context, self._target, self._listen = context, target_port, listen
        self._process: subprocess.Popen[str] | None = None
        self.port = target_port

    def start(self, port: int = 0) -> int:
        """The port to connect to, a free one unless `port` is given. Raises DataError for the
        context's traces, PeerError."""
        if not self._context.emulated:
            return self.port
        self._context.traces()  # here, where an error reaches the user
        source = str(Path(core.__file__).parents[1])
        paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", __spec__.name),
                *("--listen", f"{self._listen}:{port}", "--to", f"{LOOPBACK}:{self._target}"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C is for us, who still need the link to end in order
        )
        self.port = int(self._ask(json.dumps(self._context.plain())))
        return self.port

    def stop(self) -> dict[str, Any] | None:
        """End the link and return its report (see `Proxy.report`); None where there is none.

        There is none without emulation, and of a link that was killed.
        """
        process, self._process = self._process, None
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            output, _ = process.communicate("stop\n", timeout=STOP_S)
        except (OSError, subprocess.TimeoutExpired):
            process.kill()
            output, _ = process.communicate()
        lines = output.splitlines()
        report: dict[str, Any] | None = json.loads(lines[-1]) if len(lines) > 1 else None
        return report

    @property
    def pid(self) -> int | None:
        """Of the link's process."""
        return self._process.pid if self._process else None

    def wait(self) -> int | None:
        """Until the link's process has ended; its exit code, None where there is none."""
        return self._process.wait() if self._process else None

    def drop(self, seconds: float) -> None:
        """Cut every connection now, and refuse new ones for a while. Raises PeerError."""
        self._command(f"drop {seconds}")

    def stall(self, seconds: float) -> None:
        """Let nothing pass from now on for a while. Raises PeerError."""
        self._command(f"stall {seconds}")

    def set_rate(self, way: str, mbit: float) -> None:
        """Pass `mbit` Mbit/s from now on, `way` being up or down. Raises PeerError."""
        self._command(f"rate {way} {mbit}")

    def __enter__(self) -> "Link":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _command(self, line: str) -> None:
        answer = self._ask(line)
        if answer != "ok":
            raise ValueError(answer)

    def _ask(self, line: str) -> str:
        """Say a line and return the answer to it. Raises PeerError when there is none."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise PeerError("no emulated link is running; start it, with an emulated context")
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            answer = process.stdout.readline().strip()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise PeerError(f"the emulated link has ended by itself (exit {process.wait()})")
        return answer


def measure(context: Context, seconds: float = 3.0) -> dict[str, Any]:
    """Send real bytes through an emulated link: what it was asked, and what arrived.

    Returns for `up` and `down` asked and given rate in Mbit/s and the error in percent, for
    `delay_ms` the asked least sum of both directions and the least round trip of one byte, and
    the link's own report. Takes two times `seconds`, and what the round trips take.
    """
    up, down = context.traces()
    with socket.create_server((LOOPBACK, 0)) as server:
        link = Link(context, server.getsockname()[1])
        link.start()
        try:
            with socket.create_connection((LOOPBACK, link.port)) as edge:
                cloud, _ = server.accept()
                with cloud:
                    for end in (edge, cloud):
                        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    origin = time.monotonic()
                    delays = _delays(context, edge, cloud)
                    rates = {
                        "up": _rates(up, edge, cloud, origin, seconds),
                        "down": _rates(down, cloud, edge, origin, seconds),
                    }
        finally:
            report = link.stop()
    return {"context": context.name, **rates, "delay_ms": delays, "report": report}


def _delays(context: Context, edge: socket.socket, cloud: socket.socket) -> dict[str, float]:
    """Least round trip of a byte on the idle link, against the sum of the delays."""
    trips = []
    for _ in range(20):
        start = time.monotonic()
        for source, sink in ((edge, cloud), (cloud, edge)):
            source.sendall(b"?")
            sink.recv(1)
        trips.append(time.monotonic() - start)
    ways = [way for way in (context.up, context.down) if way is not None]
    asked = sum(way.delay_ms for way in ways)
    return {
        "asked": asked,
        "asked_most": asked + sum(way.jitter_ms for way in ways),
        "given": round(1e3 * min(trips), 3),
        "given_most": round(1e3 * max(trips), 3),
    }


def _rates(
    trace: Trace, source: socket.socket, sink: socket.socket, origin: float, seconds: float
) -> dict[str, float]:
    """Rate at the receiver over `seconds`, against the trace's over the same time."""
    now = time.monotonic() - origin
    nbytes = int(trace.bytes_until(now + seconds) - trace.bytes_until(now))
    thread = threading.Thread(target=_send, args=(source, nbytes), daemon=True)
    thread.start()
    buffer = bytearray(1 << 20)
    first = sink.recv_into(buffer)
    start = time.monotonic()
    received = 0
    while first + received < nbytes and (some := sink.recv_into(buffer)):
        received += some
    end = time.monotonic()
    thread.join()
    asked = trace.bytes_until(end - origin) - trace.bytes_until(start - origin)
    return {
        "asked_mbit": round(asked / (end - start) / MBIT, 4),
        "given_mbit": round(received / (end - start) / MBIT, 4),
        "error_percent": round(100 * (received / asked - 1), 2),
    }


def _send(source: socket.socket, nbytes: int) -> None:
    piece = bytes(256 << 10)
    while nbytes > 0:
        source.sendall(piece[:nbytes])
        nbytes -= len(piece)


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host or LOOPBACK, int(port)


def main() -> None:
    """The process of `Link`: context on the first line, then commands; answers on stdout."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", type=_address, default=(LOOPBACK, 0))
    parser.add_argument("--to", type=_address, required=True)
    args = parser.parse_args()
    context = Context.of(json.loads(_first_line(0)))
    _hurry()

    def say(text: object) -> None:
        print(text, flush=True)

    made = serve(args.listen, args.to, context, commands=0, ready=say, answer=say)
    try:
        say(json.dumps(made))
    except BrokenPipeError:  # nobody is left to read it
        os._exit(0)


def _hurry() -> None:
    """Go before others, where we may: a network does not wait for a processor."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
        # Linux may share processors out by session, and only then among a session's processes.
        Path("/proc/self/autogroup").write_text(str(PRIORITY))


def _first_line(source: int) -> bytes:
    """Up to the end of a line and no further: what follows is read without a buffer."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(source, 1)):
        line += byte
    return line


if __name__ == "__main__":
    main()
