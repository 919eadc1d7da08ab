"""Which meter a device has: what its file in config/devices says, else what is found on it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import CoreError
from core.measure import ina3221, pmic, rapl
from core.measure.csv_meter import CsvMeter
from core.measure.meter import Meter
from core.measure.shelly import Shelly
from core.measure.stated import Stated

SYS = Path("/sys")

Find = Callable[[Path, Sequence[str]], Meter | None]

# Meters that are part of a device, in the order in which they are looked for.
BUILT_IN: dict[str, Find] = {"ina3221": ina3221.find, "pmic": pmic.find, "rapl": rapl.find}
TITLES = {"ina3221": "INA3221", "pmic": "PMIC", "rapl": "RAPL"}
# Meters that have to be named, with the keys that they need.
NAMED: dict[str, tuple[str, ...]] = {"shelly": ("address",), "csv": ("file",), "stated": ("watts",)}
KINDS = (*BUILT_IN, *NAMED, "none")


@dataclass(frozen=True)
class Found:
    """A meter, or why there is none."""

    meter: Meter | None
    why: str | None = None


def find(entry: Mapping[str, Any] | None = None, sys: Path = SYS) -> Found:
    """The meter of an entry `meter` of a device's file; without one, what this machine has.

    Never raises: without a meter a run has no joules, and says why.
    """
    try:
        return _named(entry, sys) if entry else _built_in(sys)
    except CoreError as error:
        return Found(None, str(error))


def _named(entry: Mapping[str, Any], sys: Path) -> Found:
    kind, rails = entry["kind"], entry.get("rails", [])
    if kind == "none":
        return Found(None, "the device's file says meter: {kind: none}")
    if kind in BUILT_IN:
        meter = BUILT_IN[kind](sys, rails)
        return Found(meter, None if meter else f"this machine has no {TITLES[kind]}")
    if kind == "shelly":
        return Found(Shelly(entry["address"], entry.get("switch", 0)))
    if kind == "csv":
        return Found(CsvMeter(Path(entry["file"])))
    return Found(Stated(entry["watts"]))


def _built_in(sys: Path) -> Found:
    for look in BUILT_IN.values():
        if meter := look(sys, []):
            return Found(meter)
    return Found(
        None,
        f"no power sensor on this machine ({', '.join(TITLES.values())}); name an outside meter in "
        "its file in config/devices, or attach a CSV file afterwards",
    )


def sensors(sys: Path = SYS) -> list[str]:
    """A line for each sensor of this machine, or why one that is there cannot be used."""
    found = []
    for kind, look in BUILT_IN.items():
        try:
            meter = look(sys, [])
        except CoreError as error:
            found.append(f"power: {TITLES[kind]} cannot be used: {error}")
            continue
        if meter is not None:
            found.append(f"power: {meter.title}")
    from core.measure.host import Host

    return found + Host(sys=sys).sensors()
