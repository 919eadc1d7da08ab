"""A run that is recorded: what its result says, whatever happens on the way."""

import json
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import DataError, DeviceError, StorageError
from core.measure import meters, settings, trace
from core.measure import recorder as recording
from core.measure.attach import attach, with_power
from core.measure.meter import Reading
from core.measure.meters import Found
from core.measure.recorder import FILE, Recorder, begin, copy_trace, mark, measured, summary
from core.measure.stated import Stated
from core.measure.summary import summarise
from core.measure.trace import Row, load, samples, to_csv
from core.spec import RunSpec
from tests.unit.measure import recorded as boards

FAST = {"interval_s": 0.05, "idle_s": 0.1}
WATTS = 8.0


class Meter(Stated):
    """A meter that measures, always the same, until it is broken."""

    kind = "measured"
    broken = False

    def __init__(self, watts: float) -> None:
        super().__init__(watts)
        self.title = "a meter"

    def read(self) -> Reading:
        if self.broken:
            raise DeviceError("a meter: unplugged")
        return super().read()


def make(folder: Path, found: Found | None = None, **settings: Any) -> Recorder:
    return Recorder(folder, FAST | settings, found or Found(Meter(WATTS)), sys=folder / "sys")


def spec_of(measure: Mapping[str, Any] | None = None, **device: Any) -> RunSpec:
    content: dict[str, Any] = {"device": {"timing": "measured", **device}}
    return RunSpec(content | ({"measure": dict(measure)} if measure else {}))


def trained(recorder: Recorder, step: int, seconds: float, snapshot: int | None = None) -> None:
    """A session of a run from this step on; a snapshot in its middle."""
    recorder.start()
    recorder.begin(step)
    time.sleep(seconds / 2)
    if snapshot is not None:
        recorder.mark(trace.SNAPSHOT, str(snapshot))
    time.sleep(seconds / 2)
    recorder.stop()


def test_joules_are_power_times_time_and_the_idle_power_is_told_apart(tmp_path: Path) -> None:
    recorder = make(tmp_path)
    trained(recorder, 0, 0.5)
    found = recorder.summary(run_s=0.5)
    energy = found["energy"]
    assert energy["why"] is None
    assert energy["joules"] == pytest.approx(WATTS * found["seconds"], rel=0.02)
    assert energy["mean_watts"] == pytest.approx(WATTS, rel=1e-3)  # digits of the trace
    assert energy["idle_watts"] == pytest.approx(WATTS)
    assert energy["above_idle_joules"] == pytest.approx(0, abs=0.01)
    assert energy["coverage"] == pytest.approx(1, abs=0.02)
    assert (energy["kind"], energy["meter"], energy["of"]) == ("measured", "a meter", "device")
    assert found["sessions"] == 1
    assert found["memory"]["peak_mib"] >= found["memory"]["mean_mib"] > 10
    assert len(samples(load(tmp_path / FILE))) >= 6


def test_a_run_that_was_killed_and_goes_on_counts_what_it_did_once(tmp_path: Path) -> None:
    first = make(tmp_path)
    trained(first, 0, 0.6, snapshot=10)
    at = next(row for row in first._trace.rows if row.event == trace.SNAPSHOT)
    time.sleep(0.3)  # between two processes nothing is counted
    second, begun = make(tmp_path), time.monotonic()
    trained(second, 10, 0.4)
    taken = time.monotonic() - begun
    found = second.summary()
    assert found["sessions"] == 2
    assert 0.4 <= found["seconds"] - at.seconds <= taken
    assert found["energy"]["joules"] == pytest.approx(WATTS * found["seconds"], rel=0.02)
    assert found["energy"]["idle_watts"] == pytest.approx(WATTS)  # that of the first start
    rows = load(tmp_path / FILE)
    assert [row.event for row in rows if row.event] == ["begin", "idle", "snapshot", "begin"]
    assert all(a.seconds <= b.seconds for a, b in pairwise(rows))


def test_a_session_that_is_lost_in_the_same_process_goes_back_too(tmp_path: Path) -> None:
    recorder = make(tmp_path)
    recorder.start()
    recorder.begin(0)
    recorder.mark(trace.SNAPSHOT, "5")
    time.sleep(0.4)
    begun = time.monotonic()
    recorder.begin(5)
    time.sleep(0.2)
    recorder.stop()
    taken = time.monotonic() - begun
    found = recorder.summary()
    mark_at = next(row.seconds for row in load(tmp_path / FILE) if row.event == trace.SNAPSHOT)
    assert 0.2 <= found["seconds"] - mark_at <= taken
    assert found["energy"]["joules"] == pytest.approx(WATTS * found["seconds"], rel=0.05)


def test_a_run_that_begins_again_forgets_what_was_before(tmp_path: Path) -> None:
    trained(make(tmp_path), 0, 0.4, snapshot=10)
    again, begun = make(tmp_path), time.monotonic()
    trained(again, 0, 0.2)
    assert 0.2 <= again.summary()["seconds"] <= time.monotonic() - begun
    assert again.summary()["sessions"] == 1


def test_a_run_of_which_the_beginning_was_not_sampled_has_no_joules(tmp_path: Path) -> None:
    recorder = make(tmp_path)
    trained(recorder, 40, 0.1)
    found = recorder.summary()
    said = "sampling began at step 40 of the run: what was before is not known"
    assert found["energy"]["joules"] is None
    assert found["energy"]["why"] == said
    assert found["memory"]["why"] == said


def test_a_run_that_was_finished_before_it_could_be_sampled_says_so(tmp_path: Path) -> None:
    recorder = make(tmp_path)
    recorder.start()
    recorder.stop()
    found = recorder.summary(30.0)
    assert found["energy"]["joules"] is None
    assert "nothing was sampled" in found["energy"]["why"]
    assert found["memory"]["peak_mib"] is None
    assert not (tmp_path / "out.csv").exists()
    recorder.save(tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_too_little_coverage_gives_no_joules_and_says_how_little(tmp_path: Path) -> None:
    recorder = make(tmp_path)
    trained(recorder, 0, 0.2)
    energy = recorder.summary(run_s=10.0)["energy"]
    assert energy["joules"] is None
    assert energy["coverage"] < 0.1
    assert "of the run, and 90 % are needed (measure.least_coverage)" in energy["why"]
    generous = make(tmp_path, least_coverage=0.001)
    assert generous.summary(run_s=10.0)["energy"]["joules"] > 0


def test_no_meter_means_no_joules_and_the_reason(tmp_path: Path) -> None:
    recorder = make(tmp_path, Found(None, "there is none"))
    trained(recorder, 0, 0.1)
    found = recorder.summary(0.1)
    assert (found["energy"]["joules"], found["energy"]["why"]) == (None, "there is none")
    assert found["memory"]["peak_mib"] > 0
    assert all(row.joules is None for row in load(tmp_path / FILE))


def test_a_meter_that_breaks_costs_coverage_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    meter = Meter(WATTS)
    recorder = make(tmp_path, Found(meter))
    with caplog.at_level(logging.WARNING):
        recorder.start()
        recorder.begin(0)
        time.sleep(0.2)
        meter.broken = True
        time.sleep(0.4)
        recorder.stop()
    assert caplog.text.count("a meter: unplugged") == 1
    energy = recorder.summary()["energy"]
    assert energy["joules"] is None
    assert 0 < energy["coverage"] < 0.9


def test_a_meter_that_is_dear_to_read_is_read_less_often(tmp_path: Path) -> None:
    meter = Meter(WATTS)
    meter.every_s = 0.3
    recorder = make(tmp_path, Found(meter))
    trained(recorder, 0, 0.8)
    rows = samples(load(tmp_path / FILE))
    known = [row for row in rows if row.watts is not None]
    assert 3 <= len(known) <= len(rows) / 2
    assert known[0] == rows[0]
    assert known[-1] == rows[-1]
    energy = recorder.summary()["energy"]
    assert energy["joules"] == pytest.approx(WATTS * rows[-1].seconds, rel=0.02)


def test_a_counter_that_wraps_in_a_run_gives_its_joules(tmp_path: Path) -> None:
    start, size = 262143328850 - 1_000_000, 262143328850
    root = boards.rapl(tmp_path / "sys", {"intel-rapl:0": start})
    recorder = make(tmp_path, meters.find(sys=root))
    recorder.start()
    boards.rapl(root, {"intel-rapl:0": start + 500_000})  # idle, before the run
    recorder.begin(0)
    time.sleep(0.1)
    boards.rapl(root, {"intel-rapl:0": (start + 4_000_000) % size})
    recorder.stop()
    energy = recorder.summary()["energy"]
    assert energy["joules"] == pytest.approx(3.5)
    assert energy["rails"][:2] == ["package-0", "package-0/dram"]


def test_stated_power_is_simulated_and_that_of_an_emulated_run_emulated(tmp_path: Path) -> None:
    stated = make(tmp_path / "a", Found(Stated(5)))
    trained(stated, 0, 0.1)
    energy = stated.summary()["energy"]
    assert (energy["kind"], energy["meter"]) == ("simulated", "stated 5 W × time")
    emulated = Recorder(tmp_path / "b", FAST, Found(Meter(1)), "edge", "emulated")
    trained(emulated, 0, 0.1)
    assert emulated.summary()["energy"]["kind"] == "emulated"


def test_throttling_is_in_the_result(tmp_path: Path) -> None:
    root = boards.intel(tmp_path / "sys")
    recorder = make(tmp_path)
    recorder.start()
    recorder.begin(0)
    time.sleep(0.1)
    boards.intel(root, count=4)
    recorder.stop()
    found = recorder.summary()
    assert found["throttled"] is True
    assert found["throttled_why"] == ["core too hot", "package too hot"]
    cool = make(tmp_path)
    trained(cool, 0, 0.1)
    assert cool.summary()["throttled"] is False
    unknown = Recorder(tmp_path / "b", FAST, Found(None, "none"), sys=tmp_path / "nowhere")
    trained(unknown, 0, 0.1)
    assert unknown.summary()["throttled"] is None


def test_a_full_disk_costs_the_trace_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = make(tmp_path)
    recorder.start()
    real = recording.Trace.append

    def full(self: trace.Trace, row: Row) -> None:
        self.rows.append(row)
        raise StorageError("the disk is full: trace.csv was not written; free some space")

    monkeypatch.setattr(recording.Trace, "append", full)
    with caplog.at_level(logging.WARNING):
        recorder.begin(0)
        time.sleep(0.2)
    monkeypatch.setattr(recording.Trace, "append", real)
    recorder.stop()
    assert caplog.text.count("the trace of the run is not written: the disk is full") == 1
    assert recorder.summary()["energy"]["joules"] is not None


def test_sampling_can_be_switched_off(tmp_path: Path) -> None:
    with measured(tmp_path, spec_of({"interval_s": None})) as recorder:
        begin(0)
        mark(trace.EPOCH, 1)
    found = recorder.summary(10)
    assert found["energy"]["why"] == "sampling is switched off (measure.interval_s)"
    assert not (tmp_path / FILE).exists()


def test_marks_reach_the_run_of_this_process_and_nothing_else(tmp_path: Path) -> None:
    begin(0)
    mark(trace.EPOCH, 1)  # nobody records
    assert summary() is None
    spec = spec_of(FAST, meter={"kind": "stated", "watts": 3})
    with measured(tmp_path, spec) as recorder:
        mark(trace.EPOCH, 1)  # before the run begins
        begin(0)
        mark(trace.SELECTION, 1)
        mark(trace.CUT, "4 int8 none")
        assert summary() is not None
    events = [(row.event, row.detail) for row in load(tmp_path / FILE) if row.event]
    assert events[0] == ("begin", "0")
    assert events[-2:] == [("selection", "1"), ("cut", "4 int8 none")]
    assert recorder.summary()["energy"]["kind"] == "simulated"


def test_an_error_in_the_run_ends_the_recording(tmp_path: Path) -> None:
    def train() -> None:
        with measured(tmp_path, spec_of(FAST)):
            begin(0)
            raise KeyError

    with pytest.raises(KeyError):
        train()
    assert "sampler" not in [thread.name for thread in threading.enumerate()]
    assert summary() is None


def test_one_of_two_sides_on_a_machine_leaves_the_meter_to_the_other(tmp_path: Path) -> None:
    spec = RunSpec({"timing": "emulated", "cloud": {"name": "local"}, "measure": FAST})
    with measured(tmp_path, spec, "cloud", "cloud", shared=True) as recorder:
        begin(0)
    assert "shares a machine with the other" in recorder.summary()["energy"]["why"]
    copy_trace(tmp_path, tmp_path / "copy.csv")
    assert load(tmp_path / "copy.csv") == load(tmp_path / FILE)
    copy_trace(tmp_path / "nowhere", tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()


def test_a_spec_holds_only_what_differs_from_what_holds_anyway() -> None:
    usual = settings.defaults()
    assert settings.for_spec(usual) == {}
    assert settings.for_spec(usual | {"interval_s": 1}) == {"measure": {"interval_s": 1}}
    assert settings.settings_of({"interval_s": 1}) == usual | {"interval_s": 1}
    assert settings.settings_of(None) == usual


# A meter that is read after the run


def rows_at(*seconds: float, session: int = 1, start: float = 1000.0) -> list[Row]:
    rows = [Row(session, s, start + s, mib=50.0, peak_mib=60.0) for s in seconds]
    return [replace(rows[0], event=trace.BEGIN, detail="0"), *rows[1:]]


def test_the_file_of_another_meter_is_laid_beside_the_run_by_the_clock() -> None:
    times = 1000 + np.arange(0, 21, 1.0)
    rows = with_power(rows_at(0.5, 4.0, 10.5), times, 2 * (times - 1000))  # a ramp of 2 W/s
    assert rows[-1].joules == pytest.approx(10.5**2 - 0.5**2)
    assert rows[-1].covered_s == pytest.approx(10)
    assert rows[1].watts == pytest.approx((4.0**2 - 0.5**2) / 3.5)


def test_gaps_of_the_file_and_what_is_beyond_it_are_not_covered() -> None:
    times = np.array([1000.0, 1001, 1002, 1012, 1013])
    rows = with_power(rows_at(0, 1.5, 7, 12.5, 20), times, np.full(5, 4.0))
    assert rows[-1].covered_s == pytest.approx(3)
    assert rows[-1].joules == pytest.approx(12)
    assert rows[2].watts is not None
    assert rows[-1].watts == pytest.approx(4)


def test_time_between_two_sessions_counts_nothing() -> None:
    times = 1000 + np.arange(0, 101, 1.0)
    second = [replace(row, event="", detail="") for row in rows_at(2, 4, session=2, start=1050)]
    rows = with_power([*rows_at(0, 2), *second], times, np.full(101, 5.0))
    assert rows[-1].covered_s == pytest.approx(4)
    assert rows[-1].joules == pytest.approx(20)


def finished(folder: Path) -> Path:
    rows = rows_at(*[i / 2 for i in range(21)])
    folder.mkdir()
    (folder / FILE).write_text(to_csv(rows))
    section = summarise(rows, 10.0, {"why": "no meter", "of": "device"}, 0.9, False)
    result = {"spec": {"kind": "elastic", "device": {"timing": "measured"}}, "measure": section}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_attaching_a_file_gives_a_finished_run_its_joules(tmp_path: Path) -> None:
    run, file = finished(tmp_path / "run"), tmp_path / "usb.csv"
    file.write_text("time,watts\n" + "".join(f"{1000 + i},6\n" for i in range(-2, 14)))
    found = attach(run, file, idle_watts=2)
    assert found["joules"] == pytest.approx(60)
    assert found["above_idle_joules"] == pytest.approx(40)
    assert (found["kind"], found["meter"], found["coverage"]) == ("measured", "CSV usb.csv", 1)
    assert json.loads((run / "result.json").read_text())["measure"]["energy"] == found
    assert load(run / FILE)[-1].joules == pytest.approx(60)
    assert attach(run, file)["joules"] == pytest.approx(60)  # again: the same


def test_what_an_outside_meter_saw_is_still_of_both_sides_of_a_run(tmp_path: Path) -> None:
    run, file = finished(tmp_path / "run"), tmp_path / "usb.csv"
    result = json.loads((run / "result.json").read_text())
    result["spec"] = {"kind": "split", "timing": "measured"}
    result["measure"]["energy"]["of"] = "both sides"
    (run / "result.json").write_text(json.dumps(result))
    file.write_text("time,watts\n" + "".join(f"{1000 + i},6\n" for i in range(-2, 14)))
    assert attach(run, file)["of"] == "both sides"


def test_a_file_of_another_day_gives_none(tmp_path: Path) -> None:
    run, file = finished(tmp_path / "run"), tmp_path / "usb.csv"
    file.write_text("time,watts\n" + "".join(f"{9000 + i},6\n" for i in range(10)))
    found = attach(run, file)
    assert found["joules"] is None
    assert "power is known for 0 % of the run" in found["why"]


def test_attaching_to_what_is_no_measured_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no result with a section `measure`"):
        attach(tmp_path, tmp_path / "usb.csv")
    run = finished(tmp_path / "run")
    rows = load(run / FILE)
    late = [*rows[:-1], replace(rows[-1], wall=rows[-1].wall + 3600)]
    (run / FILE).write_text(to_csv(late))
    (tmp_path / "usb.csv").write_text("time,watts\n1000,1\n1010,1\n")
    with pytest.raises(
        DataError, match="the clock of the device was set while the run was trained"
    ):
        attach(run, tmp_path / "usb.csv")
