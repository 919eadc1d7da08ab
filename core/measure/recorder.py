"""Recording what a run costs: one context manager around the training, and marks inside it."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import CoreError
from core.files import write_text
from core.measure import meters, trace
from core.measure.host import Host
from core.measure.meters import SYS, Found
from core.measure.sampler import Sampler
from core.measure.settings import settings_of
from core.measure.summary import summarise
from core.measure.trace import Trace, to_csv
from core.spec import RunSpec

log = logging.getLogger(__name__)

FILE = "trace.csv"

# Of this process. A process trains one side of one run at a time; tests may nest.
_active: "list[Recorder]" = []


class Recorder:
    """What is recorded of one side of a run."""

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any] | None,
        found: Found,
        of: str = "device",
        timing: str = "measured",
        sys: Path = SYS,
    ) -> None:
        """folder: of the trace. settings: what the spec says in `measure`. found: the meter. of:
        what it measures. timing: what the run's times are; of an emulated one, so is its energy."""
        self._settings = settings_of(settings)
        self._meter = found.meter
        self._sampler: Sampler | None = None
        self._trace: Trace | None = None
        self._host = Host(sys)
        self._facts: dict[str, Any] = {"of": of, "why": found.why}
        if self._meter is not None:
            kind = timing if self._meter.kind == "measured" else self._meter.kind
            self._facts |= {"kind": kind, "meter": self._meter.title}
            self._facts["rails"] = list(self._meter.rails)
        if self._settings["interval_s"] is None:
            self._facts["why"] = "sampling is switched off (measure.interval_s)"
            return
        self._trace = Trace(folder / FILE)
        self._sampler = Sampler(self._trace, self._meter, self._host, self._settings["interval_s"])

    def start(self) -> None:
        """Measure the idle power, where nothing was trained before; then sample."""
        if self._sampler is None or self._trace is None:
            return
        if self._meter is None:
            log.info("energy is not measured: %s", self._facts["why"])
        known = next((row.detail for row in self._trace.rows if row.event == trace.IDLE), None)
        idle = float(known) if known else None
        if idle is None and not self._trace.rows:
            idle = self._sampler.idle_watts(self._settings["idle_s"])
        self._facts["idle_watts"] = None if idle is None else round(idle, 3)
        self._sampler.start()

    def stop(self) -> None:
        """Nothing is recorded any more."""
        if self._sampler is not None:
            self._sampler.stop()

    def begin(self, step: int) -> None:
        """See `begin` of this module."""
        if self._sampler is not None:
            self._sampler.begin(step)
            if step == 0 and self._facts["idle_watts"] is not None:
                self._sampler.mark(trace.IDLE, str(self._facts["idle_watts"]))

    def mark(self, event: str, detail: str) -> None:
        """See `mark` of this module."""
        if self._sampler is not None:
            self._sampler.mark(event, detail)

    def summary(self, run_s: float = 0.0) -> dict[str, Any]:
        """The section `measure` of the result. run_s: seconds of the run by its own account, of
        which the trace may cover less."""
        rows = list(self._trace.rows) if self._trace else []
        known = self._host.throttling.known
        least = self._settings["least_coverage"]
        return summarise(rows, run_s, self._facts, least, known)

    def save(self, path: Path) -> None:
        """Write the trace so far to a file. Raises StorageError."""
        if self._trace is not None and self._trace.rows:
            write_text(path, to_csv(self._trace.rows))


@contextmanager
def measured(
    folder: Path,
    spec: RunSpec,
    side: str = "device",
    of: str = "device",
    shared: bool = False,
) -> Iterator[Recorder]:
    """Record what the training inside costs, into trace.csv in `folder`, from where an earlier
    process left it. side: the key of the spec that names the device. of: what a meter of this
    machine measures. shared: whether another side on this machine has the meter.

    Raises StorageError when the folder cannot be written.
    """
    timing = spec[side].get("timing") or spec["timing"]
    section = spec.content.get("measure")
    if shared:
        found = Found(None, "this side shares a machine with the other, whose meter counts both")
    elif settings_of(section)["interval_s"] is None:
        found = Found(None)
    else:
        found = meters.find(spec[side].get("meter"))
    recorder = Recorder(folder, section, found, of, timing)
    recorder.start()
    _active.append(recorder)
    try:
        yield recorder
    finally:
        _active.remove(recorder)
        recorder.stop()


def begin(step: int) -> None:
    """The run of this process is about to take this step, from 0, or goes on there from a snapshot.
    Nothing is recorded before; what was recorded after that snapshot is dropped."""
    for recorder in _active:
        recorder.begin(step)


def mark(event: str, detail: object = "") -> None:
    """Something happened in the run of this process: a word of core/measure/trace.py. A snapshot is
    marked before it is written, with its step, so that a run can always go back to its mark."""
    for recorder in _active:
        recorder.mark(event, str(detail))


def summary() -> dict[str, Any] | None:
    """What the run of this process cost so far; None where nothing is recorded."""
    return _active[-1].summary() if _active else None


def copy_trace(folder: Path, out: Path) -> None:
    """Copy the trace of another process from its folder; nothing where there is none."""
    try:
        rows = trace.load(folder / FILE)
    except CoreError:
        return
    write_text(out, to_csv(rows))
