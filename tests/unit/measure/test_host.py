"""Memory and processor time of processes; temperature, clocks, throttling."""

import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.measure.host import Host
from core.measure.processes import LOOK_EVERY_S, Processes, accelerator_mib
from core.measure.throttling import Throttling
from tests.unit.measure import recorded

MIB = 2**20


@pytest.fixture
def spawn() -> Iterator[Any]:
    """Starts Python with a line of code, and waits for its word."""
    started = []

    def start(code: str, **more: Any) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            **more,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        return process

    yield start
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


HOLDS = "data = bytearray(b'x') * ({} << 20); print('there', flush=True); input()"


def test_memory_that_a_child_takes_is_in_the_tree(spawn: Any) -> None:
    processes = Processes()
    before, _ = processes.memory(0)
    spawn(HOLDS.format(200))
    after, peak = processes.memory(LOOK_EVERY_S + 1)
    assert 200 < after - before < 260  # the interpreter itself takes some
    assert peak >= after


def test_children_of_children_count(spawn: Any) -> None:
    processes = Processes()
    before, _ = processes.memory(0)
    inner = HOLDS.format(150)
    spawn(
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {inner!r}], "
        "stdin=subprocess.PIPE); input(); p.stdin.close(); p.wait()"
    )
    after, _ = processes.memory(LOOK_EVERY_S + 1)
    assert 150 < after - before < 240


def test_another_side_of_the_run_does_not_count(spawn: Any) -> None:
    processes = Processes()
    before, _ = processes.memory(0)
    spawn(HOLDS.format(200), start_new_session=True)
    after, _ = processes.memory(LOOK_EVERY_S + 1)
    assert after - before < 50


def test_a_child_that_has_ended_counts_nothing(spawn: Any) -> None:
    processes = Processes()
    child = spawn(HOLDS.format(100))
    held, _ = processes.memory(0)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert held - processes.memory(0.1)[0] > 90


def test_a_peak_between_two_samples_is_seen() -> None:
    processes = Processes()
    now, _ = processes.memory(0)
    more = max(0.0, processes._highest - now) + 100  # MiB, above whatever this process has had
    block: Any = np.ones(round(more * MIB / 8))
    del block
    after, peak = processes.memory(1)
    assert after < now + more - 50
    assert peak == pytest.approx(now + more, abs=20)
    assert processes.memory(2)[1] < peak - 50  # it is over


def test_processor_time_is_in_percent_of_one_core() -> None:
    processes = Processes()
    assert processes.cpu_percent(time.monotonic()) is None
    begun, spent = time.monotonic(), time.process_time()
    while time.process_time() - spent < 0.4:
        sum(range(1000))
    seconds = time.monotonic() - begun
    assert processes.cpu_percent(time.monotonic()) == pytest.approx(40 / seconds, rel=0.25)


def test_memory_of_the_accelerator_is_what_the_framework_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is none here: modules with the answers of one."""
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert accelerator_mib() is None
    cuda = types.SimpleNamespace(
        is_initialized=lambda: True,
        memory_allocated=lambda: 300 * MIB,
        max_memory_allocated=lambda: 700 * MIB,
    )
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    assert accelerator_mib() == (300, 700)
    experimental = types.SimpleNamespace(
        get_memory_info=lambda name: {"current": 5 * MIB, "peak": 9 * MIB} if name == "GPU:0" else 0
    )
    config = types.SimpleNamespace(
        experimental=experimental, list_logical_devices=lambda kind: ["GPU:0"] * (kind == "GPU")
    )
    cuda.is_initialized = lambda: False
    monkeypatch.setitem(sys.modules, "tensorflow", types.SimpleNamespace(config=config))
    assert accelerator_mib() == (5, 9)
    config.list_logical_devices = lambda kind: []
    assert accelerator_mib() is None


def test_the_framework_of_this_environment_has_no_accelerator_here_or_tells_of_it() -> None:
    pytest.importorskip("torch")
    import torch

    assert (accelerator_mib() is not None) == torch.cuda.is_initialized()


# Temperature and clocks


def test_the_hottest_zone_counts_but_none_that_is_no_temperature(tmp_path: Path) -> None:
    host = Host(recorded.tx2(tmp_path))
    assert host.celsius() == 38.5  # not the 100 °C that its PMIC always tells
    assert host.mhz() == pytest.approx((2035.2 + 345.6) / 2)
    recorded.tree(tmp_path, {"class/thermal/thermal_zone1/temp": 71500})
    assert host.celsius() == 71.5


def test_a_machine_that_tells_nothing_has_no_temperature(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert (host.celsius(), host.mhz(), host.throttling.known) == (None, None, False)
    assert host.throttling.reasons() == []


def test_a_zone_that_cannot_be_read_for_once_is_left_out(tmp_path: Path) -> None:
    host = Host(recorded.tx2(tmp_path))
    recorded.tree(tmp_path, {"class/thermal/thermal_zone0/temp": ""})
    assert host.celsius() == 37


# Throttling


def test_what_was_before_the_run_is_not_of_the_run(tmp_path: Path) -> None:
    throttling = Throttling(recorded.intel(tmp_path), pi=False)
    assert throttling.known
    assert throttling.reasons() == []
    recorded.tree(tmp_path, {"devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": 3})
    assert throttling.reasons() == ["core too hot"]
    assert throttling.reasons() == []  # it is over


def test_over_current_of_an_orin_and_cooling_of_a_tx2_are_seen(tmp_path: Path) -> None:
    orin = Throttling(recorded.orin(tmp_path / "orin"), pi=False)
    recorded.tree(tmp_path / "orin", {"class/hwmon/hwmon3/oc3_event_cnt": 40})
    assert orin.reasons() == ["over-current (oc3)"]
    tx2 = Throttling(recorded.tx2(tmp_path / "tx2"), pi=False)
    assert tx2.reasons() == []  # its fan turns, which slows nothing
    recorded.tree(tmp_path / "tx2", {"class/thermal/cooling_device0/cur_state": 3})
    assert tx2.reasons() == ["cooled by cpu-balanced"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("0x0", "0x0", []),
        ("0x0", "0x50005", ["undervoltage", "throttled by the firmware"]),
        ("0x50000", "0x50000", []),  # since the board was started, but not in the run
        ("0x50000", "0x70000", ["processor clock capped"]),  # between two looks
        ("0x0", "0x80008", ["soft temperature limit"]),
        ("0x0", "nonsense", []),
    ],
)
def test_the_firmware_of_a_raspberry_pi_tells_bit_by_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, said: list[str]
) -> None:
    folder = recorded.firmware(tmp_path / "bin", {"get_throttled": f"throttled={before}\n"})
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    host = Host(recorded.raspberry_pi(tmp_path / "sys"))
    assert host.throttling.known
    assert host.throttling.reasons() == []
    recorded.firmware(folder, {"get_throttled": f"throttled={after}\n"})
    assert host.throttling.reasons() == said
    assert host.celsius() == 62.75
