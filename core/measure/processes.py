"""Memory and processor time of this process and the processes that it started."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

MIB = 2**20  # bytes
LOOK_EVERY_S = 5.0  # for new processes: that reads the whole process table
STATUS = Path("/proc/self/status")


class Processes:
    """This process and its children, their children included, of the same process group.

    A child with a group of its own is no part of this side of a run: the cloud of split training
    and the emulated link, which would be counted twice. Resident memory is added up, so that pages
    that processes share count in each.
    """

    def __init__(self) -> None:
        self._own = psutil.Process()
        self._children: list[psutil.Process] = []
        self._looked = float("-inf")
        self._highest = _highest_mib()
        self._busy: dict[int, float] = {}
        self._read_at: float | None = None

    def memory(self, now: float) -> tuple[float, float]:
        """MiB now, and at the highest since the last call: of this process by the kernel's own
        account where it rose since, of children as they are now. now: seconds of any clock."""
        if now - self._looked > LOOK_EVERY_S:
            self._look()
            self._looked = now
        own = self._own.memory_info().rss / MIB
        children = sum(_resident(child) for child in self._children)
        highest = _highest_mib()
        peak = highest if highest > self._highest else own
        self._highest = max(self._highest, highest)
        return own + children, max(own, peak) + children

    def cpu_percent(self, now: float) -> float | None:
        """Processor time over time since the last call in percent: 200 are two busy cores. None the
        first time. Processes of which it was not called before count from their next call on."""
        busy = dict(self._busy_seconds())
        before, since = self._busy, self._read_at
        self._busy, self._read_at = busy, now
        if since is None or now <= since:
            return None
        spent = sum(seconds - before[pid] for pid, seconds in busy.items() if pid in before)
        return 100 * spent / (now - since)

    def _busy_seconds(self) -> Iterator[tuple[int, float]]:
        for process in (self._own, *self._children):
            with suppress(psutil.Error):
                times = process.cpu_times()
                yield process.pid, times.user + times.system

    def _look(self) -> None:
        group = os.getpgrp()
        self._children = []
        with suppress(psutil.Error):
            for child in self._own.children(recursive=True):
                with suppress(OSError):
                    if os.getpgid(child.pid) == group:
                        self._children.append(child)


def _resident(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss) / MIB
    except psutil.Error:  # it has ended
        return 0.0


def _highest_mib() -> float:
    """The highest resident memory of this process so far, as Linux keeps it; 0 elsewhere."""
    try:
        with STATUS.open("rb") as file:
            for line in file:
                if line.startswith(b"VmHWM"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def accelerator_mib() -> tuple[float, float] | None:
    """MiB that the framework of this process holds on its accelerator: now, and at most since it
    started. None without an accelerator, or where the framework does not tell."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda") and torch.cuda.is_initialized():
        return torch.cuda.memory_allocated() / MIB, torch.cuda.max_memory_allocated() / MIB
    tensorflow: Any = sys.modules.get("tensorflow")
    if tensorflow is not None and hasattr(tensorflow, "config"):
        with suppress(ValueError, RuntimeError, AttributeError):
            if tensorflow.config.list_logical_devices("GPU"):
                info = tensorflow.config.experimental.get_memory_info("GPU:0")
                return info["current"] / MIB, info["peak"] / MIB
    return None
