"""What a machine tells of itself while it computes: temperature, clocks, throttling."""

from pathlib import Path
from typing import Any

import psutil

from core.measure.meter import text_in
from core.measure.throttling import Throttling

# Zones that show no temperature: the PMIC of a Jetson TX2 always tells 100 °C.
FAKE = ("PMIC-Die",)
COLDEST, HOTTEST = -50.0, 200.0  # °C that a zone can mean


class Host:
    """sys: the kernel's tree. Nothing here raises: what cannot be read is not known."""

    def __init__(self, sys: Path = Path("/sys")) -> None:
        self._zones = [
            folder / "temp"
            for folder in sorted((sys / "class/thermal").glob("thermal_zone*"))
            if text_in(folder / "type") not in FAKE and _celsius(folder / "temp") is not None
        ]
        clocks = sorted((sys / "devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
        self._clocks = [path for path in clocks if text_in(path)]
        self._here = sys == Path("/sys")  # psutil knows no other tree
        model = text_in(sys / "firmware/devicetree/base/model") or ""
        self.throttling = Throttling(sys, pi=model.startswith("Raspberry Pi"))

    def celsius(self) -> float | None:
        """The hottest zone in °C."""
        found = [value for zone in self._zones if (value := _celsius(zone)) is not None]
        if not self._zones and self._here:
            chips: dict[str, Any] = getattr(psutil, "sensors_temperatures", dict)()
            found = [each.current for chip in chips.values() for each in chip if each.current]
        return max(found, default=None)

    def mhz(self) -> float | None:
        """The mean clock of the processor's cores in MHz."""
        texts = [text for path in self._clocks if (text := text_in(path))]
        kilohertz = [int(text) for text in texts if text.isdecimal()]
        return sum(kilohertz) / len(kilohertz) / 1e3 if kilohertz else None

    def sensors(self) -> list[str]:
        """A line for each that is there."""
        found = []
        if self.celsius() is not None:
            count = f" ({len(self._zones)} zones)" if self._zones else ""
            found.append(f"temperature{count}")
        if self._clocks:
            found.append(f"clock ({len(self._clocks)} cores)")
        return found + [f"throttling: {name}" for name in self.throttling.sensors()]


def _celsius(path: Path) -> float | None:
    try:
        value = int(text_in(path) or "") / 1e3
    except ValueError:
        return None
    return value if COLDEST < value < HOTTEST else None
