"""Every reader of power on what real boards show, and every reason why there is no reading."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError, DataError, DeviceError
from core.measure import csv_meter, ina3221, meters, pmic, rapl
from core.measure.csv_meter import CsvMeter
from core.measure.pmic import rails_of
from core.measure.shelly import SECONDS, Shelly
from core.measure.stated import Stated
from tests.unit.measure import recorded

ROOT = Path("/sys")


def readable(path: Path) -> bool:
    return os.access(path, os.R_OK)


# INA3221


def test_the_old_layout_of_a_tx2_is_read_by_the_rail_of_the_whole_module(tmp_path: Path) -> None:
    meter = ina3221.find(recorded.tx2(tmp_path))
    assert meter is not None
    assert meter.rails == ("VDD_IN",)
    assert meter.title == "INA3221, VDD_IN"
    assert meter.read().watts == pytest.approx(3.057)


def test_rails_that_are_named_are_added_up(tmp_path: Path) -> None:
    meter = ina3221.find(recorded.tx2(tmp_path), ["VDD_IN", "VDD_MUX"])
    assert meter is not None
    assert meter.read().watts == pytest.approx(7.257)


def test_without_a_power_file_it_is_voltage_times_current(tmp_path: Path) -> None:
    recorded.tx2(tmp_path)
    for path in tmp_path.rglob("in_power*_input"):
        path.unlink()
    meter = ina3221.find(tmp_path)
    assert meter is not None
    assert meter.read().watts == pytest.approx(3.057, rel=0.01)  # of whole milliamperes


def test_the_new_layout_of_an_orin_is_voltage_times_current(tmp_path: Path) -> None:
    meter = ina3221.find(recorded.orin(tmp_path))
    assert meter is not None
    assert meter.rails == ("VDD_IN",)
    assert meter.read().watts == pytest.approx(4.984 * 1.856)


def test_a_sum_of_shunt_voltages_is_no_rail(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it has VDD_CPU_GPU_CV, VDD_IN, VDD_SOC"):
        ina3221.find(recorded.orin(tmp_path), ["sum of shunt voltages"])


def test_a_board_with_rails_that_nobody_knows_asks_which_to_add(tmp_path: Path) -> None:
    recorded.orin(tmp_path)
    next(tmp_path.rglob("in1_label")).write_text("VIN_NEW\n")
    with pytest.raises(DeviceError, match="name those that add up to the whole board in meter"):
        ina3221.find(tmp_path)


@pytest.mark.parametrize("content", ["", "many\n"])
def test_a_rail_that_gives_no_number_says_which(tmp_path: Path, content: str) -> None:
    meter = ina3221.find(recorded.tx2(tmp_path))
    assert meter is not None
    power = tmp_path / "bus/i2c/drivers/ina3221x/0-0041/iio:device1/in_power0_input"
    power.write_text(content)
    with pytest.raises(DeviceError, match=r"INA3221 rail VDD_IN: .* gave no number"):
        meter.read()


# RAPL


def test_packages_and_their_memory_are_added_up(tmp_path: Path) -> None:
    start = {"intel-rapl:0": 1_000_000, "intel-rapl:0:1": 500_000, "intel-rapl:1": 7_000_000}
    recorded.rapl(tmp_path, start)
    meter = rapl.find(tmp_path)
    assert meter is not None
    assert meter.rails == ("package-0", "package-0/dram", "package-1", "package-1/dram")
    assert meter.read().joules == 0
    more = {"intel-rapl:0": 3_000_000, "intel-rapl:0:1": 750_000, "intel-rapl:1": 7_500_000}
    recorded.rapl(tmp_path, more | {"intel-rapl:0:0": 9_000_000})  # cores are in the package
    assert meter.read().joules == pytest.approx(2 + 0.25 + 0.5)


def test_zones_that_are_named_are_taken(tmp_path: Path) -> None:
    meter = rapl.find(recorded.rapl(tmp_path, {}), ["psys"])
    assert meter is not None
    assert meter.title == "RAPL, psys"
    with pytest.raises(ConfigError, match=r"meter\.rails: RAPL has no zone gpu; it has package-0"):
        rapl.find(tmp_path, ["gpu"])


@hypothesis.settings(deadline=None)  # files, on a busy machine
@given(st.lists(st.integers(0, 65_000_000_000), max_size=30), st.integers(0, 65_532_610_986))
def test_a_counter_that_wraps_around_loses_nothing(steps: list[int], start: int) -> None:
    folder = Path(os.environ["PYTEST_RAPL"])
    size = 65_532_610_987  # of AMD
    (folder / "max_energy_range_uj").write_text(f"{size}\n")
    count = start
    (folder / "energy_uj").write_text(f"{count}\n")
    zone = rapl.Zone("package-0", folder)
    for step in steps:
        count += step
        (folder / "energy_uj").write_text(f"{count % size}\n")
        zone.joules()
    assert zone.joules() == pytest.approx(1e-6 * sum(steps))


@pytest.fixture(autouse=True)
def rapl_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the examples of a test, which share one."""
    monkeypatch.setenv("PYTEST_RAPL", str(tmp_path_factory.mktemp("rapl")))


def test_a_counter_that_root_alone_may_read_says_how_to_allow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels since 5.10 show it to root only. Root reads everything: the refusal is the kernel's,
    by its error."""
    recorded.rapl(tmp_path, {})
    real = Path.read_text

    def refused(self: Path, *words: Any, **more: Any) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return real(self, *words, **more)

    if os.getuid():
        for path in tmp_path.rglob("energy_uj"):
            path.chmod(0)
    else:
        monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(DeviceError, match=r"may not be read by this user; allow it \(chmod a\+r"):
        rapl.find(tmp_path)
    found = meters.find(sys=tmp_path)
    assert found.meter is None
    assert "energy_uj may not be read" in str(found.why)
    assert "power: RAPL cannot be used" in meters.sensors(tmp_path)[0]


@pytest.mark.skipif(
    not readable(ROOT / "class/powercap/intel-rapl:0/energy_uj"),
    reason="this machine has no RAPL that may be read",
)
def test_the_real_counter_of_this_machine_rises_by_a_plausible_power() -> None:
    meter = rapl.find(ROOT)
    assert meter is not None
    before, start = meter.read().joules, time.monotonic()
    end = start + 0.5
    while time.monotonic() < end:
        sum(range(1000))
    after, seconds = meter.read().joules, time.monotonic() - start
    assert before is not None
    assert after is not None
    assert 0.1 < (after - before) / seconds < 2000


# PMIC


def test_rails_of_a_raspberry_pi_5_are_added_up_where_volts_and_amperes_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recorded.firmware(tmp_path / "bin", {"pmic_read_adc": recorded.PMIC})
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    meter = pmic.find(recorded.raspberry_pi(tmp_path / "sys"))
    assert meter is not None
    assert len(meter.rails) == 12
    assert not {"EXT5V", "BATT"} & set(meter.rails)
    assert rails_of(recorded.PMIC)["VDD_CORE"] == pytest.approx(5.03652 * 0.8936988)
    assert meter.read().watts == pytest.approx(5.9216, abs=1e-4)
    core = pmic.find(tmp_path / "sys", ["VDD_CORE"])
    assert core is not None
    assert core.read().watts == pytest.approx(4.5011, abs=1e-4)
    with pytest.raises(ConfigError, match=r"meter\.rails: the PMIC has no rail USB; it has 3V7"):
        pmic.find(tmp_path / "sys", ["USB"])


def test_other_boards_are_not_asked(tmp_path: Path) -> None:
    model = "Raspberry Pi 4 Model B Rev 1.4"
    assert pmic.find(recorded.raspberry_pi(tmp_path, model)) is None
    assert pmic.find(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ("EXT5V_V volt(24)=4.92450000V\n", 0, "told no currents: only a Raspberry Pi 5"),
        ("", 0, "told no currents"),
        ("VCHI initialization failed\n", 255, "must be in the group video"),
        ('error=1 error_msg="Command not registered"\n', 0, "failed .*not registered"),
    ],
)
def test_a_firmware_that_tells_nothing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, status: int, said: str
) -> None:
    folder = recorded.firmware(tmp_path / "bin", {"pmic_read_adc": answer}, status)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    with pytest.raises(DeviceError, match=said):
        pmic.find(recorded.raspberry_pi(tmp_path / "sys"))


def test_a_pi_without_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="not on the PATH; install raspi-utils"):
        pmic.find(recorded.raspberry_pi(tmp_path / "sys"))


# Smart plug


@pytest.fixture
def plug() -> Iterator[Callable[..., str]]:
    """Starts a plug on this machine that answers like one of the second generation."""
    servers = []

    def start(content: str = recorded.SHELLY, status: int = 200, delay: float = 0) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                known = parts.path == "/rpc/Switch.GetStatus" and parse_qs(parts.query)["id"]
                time.sleep(delay)
                code, body = (status, content) if known == ["0"] else (
                    404, '{"code":404,"message":"No handler for Switch.GetStatus"}',
                )  # fmt: skip
                self.send_response(code)
                if code == 401:
                    self.send_header("WWW-Authenticate", 'Digest qop="auth", realm="shellyplug"')
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """A client that no longer waits is what some tests are about."""

        server = Server(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_plug_tells_power_and_its_own_count(plug: Callable[..., str]) -> None:
    address = plug()
    meter = Shelly(address + "/")
    assert meter.title == f"smart plug {address.removeprefix('http://')}"
    for _ in range(3):
        reading = meter.read()
        assert reading.watts == 10.7
        assert reading.joules == pytest.approx(46791.262 * 3600)


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (recorded.SHELLY_UNMETERED, 200, "tells no power"),
        ('{"apower": "10"}', 200, "tells no power"),
        ('{"apower": NaN}', 200, "tells no power"),
        ("", 401, "wants a password; switch its authentication off"),
        ("", 302, "answered 302"),
        ("<html>a camera</html>", 200, "cannot be read: no JSON"),
        ("[1]", 200, "is no status of a switch"),
        ('{"apower": 10.7, "more": "' + "x" * 70_000 + '"}', 200, "cannot be read: no JSON"),
    ],
)
def test_what_is_no_plug_that_measures_is_refused(
    plug: Callable[..., str], content: str, status: int, said: str
) -> None:
    with pytest.raises(DeviceError, match=said):
        Shelly(plug(content, status))


def test_a_switch_that_there_is_not_is_refused(plug: Callable[..., str]) -> None:
    with pytest.raises(DeviceError, match=r"answered 404 to .*id=3"):
        Shelly(plug(), 3)


def test_a_plug_that_is_slow_or_away_is_an_error(plug: Callable[..., str]) -> None:
    with pytest.raises(DeviceError, match="no answer in 1 s"):
        Shelly(plug(delay=SECONDS + 0.5))
    with pytest.raises(DeviceError, match="no connection"):
        Shelly("http://127.0.0.1:9")


@pytest.mark.parametrize("address", ["192.168.1.2", "https://plug", "http://me:secret@plug", ""])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="must be http://HOST"):
        Shelly(address)


# CSV


def test_the_newest_whole_line_of_a_growing_file_is_the_power_now(tmp_path: Path) -> None:
    file, now = tmp_path / "meter.csv", time.time()
    file.write_text(f"time,watts\n{now - 2},4\n{now - 1},5.5\n{now},6")  # the last is half written
    assert CsvMeter(file).read().watts == 5.5


def test_a_file_that_is_no_longer_written_is_no_power(tmp_path: Path) -> None:
    file = tmp_path / "meter.csv"
    with pytest.raises(DeviceError, match="does not exist: start what writes it before the run"):
        CsvMeter(file)
    file.write_text("time,watts\n")
    with pytest.raises(DeviceError, match="has no line `time,watts` at its end"):
        CsvMeter(file).read()
    file.write_text(f"time,watts\n{time.time() - 60},4\n")
    with pytest.raises(DeviceError, match="the newest line is 60 s old"):
        CsvMeter(file).read()


def test_times_are_seconds_or_iso_8601(tmp_path: Path) -> None:
    file = tmp_path / "meter.csv"
    file.write_text("time, watts,volts\n2026-05-01T12:00:00Z,4,5\n2026-05-01T14:00:01+02:00,5,5\n")
    times, watts = csv_meter.load(file)
    assert times[0] == datetime(2026, 5, 1, 12, tzinfo=timezone.utc).timestamp()
    assert np.diff(times).tolist() == [1]
    assert watts.tolist() == [4, 5]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("", "must begin with the line `time,watts`"),
        ("t,w\n1,2\n2,2\n", "must begin with the line `time,watts`"),
        ("time,watts\n1,2\n", "two lines or more"),
        ("time,watts\n1,2\n1,3\n", "the times must rise"),
        ("time,watts\n1,2\n2,much\n", "line 3: could not convert"),
        ("time,watts\n1\n", "line 2: list index"),
        ("time,watts\n1,inf\n", "line 2: 1,inf are no finite numbers"),
        ("time,watts\n2026-05-01T12:00:00,2\n", "has no offset from UTC; write it as"),
        ("time,watts\nnoon,2\n", "line 2: Invalid isoformat"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(
    tmp_path: Path, content: str | None, said: str
) -> None:
    file = tmp_path / "meter.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DataError, match=said):
        csv_meter.load(file)


# Which meter


def test_what_is_part_of_a_board_is_found_without_being_named(tmp_path: Path) -> None:
    assert isinstance(meters.find(sys=recorded.tx2(tmp_path / "a")).meter, ina3221.Ina3221)
    assert isinstance(meters.find(sys=recorded.rapl(tmp_path / "b", {})).meter, rapl.Rapl)


def test_a_machine_without_a_sensor_says_what_was_looked_for(tmp_path: Path) -> None:
    found = meters.find(sys=tmp_path)
    assert found.meter is None
    assert str(found.why).startswith("no power sensor on this machine (INA3221, PMIC, RAPL)")
    assert meters.sensors(tmp_path) == []


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"kind": "none"}, "says meter"),
        ({"kind": "rapl"}, "this machine has no RAPL"),
        ({"kind": "ina3221", "rails": ["VDD_X"]}, "has no rail VDD_X"),
        ({"kind": "shelly", "address": "http://127.0.0.1:9"}, "no connection"),
        ({"kind": "csv", "file": "nowhere.csv"}, "does not exist"),
    ],
)
def test_a_named_meter_that_is_not_there_costs_no_run_but_says_why(
    tmp_path: Path, entry: dict[str, Any], said: str
) -> None:
    found = meters.find(entry, recorded.tx2(tmp_path))
    assert found.meter is None
    assert said in str(found.why)


def test_named_meters_are_taken_in_the_place_of_what_is_found(
    tmp_path: Path, plug: Callable[..., str]
) -> None:
    recorded.tx2(tmp_path)
    stated = meters.find({"kind": "stated", "watts": 7.5}, tmp_path).meter
    assert isinstance(stated, Stated)
    assert (stated.kind, stated.read().watts) == ("simulated", 7.5)
    assert isinstance(meters.find({"kind": "shelly", "address": plug()}, tmp_path).meter, Shelly)
    file = tmp_path / "meter.csv"
    file.write_text("time,watts\n")
    assert isinstance(meters.find({"kind": "csv", "file": str(file)}, tmp_path).meter, CsvMeter)


def test_sensors_of_a_board_are_listed(tmp_path: Path) -> None:
    assert meters.sensors(recorded.tx2(tmp_path / "tx2")) == [
        "power: INA3221, VDD_IN",
        "temperature (3 zones)",
        "clock (2 cores)",
        "throttling: cooling devices",
    ]
    assert meters.sensors(recorded.orin(tmp_path / "orin"))[-3:] == [
        "throttling: over-current (oc1)",
        "throttling: over-current (oc2)",
        "throttling: over-current (oc3)",
    ]


def test_recorded_answers_are_json() -> None:
    assert json.loads(recorded.SHELLY)["apower"] == 10.7
