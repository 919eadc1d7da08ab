"""Where the settings come from, and that they are no part of what a run is."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from core import config as settings
from core import schema
from core.cli import main
from core.elastic import config as elastic_settings
from core.errors import ConfigError
from core.measure.settings import check_meter, defaults
from core.spec import RunSpec
from core.split import config as split_settings
from tests.unit.measure import recorded

ROOT = Path(__file__).parents[3]
DEVICES = ROOT / "config/devices"
PLUG = {"kind": "shelly", "address": "http://192.168.1.20"}


@pytest.fixture
def config() -> dict[str, Any]:
    """The shipped configuration."""
    return copy.deepcopy(yaml.safe_load((ROOT / "config/config.yaml").read_text()))


def specs(config: dict[str, Any], devices: dict[str, Any]) -> dict[str, RunSpec]:
    """A run of each kind."""
    key = elastic_settings.figures(config)["fig15a"].runs[0]
    own = settings.run_spec(config, key, DEVICES)
    own["device"] |= {k: v for k, v in devices["local"].items() if k == "meter"}
    split_key = split_settings.figures(config)["split_accuracy"].runs[0]
    contexts = ROOT / "config/contexts"
    split = split_settings.run_spec(config, split_key, devices, contexts)
    where = Path("spec.yaml")
    return {"elastic": RunSpec.checked(own, where), "split": RunSpec.checked(split, where)}


def test_the_shipped_settings_are_those_that_hold_without_any(config: dict[str, Any]) -> None:
    assert config["measure"] == defaults()
    for spec in specs(config, settings.read_devices(DEVICES)).values():
        assert "measure" not in spec.content  # specs of earlier versions are the same


def test_how_a_run_is_measured_is_in_its_spec_and_not_in_its_identity(
    config: dict[str, Any],
) -> None:
    devices = copy.deepcopy(settings.read_devices(DEVICES))
    usual = specs(config, devices)
    config["measure"]["interval_s"] = None
    devices["local"]["meter"] = PLUG
    for kind, spec in specs(config, devices).items():
        assert spec.content["measure"] == {"interval_s": None}
        side = "device" if kind == "elastic" else "edge"
        assert spec[side]["meter"] == PLUG
        assert spec.digest == usual[kind].digest


def test_profiles_are_not_measured_again_for_another_way_to_sample(config: dict[str, Any]) -> None:
    task = elastic_settings.figures(config)["fig15a"].runs[0].task
    devices, contexts = settings.read_devices(DEVICES), ROOT / "config/contexts"
    before = elastic_settings.profile_spec(config, "local", task, devices)
    split_before = split_settings.profile_spec(config, "imdb_bilstm", devices, contexts)
    config["measure"]["interval_s"] = 5
    metered = copy.deepcopy(devices)
    metered["local"]["meter"] = PLUG
    assert elastic_settings.profile_spec(config, "local", task, devices) == before
    after = split_settings.profile_spec(config, "imdb_bilstm", metered, contexts)
    assert after == split_before


@pytest.mark.parametrize(
    ("meter", "said"),
    [
        ({}, "missing kind"),
        ({"kind": "wattmeter"}, "must be one of ina3221, pmic, rapl, shelly, csv, stated, none"),
        ({"kind": "shelly"}, "missing address"),
        ({"kind": "csv"}, "missing file"),
        ({"kind": "stated"}, "missing watts"),
        ({"kind": "stated", "watts": 0}, "must be above 0"),
        ({"kind": "rapl", "rail": ["psys"]}, "unknown key 'meter.rail'.*did you mean 'rails'"),
    ],
)
def test_a_meter_that_is_misspelt_is_refused(meter: dict[str, Any], said: str) -> None:
    device = settings.read_devices(DEVICES)["local"] | {"meter": meter}
    with pytest.raises(ConfigError, match=said):
        schema.check(device, "device", [])


def test_a_sensor_that_a_device_does_not_have_is_refused() -> None:
    pi = settings.read_devices(DEVICES)["raspberry_pi_4b"]
    with pytest.raises(ConfigError, match=r"pi\.yaml: meter\.kind = 'pmic', but the device's"):
        check_meter(pi | {"meter": {"kind": "pmic"}}, Path("pi.yaml"))
    check_meter(pi | {"meter": PLUG}, Path("pi.yaml"))
    check_meter(pi, Path("pi.yaml"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"interval_s": 0}, r"measure\.interval_s = 0: must be at least 0\.05"),
        ({"least_coverage": 1.5}, "must be above 0 and at most 1"),
        ({"interval": 1}, "unknown key 'measure.interval'"),
    ],
)
def test_settings_that_are_wrong_are_refused(
    config: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    config["measure"] |= changes
    with pytest.raises(ConfigError, match=said):
        settings.check(config, [], DEVICES)


def test_the_verb_lists_sensors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("core.measure.meters.sensors.__defaults__", (tmp_path,))
    assert main(["measure", "sensors"]) == 0
    assert capsys.readouterr().out == "this machine shows no sensors\n"
    recorded.tx2(tmp_path)
    assert main(["measure", "sensors"]) == 0
    assert capsys.readouterr().out.startswith("power: INA3221, VDD_IN\ntemperature")


def test_the_verb_that_attaches_says_what_is_wrong(tmp_path: Path) -> None:
    assert main(["measure", "attach", str(tmp_path), "nowhere.csv"]) == 3
