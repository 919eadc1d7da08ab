"""RAPL: the energy counters of Intel and AMD processors, as the kernel's powercap shows them."""

from collections.abc import Sequence
from pathlib import Path

from core.errors import ConfigError
from core.measure.meter import Reading, number_in, text_in

MICRO = 1e-6


class Zone:
    """One counter, which wraps around at a limit of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        """Raises DeviceError where the counter cannot be read."""
        self.name, self._energy = name, folder / "energy_uj"
        self._range = number_in(folder / "max_energy_range_uj", f"RAPL zone {name}")
        self._last = self._now()
        self._joules = 0.0

    def joules(self) -> float:
        """Since the counter was opened. A count below the last one has wrapped around, once: read
        it at least once in the time that a wrap takes (a minute is safe). Raises DeviceError."""
        now = self._now()
        step = now - self._last
        self._last = now
        self._joules += MICRO * (step if step >= 0 else step + self._range)
        return self._joules

    def _now(self) -> float:
        return number_in(self._energy, f"RAPL zone {self.name}")


class Rapl:
    """Adds up zones: processor packages with their memory, where that is counted apart."""

    kind = "measured"
    every_s = 0.0

    def __init__(self, zones: Sequence[Zone]) -> None:
        self._zones = zones
        self.rails = tuple(zone.name for zone in zones)
        self.title = f"RAPL, {' + '.join(self.rails)}"

    def read(self) -> Reading:
        """Raises DeviceError."""
        return Reading(joules=sum(zone.joules() for zone in self._zones))


def find(sys: Path, names: Sequence[str] = ()) -> Rapl | None:
    """That of this machine; None where there is none. names: zones to add up, such as `package-0`,
    `package-0/dram` or `psys`; all packages and their memory without any.

    Raises ConfigError for a zone that there is not, DeviceError where it may not be read.
    """
    folders = _zones(sys)
    if not folders:
        return None
    usual = [n for n in folders if n.startswith("package-") and ("/" not in n or "/dram" in n)]
    names = names or usual or list(folders)[:1]
    missing = [name for name in names if name not in folders]
    if missing:
        known = ", ".join(folders)
        raise ConfigError(f"meter.rails: RAPL has no zone {', '.join(missing)}; it has {known}")
    return Rapl([Zone(name, folders[name]) for name in names])


def _zones(sys: Path) -> dict[str, Path]:
    """Folders by name, those below a package by the names of both. (`intel-rapl` is the name on AMD
    too; `intel-rapl-mmio` counts the same energy once more.)"""
    found: dict[str, Path] = {}
    for folder in sorted((sys / "class/powercap").glob("intel-rapl:*")):
        name = text_in(folder / "name")
        _, *numbers = folder.name.split(":")
        if name and len(numbers) == 1:
            found[name] = folder
        elif name:
            parent = text_in(folder.parent / f"intel-rapl:{numbers[0]}" / "name")
            found[f"{parent}/{name}"] = folder
    return found
