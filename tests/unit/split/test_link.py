"""Real connections over loopback, and between network namespaces, through the emulated link."""

import functools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import core
from core.errors import ConfigError, DataError, PeerError
from core.files import digest
from core.split.contexts import Context, Outage, Way
from core.split.link import Link, measure
from core.split.traces import MBIT, Trace

ROOT = Path(core.__file__).parents[1]
# How much a receiver that the machine keeps waiting may see at once, beside the link's own burst.
LATE_S = 0.05

Pair = tuple[socket.socket, socket.socket]


def again_if_busy(test: Callable[..., None]) -> Callable[..., None]:
    """Three tries: on a machine too busy to send or to receive, a link looks slower than it is."""

    @functools.wraps(test)
    def tries(*args: Any, **named: Any) -> None:
        for _ in range(2):
            with suppress(AssertionError):
                return test(*args, **named)
        return test(*args, **named)

    return tries


def context(up: float = 100, down: float = 100, delay: float = 0, **others: Any) -> Context:
    jitter = others.pop("jitter", 0)
    ways = {"up": Way(up, delay, jitter), "down": Way(down, delay, jitter)}
    return Context(name="tests", title="Tests", timing="emulated", **(ways | others))


@contextmanager
def linked(asked: Context, clients: int = 1) -> Iterator[tuple[Link, list[Pair]]]:
    """A running link, and (edge, cloud) ends of connections through it."""
    with socket.create_server(("127.0.0.1", 0)) as server, Link(asked, port_of(server)) as link:
        pairs = [joined(link, server) for _ in range(clients)]
        try:
            yield link, pairs
        finally:
            for end in sum(pairs, ()):
                end.close()


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def joined(link: Link, server: socket.socket) -> Pair:
    edge = socket.create_connection(("127.0.0.1", link.port), timeout=10)
    server.settimeout(10)
    cloud, _ = server.accept()
    for end in (edge, cloud):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end.settimeout(10)
    return edge, cloud


def send(source: socket.socket, data: bytes) -> threading.Thread:
    thread = threading.Thread(target=source.sendall, args=(data,), daemon=True)
    thread.start()
    return thread


def exactly(sink: socket.socket, nbytes: int) -> bytes:
    data = b""
    while len(data) < nbytes and (some := sink.recv(nbytes - len(data))):
        data += some
    return data


def until_broken(sink: socket.socket) -> list[tuple[float, int]]:
    """(seconds, bytes) of everything that comes before the connection breaks."""
    seen: list[tuple[float, int]] = []
    with pytest.raises(ConnectionError):
        arrivals(sink, sys.maxsize, seen)
    return seen


def arrivals(
    sink: socket.socket, nbytes: int, seen: list[tuple[float, int]] | None = None
) -> list[tuple[float, int]]:
    """(seconds, bytes so far) of everything that comes, until `nbytes` have."""
    seen, total = [] if seen is None else seen, 0
    while total < nbytes and (some := sink.recv(1 << 18)):
        total += len(some)
        seen.append((time.monotonic(), total))
    return seen


def rate_of(seen: list[tuple[float, int]]) -> float:
    """Mbit/s from the first arrival to the last."""
    (first, before), (last, total) = seen[0], seen[-1]
    return (total - before) / (last - first) / MBIT


def test_every_byte_passes_in_order_both_ways_and_so_does_the_end():
    noise = random.Random(0)
    with linked(context(200, 100, delay=4, jitter=6)) as (_, [(edge, cloud)]):
        for source, sink in ((edge, cloud), (cloud, edge)):
            data = noise.randbytes(1 << 20)
            send(source, data)
            assert exactly(sink, len(data)) == data
        edge.shutdown(socket.SHUT_WR)
        assert cloud.recv(1) == b""
        cloud.sendall(b"still open")
        assert exactly(edge, 10) == b"still open"
        cloud.close()
        assert edge.recv(1) == b""


@pytest.mark.parametrize("mbit", [1, 20, 400])
@again_if_busy
def test_the_rate_is_the_asked_one_and_never_far_above(mbit: float):
    with linked(context(mbit, 1000, delay=5)) as (_, [(edge, cloud)]):
        nbytes = int(1.2 * mbit * MBIT)
        send(edge, bytes(nbytes))
        seen = arrivals(cloud, nbytes)
    assert rate_of(seen) == pytest.approx(mbit, rel=0.03)
    start, burst = seen[0][0], max(4096, 0.01 * mbit * MBIT)
    most = max(total - (at - start) * mbit * MBIT for at, total in seen)
    assert most <= burst + LATE_S * mbit * MBIT


@again_if_busy
def test_directions_have_rates_of_their_own_and_connections_share_them():
    with linked(context(24, 8), clients=2) as (link, pairs):
        results: dict[str, list[tuple[float, int]]] = {}

        def receive(name: str, sink: socket.socket, nbytes: int) -> None:
            results[name] = arrivals(sink, nbytes)

        threads = []
        for i, (edge, cloud) in enumerate(pairs):
            for way, source, sink, mbit in (("up", edge, cloud, 24), ("down", cloud, edge, 8)):
                nbytes = int(0.75 * mbit * MBIT)  # of two connections: 1.5 s
                send(source, bytes(nbytes))
                args = (f"{way} {i}", sink, nbytes)
                threads.append(threading.Thread(target=receive, args=args))
                threads[-1].start()
        for thread in threads:
            thread.join()
        report = link.stop()
    for way, mbit in (("up", 24), ("down", 8)):
        both = [results[f"{way} {i}"] for i in range(2)]
        start, end = min(seen[0][0] for seen in both), max(seen[-1][0] for seen in both)
        assert 1.5 * mbit / (end - start) == pytest.approx(mbit, rel=0.04)
        assert report is not None
        assert report[way]["given_mbit"] == pytest.approx(mbit, rel=0.03)
        assert report[way]["asked_mbit"] == mbit
        assert report[way]["bytes"] == 2 * int(0.75 * mbit * MBIT)
    assert report["connections"] == 2


@again_if_busy
def test_a_round_trip_takes_both_delays_and_no_more_than_the_jitter():
    with linked(context(delay=20, jitter=10)) as (link, [(edge, cloud)]):
        trips = []
        for _ in range(15):
            start = time.monotonic()
            for source, sink in ((edge, cloud), (cloud, edge)):
                source.sendall(b"?")
                sink.recv(1)
            trips.append(time.monotonic() - start)
        report = link.stop()
    assert min(trips) >= 0.040
    assert sorted(trips)[len(trips) // 2] < 0.060 + 0.010
    assert max(trips) - min(trips) > 0.004  # it varies
    assert report is not None
    given = report["up"]["given_delay_ms"]
    assert 20 <= given["least"] <= given["mean"] <= given["most"]
    assert given["mean"] == pytest.approx(report["up"]["asked_delay_ms"]["mean"], abs=6)


def test_a_sender_feels_a_slow_link():
    with linked(context(2, 2, delay=10)) as (_, [(edge, cloud)]):
        edge.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
        edge.setblocking(False)
        sent, end = 0, time.monotonic() + 1
        while time.monotonic() < end:
            with suppress(BlockingIOError):
                sent += edge.send(bytes(4096))
            time.sleep(0.001)
        assert sent < 2 * MBIT + 160_000  # what a second passes, and what waits on the way
        cloud.close()


def csv_trace(up: Path, down: Path) -> dict[str, str]:
    """As `load` puts it into a context."""
    files = {"up": str(up), "down": str(down)}
    return {"kind": "csv", **files, "up_sha256": digest(up), "down_sha256": digest(down)}


@again_if_busy
def test_a_trace_counts_from_the_first_byte(tmp_path: Path):
    (tmp_path / "up.csv").write_text("0,4\n0.5,0\n0.8,16\n")
    (tmp_path / "down.csv").write_text("0,1\n")
    with linked(context(trace=csv_trace(tmp_path / "up.csv", tmp_path / "down.csv"))) as (
        link,
        [(edge, cloud)],
    ):
        time.sleep(0.3)  # not a part of the trace
        start, nbytes = time.monotonic(), 1_000_000
        send(edge, bytes(nbytes))
        seen = arrivals(cloud, nbytes)
        report = link.stop()
    expected = Trace((0, 0.5, 0.8), (4 * MBIT, 0, 16 * MBIT))
    assert seen[-1][0] - start == pytest.approx(expected.time_for(0, nbytes), rel=0.05)
    gap = max(b[0] - a[0] for a, b in pairwise(seen))
    assert 0.28 < gap < 0.4
    assert report is not None
    assert report["up"]["given_mbit"] == pytest.approx(report["up"]["asked_mbit"], rel=0.03)


def test_a_trace_file_that_is_wrong_is_said_before_anything_starts(tmp_path: Path):
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("1,4\n")
    with pytest.raises(DataError, match=r"wrong\.csv:1: the first time is 1 s; it must be 0"):
        Link(context(trace=csv_trace(wrong, wrong)), 9).start()


@again_if_busy
def test_the_rate_can_be_changed_from_outside():
    with linked(context(100, 100)) as (link, [(edge, cloud)]):
        for mbit in (4, 40):
            link.set_rate("up", mbit)
            send(edge, bytes(int(0.5 * mbit * MBIT)))
            assert rate_of(arrivals(cloud, int(0.5 * mbit * MBIT))) == pytest.approx(mbit, rel=0.06)


@again_if_busy
def test_a_stall_lets_nothing_pass_and_loses_nothing():
    with linked(context(16, 16)) as (link, [(edge, cloud)]):
        send(edge, bytes(2 * MBIT * 8))
        timer = threading.Timer(0.3, link.stall, [0.6])
        timer.start()
        seen = arrivals(cloud, 2 * MBIT * 8)
        timer.join()
        report = link.stop()
    gap = max(b[0] - a[0] for a, b in pairwise(seen))
    assert gap == pytest.approx(0.6, abs=0.06)
    assert seen[-1][0] - seen[0][0] == pytest.approx(1.6, rel=0.05)
    assert report is not None
    assert report["stalls"] == 1
    assert report["up"]["given_mbit"] == pytest.approx(16, rel=0.03)  # of the time it could pass


@again_if_busy
def test_a_drop_cuts_and_refuses_and_the_port_comes_back():
    server = socket.create_server(("127.0.0.1", 0))
    with server, Link(context(16, 16, delay=5), port_of(server)) as link:
        edge, cloud = joined(link, server)
        send_quietly(edge, 1 << 20)
        cloud.recv(1)
        started = time.monotonic()
        link.drop(0.5)
        until_broken(cloud)
        with pytest.raises(ConnectionError):
            edge.sendall(bytes(1 << 20))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", link.port), timeout=5)
        again = None
        while again is None:
            with suppress(ConnectionRefusedError):
                again = joined(link, server)
        assert time.monotonic() - started == pytest.approx(0.5, abs=0.15)
        again[0].sendall(b"back")
        assert again[1].recv(4) == b"back"
        for end in (edge, cloud, *again):
            end.close()
        report = link.stop()
    assert report is not None
    assert (report["drops"], report["connections"]) == (1, 2)


def send_quietly(source: socket.socket, nbytes: int) -> None:
    def run() -> None:
        with suppress(OSError):
            source.sendall(bytes(nbytes))

    threading.Thread(target=run, daemon=True).start()


@again_if_busy
def test_outages_of_the_context_come_at_their_time():
    outages = (Outage(0.2, 0.3, "stall"), Outage(0.9, 5, "drop"))
    with linked(context(8, 8, outages=outages)) as (_, [(edge, cloud)]):
        time.sleep(0.3)  # they count from the first byte
        send_quietly(edge, 8 * MBIT)
        seen = until_broken(cloud)
        end = time.monotonic()
    gaps = [b[0] - a[0] for a, b in pairwise(seen)]
    stalled = max(range(len(gaps)), key=gaps.__getitem__)
    assert gaps[stalled] == pytest.approx(0.3, abs=0.06)
    assert seen[stalled][0] - seen[0][0] == pytest.approx(0.2, abs=0.06)
    assert end - seen[0][0] == pytest.approx(0.9, abs=0.06)


def test_without_a_target_a_client_is_refused_as_by_the_target():
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = port_of(server)
    # Already while connecting, where this process waits for a processor meanwhile.
    with (
        Link(context(), nobody) as link,
        pytest.raises(ConnectionResetError),
        socket.create_connection(("127.0.0.1", link.port), timeout=10) as edge,
    ):
        edge.recv(1)


def test_a_context_without_emulation_needs_no_process():
    bare = Context("loopback", "Loopback", "measured", None, None)
    with Link(bare, 1234) as link:
        assert (link.port, link.pid, link.stop()) == (1234, None, None)
        with pytest.raises(PeerError, match="no emulated link is running"):
            link.drop(1)
    with pytest.raises(ConfigError, match="context loopback emulates no network"):
        measure(bare)


def test_a_command_that_is_wrong_says_what_there_is():
    with linked(context()) as (link, _):
        with pytest.raises(ValueError, match="unknown command 'rate left 3'; known: drop SECONDS"):
            link.set_rate("left", 3)
        with pytest.raises(ValueError, match="-1 is not a number above 0"):
            link.stall(-1)
        link.stall(0.01)  # and it goes on


def test_a_killed_link_breaks_its_connections_and_has_no_report():
    with linked(context()) as (link, [(edge, _)]):
        assert link.pid is not None
        os.kill(link.pid, signal.SIGKILL)
        with suppress(ConnectionError):
            assert edge.recv(1) == b""
        with pytest.raises(PeerError, match=r"ended by itself \(exit -9\)"):
            link.drop(1)
        assert link.stop() is None


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("inherited", [False, True], ids=["alone", "with_a_child"])
def test_a_link_ends_with_the_process_that_started_it(inherited: bool):
    """Also where a forked child of that process keeps the other end of the commands open."""
    code = (
        "import os, time\n"
        "from core.split.contexts import Context, Way\n"
        "from core.split.link import Link\n"
        "way = Way(10, 0, 0)\n"
        "link = Link(Context('t', 'T', 'emulated', way, way), 9)\n"
        "link.start()\n"
        f"child = os.fork() if {inherited} else 1\n"
        "if child: print(link.pid, child, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert parent.stdout is not None
    link, child = map(int, parent.stdout.readline().split())
    try:
        assert alive(link)
        parent.kill()
        parent.wait()
        end = time.monotonic() + 30
        while alive(link) and time.monotonic() < end:
            time.sleep(0.02)
        assert not alive(link)
    finally:
        parent.stdout.close()
        if inherited:
            os.kill(child, signal.SIGKILL)


def test_serve_writes_its_report_when_it_is_ended(tmp_path: Path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from core.split.contexts import load\n"
        "from core.split.link import serve\n"
        "serve(('127.0.0.1', 0), ('127.0.0.1', 9), load(Path('config/contexts/wifi.yaml')),\n"
        "      report=Path(sys.argv[1]), ready=lambda port: print(port, flush=True))\n"
    )
    file = tmp_path / "reports" / "link.json"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    with process.stdout:
        assert int(process.stdout.readline()) > 0
        time.sleep(0.1)
        process.terminate()
        assert process.wait(10) == 0
    report = json.loads(file.read_text())
    assert (report["context"], report["timing"]) == ("wifi", "emulated")
    assert report["up"] == {
        "bytes": 0,
        "busy_s": 0,
        "asked_mbit": None,
        "given_mbit": None,
        "asked_delay_ms": {"least": 3, "mean": 3.5, "most": 4},
        "given_delay_ms": None,
    }


def test_an_address_that_is_taken_is_said():
    from core.split.link import serve

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = port_of(taken)
        with pytest.raises(PeerError, match=f"cannot listen on 127.0.0.1:{port}: Address already"):
            serve(("127.0.0.1", port), ("127.0.0.1", 9), context())


@again_if_busy
def test_the_self_test_reports_what_was_asked_and_given():
    made = measure(context(50, 10, delay=15, jitter=2), seconds=1.0)
    assert made["up"]["asked_mbit"] == 50
    assert made["down"]["asked_mbit"] == 10
    for way in ("up", "down"):
        assert abs(made[way]["error_percent"]) < 3
        assert made["report"][way]["given_mbit"] == pytest.approx(made[way]["given_mbit"], rel=0.03)
    assert made["delay_ms"]["asked"] == 30
    assert 30 <= made["delay_ms"]["given"] < 40


@again_if_busy
def test_shaping_100_mbit_takes_a_small_part_of_a_processor():
    idle = measure(context(1, 1), seconds=0.1)["report"]["cpu_s"]  # starting the process
    report = measure(context(100, 100), seconds=1.5)["report"]
    assert (report["cpu_s"] - idle) / (report["up"]["busy_s"] + report["down"]["busy_s"]) < 0.15


# Two network namespaces joined by a virtual cable, and the link on the edge's side of it.

EDGE, CLOUD = "10.213.77.1", "10.213.77.2"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the command `ip`")
    names = [f"core{os.getpid()}{side}" for side in "ec"]
    made: list[str] = []
    try:
        try:
            for name in names:
                ip("netns", "add", name)
                made.append(name)
            ip("link", "add", names[0], "netns", names[0], "type", "veth",
               "peer", "name", names[1], "netns", names[1])  # fmt: skip
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces cannot be used here: {error.stderr.strip()}")
        for name, address in zip(names, (EDGE, CLOUD), strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", name)
            ip("-n", name, "link", "set", name, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names[0], names[1]
    finally:
        for name in made:
            ip("netns", "delete", name)


def inside(namespace: str, *words: str) -> subprocess.Popen[str]:
    command = ["ip", "netns", "exec", namespace, sys.executable, *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)


RECEIVER = """
import json, socket, sys, time
server = socket.create_server((sys.argv[1], 0))
print(server.getsockname()[1], flush=True)
peer, _ = server.accept()
peer.sendall(peer.recv(1))
seen, total = [], 0
while some := peer.recv(1 << 18):
    total += len(some)
    seen.append((time.monotonic(), total))
print(json.dumps(seen), flush=True)
"""
SENDER = """
import socket, sys, time
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
start = time.monotonic()
peer.sendall(b"?")
peer.recv(1)
print(time.monotonic() - start, flush=True)
peer.sendall(bytes(int(sys.argv[3])))
peer.close()
"""


@pytest.mark.parametrize("mbit", [5, 80])
@again_if_busy
def test_between_two_namespaces_the_link_gives_what_it_was_asked(
    namespaces: tuple[str, str], mbit: float
):
    edge, cloud = namespaces
    nbytes = int(1.2 * mbit * MBIT)
    with inside(cloud, "-c", RECEIVER, CLOUD) as receiver:
        assert receiver.stdout is not None
        to = f"{CLOUD}:{receiver.stdout.readline().strip()}"
        with inside(edge, "-m", "core.split.link", "--listen", f"{EDGE}:0", "--to", to) as link:
            assert link.stdin is not None
            assert link.stdout is not None
            link.stdin.write(json.dumps(context(mbit, mbit, delay=20).plain()) + "\n")
            link.stdin.flush()
            port = link.stdout.readline().strip()
            with inside(edge, "-c", SENDER, EDGE, port, str(nbytes)) as sender:
                trip, _ = sender.communicate(timeout=20)
            seen = json.loads(receiver.communicate(timeout=20)[0])
            report = json.loads(link.communicate("stop\n", timeout=20)[0].splitlines()[-1])
    assert seen[-1][1] == nbytes
    assert rate_of(seen) == pytest.approx(mbit, rel=0.03)
    assert 0.040 <= float(trip) < 0.060
    assert report["up"]["given_mbit"] == pytest.approx(mbit, rel=0.03)
    assert report["up"]["bytes"] == nbytes + 1
