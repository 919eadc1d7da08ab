"""How fast tensors cross the wire: echoed between two processes over loopback, plain and mutual
TLS. Several in flight, as split training sends them, and one at a time."""

import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from core.bench import Report
from core.split.certificates import Security, make
from core.split.channel import Channel, Hello, SessionLost
from core.split.client import connect
from core.split.server import Expected, Server
from core.split.wire import Frame

MIB = 2**20
SIZES = (2, 8, 32)  # MiB
WINDOWS, SECONDS = 5, 1.0  # measurements, length of each
FLIGHT = 4  # tensors under way at the same time
LEAST = {"plain": 400, "tls": 250}  # MB/s each way at the largest size


def run() -> Report:
    """MB/s each way (10^6 bytes) and CPU seconds of both processes per GB carried (10^9 bytes,
    both ways together)."""
    figures: dict[str, Any] = {}
    limits: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        for name in tqdm(LEAST, unit="connection", disable=None):
            figures[name] = _echoes(Path(folder) if name == "tls" else None)
            best = figures[name][f"{SIZES[-1]} MiB"]["several"]["best_mb_per_s"]
            figures[name]["shortfall"] = round(max(0.0, 1 - best / LEAST[name]), 3)
            limits[f"{name}/shortfall"] = 0.0
    notes = [
        f"mb_per_s: each way, the median of {WINDOWS} windows of {SECONDS:g} s; best_mb_per_s: the "
        "best of them, which other load on the machine disturbs least",
        f"shortfall: what the best one misses of {LEAST['plain']} (plain) and {LEAST['tls']} MB/s "
        f"(TLS), {SIZES[-1]} MiB tensors, {FLIGHT} in flight",
    ]
    return Report(figures, limits, notes)


def _echoes(folder: Path | None) -> dict[str, dict[str, dict[str, float]]]:
    """By size, then by how many are in flight."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_echo, args=(theirs, folder), daemon=True)
    process.start()
    security = Security.load(folder, "edge") if folder else None
    channel = connect(f"localhost:{ours.recv()}", security, Hello("edge", "bench"))
    try:
        return {
            f"{size} MiB": {
                "several": _measured(channel, ours, size * MIB, FLIGHT),
                "one": _measured(channel, ours, size * MIB, 1),
            }
            for size in SIZES
        }
    finally:
        channel.close()
        process.join()


def _echo(parent: Connection, folder: Path | None) -> None:
    """The other process: sends back whatever comes, tells its CPU time when asked."""
    security = Security.load(folder, "cloud") if folder else None
    server = Server("localhost:0", security, Expected("bench"))
    parent.send(server.port)
    channel = server.accept()
    try:
        while True:
            frame = channel.receive()
            if frame.kind == "cpu":
                parent.send(time.process_time())
            else:
                channel.send(frame)
    except SessionLost:
        server.stop()


def _measured(channel: Channel, other: Connection, nbytes: int, flight: int) -> dict[str, float]:
    frame = Frame("features", 0, {"x": np.random.default_rng(0).random(nbytes // 8)})
    _run(channel, frame, flight, 0.5)
    cpu, echoes, rates = _cpu(channel, other), 0, []
    for _ in range(WINDOWS):
        start = time.perf_counter()
        count = _run(channel, frame, flight, SECONDS)
        rates.append(count * nbytes / (time.perf_counter() - start) / 1e6)
        echoes += count
    cpu = _cpu(channel, other) - cpu
    return {
        "mb_per_s": round(float(np.median(rates)), 1),
        "best_mb_per_s": round(max(rates), 1),
        "cpu_s_per_gb": round(cpu / (2 * echoes * nbytes / 1e9), 2),
    }


def _run(channel: Channel, frame: Frame, flight: int, seconds: float) -> int:
    """Echoes within that time: how many came back."""
    for _ in range(flight):
        channel.send(frame)
    end = time.perf_counter() + seconds
    count = 0
    while time.perf_counter() < end:
        channel.receive()
        channel.send(frame)
        count += 1
    for _ in range(flight):
        channel.receive()
    return count + flight


def _cpu(channel: Channel, other: Connection) -> float:
    """CPU seconds of both processes so far."""
    channel.send(Frame("cpu", 0))
    return float(other.recv()) + time.process_time()
