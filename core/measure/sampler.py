"""A thread that samples what a run costs, beside the training that it must not disturb."""

import logging
import threading
import time
from dataclasses import dataclass, replace

from core.errors import CoreError, DeviceError
from core.measure import trace
from core.measure.energy import LEAST_GAP_S, Integral
from core.measure.host import Host
from core.measure.meter import Meter, Reading
from core.measure.processes import Processes, accelerator_mib
from core.measure.trace import Row, Trace

log = logging.getLogger(__name__)

SLOW_EVERY_S = 1.0  # temperature, clocks
RARE_EVERY_S = 5.0  # throttling: on a Raspberry Pi that is a process of its own
AGAIN_S = 5.0  # after a meter failed
GAPS = 10  # intervals that power readings may lie apart


@dataclass
class _Slow:
    """What is looked at less often than the interval, as it was seen last."""

    celsius: float | None = None
    mhz: float | None = None
    seen: float = float("-inf")
    throttled_seen: float = float("-inf")


class Sampler:
    """Appends a row to the trace of a run every `interval_s` seconds, from `begin` on.

    A meter that fails, or a disk that is full, costs samples and not the run.
    """

    def __init__(self, kept: Trace, meter: Meter | None, host: Host, interval_s: float) -> None:
        self._trace, self._meter, self._host, self._interval = kept, meter, host, interval_s
        self._processes = Processes()
        self._slow = _Slow()
        self._gap_s = max(LEAST_GAP_S, GAPS * interval_s)
        self._session = 1 + max((row.session for row in kept.rows), default=0)
        self._base: float | None = None  # monotonic time of second 0; None before `begin`
        self._integral = Integral(self._gap_s)
        self._read_at = self._failed = float("-inf")
        self._warned: set[str] = set()
        self._lock = threading.Lock()  # of what is recorded
        self._reader = threading.Lock()  # of the sensors
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self.cpu_s = 0.0  # processor time that the thread has taken
        self.samples = 0  # that it took

    def start(self) -> None:
        """Begin to run; nothing is recorded before `begin`."""
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample and end."""
        self._end.set()
        self._thread.join()
        if self._base is not None:
            self._sample(due=True)

    def idle_watts(self, seconds: float) -> float | None:
        """Mean power of the device over some seconds before the run; None where it is not known."""
        if self._meter is None:
            return None
        integral = Integral(self._gap_s)
        end = time.monotonic() + seconds
        while True:
            now = time.monotonic()
            if reading := self._reading(now, due=now >= end):
                integral.add(now, reading)
            if now >= end:
                break
            time.sleep(min(self._interval, end - now))
        return integral.joules / integral.covered_s if integral.covered_s else None

    def begin(self, step: int) -> None:
        """The run goes on from the snapshot of this step; 0 for its start. What was recorded after
        that snapshot is computed again, and so is not counted."""
        with self._lock:
            kept = self._guarded_rewind(step)
            start = kept or Row(self._session, 0.0, time.time())
            self._base = time.monotonic() - start.seconds
            self._integral = Integral(self._gap_s, start.joules or 0.0, start.covered_s)
        self.mark(trace.BEGIN, str(step))
        self._host.throttling.restart()
        self._sample(due=True)

    def mark(self, event: str, detail: str = "") -> None:
        """Something happened now. Energy since the last sample is counted as that before it."""
        with self._lock:
            if self._base is None:
                return
            seconds = time.monotonic() - self._base
            row = Row(self._session, seconds, time.time(), event=event, detail=detail)
            if self._meter is not None:
                joules, covered = self._integral.so_far(seconds)
                row = replace(row, joules=joules, covered_s=covered)
            self._append(row)

    def _run(self) -> None:
        due = time.monotonic() + self._interval
        while not self._end.wait(max(0.0, due - time.monotonic())):
            if self._base is not None:
                self._sample()
                self.samples += 1
                self.cpu_s = time.thread_time()
            due = max(due + self._interval, time.monotonic())

    def _sample(self, due: bool = False) -> None:
        """Sensors may take their time, and are read before the lock is taken for which a mark of
        the training would wait."""
        with self._reader:
            self._record(self._base, time.monotonic(), due)

    def _record(self, base: float | None, now: float, due: bool) -> None:
        reading = self._reading(now, due)
        mib, peak = self._processes.memory(now)
        throttled = self._look(now)
        cpu, accelerator = self._processes.cpu_percent(now), accelerator_mib()
        with self._lock:
            if base is None or base != self._base:
                return  # the run began anew meanwhile
            watts = self._integral.add(now - base, reading) if reading else None
            row = Row(
                self._session,
                now - base,
                time.time(),
                watts,
                None if self._meter is None else self._integral.joules,
                self._integral.covered_s,
                mib,
                peak,
                accelerator[0] if accelerator else None,
                cpu,
                self._slow.celsius,
                self._slow.mhz,
                throttled,
            )
            self._append(row)

    def _reading(self, now: float, due: bool = False) -> Reading | None:
        """Of the meter, where it is time for one. due: at the start and at the end of what counts,
        which no reading may miss."""
        if self._meter is None:
            return None
        next_one = self._read_at + self._meter.every_s - self._interval / 2
        if not due and now < max(next_one, self._failed + AGAIN_S):
            return None
        try:
            self._read_at = now
            return self._meter.read()
        except DeviceError as error:
            self._failed = now
            self._warn(str(error))
            return None

    def _look(self, now: float) -> str:
        """Temperature and clock now and then; why the device was throttled since the last look."""
        if now - self._slow.seen >= SLOW_EVERY_S:
            self._slow.seen = now
            self._slow.celsius, self._slow.mhz = self._host.celsius(), self._host.mhz()
        if now - self._slow.throttled_seen < RARE_EVERY_S and not self._end.is_set():
            return ""
        self._slow.throttled_seen = now
        return ";".join(self._host.throttling.reasons())

    def _guarded_rewind(self, step: int) -> Row | None:
        try:
            return self._trace.rewind(step)
        except (CoreError, OSError) as error:
            self._warn(str(error))
            return None

    def _append(self, row: Row) -> None:
        try:
            self._trace.append(row)
        except (CoreError, OSError) as error:
            self._warn(f"the trace of the run is not written: {error}")

    def _warn(self, text: str) -> None:
        """Once for each kind of trouble: a run has many samples."""
        kind = text[:40]
        if kind not in self._warned:
            self._warned.add(kind)
            log.warning("%s", text)
