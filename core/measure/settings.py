"""The section `measure` of the configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import schema
from core.errors import ConfigError


def defaults() -> dict[str, Any]:
    """What holds where a spec has no section `measure`."""
    found = schema.load("measure")["properties"]
    return {name: part["default"] for name, part in found.items()}


def settings_of(section: Mapping[str, Any] | None) -> dict[str, Any]:
    """The section with what it leaves out."""
    return defaults() | dict(section or {})


def for_spec(section: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a spec that holds the section: nothing where it says what holds anyway, so that
    specs stay as they are."""
    own = {key: value for key, value in section.items() if value != defaults()[key]}
    return {"measure": own} if own else {}


def meter_for_spec(device: Mapping[str, Any]) -> dict[str, Any]:
    """The meter of a device's file, where it names one."""
    return {"meter": device["meter"]} if "meter" in device else {}


def check_meter(device: Mapping[str, Any], file: Path) -> None:
    """Raises ConfigError for a meter that the device does not have."""
    kind = device.get("meter", {}).get("kind")
    built_in = set(schema.load("device")["properties"]["sensors"]["items"]["enum"]) - {"none"}
    if kind in built_in - set(device["sensors"]):
        raise ConfigError(
            f"{file}: meter.kind = {kind!r}, but the device's sensors are "
            f"{', '.join(device['sensors'])}"
        )
