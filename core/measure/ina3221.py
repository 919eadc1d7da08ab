"""The power monitors of NVIDIA Jetson boards: TI INA3221, three rails each, by rail name.

Two layouts: the driver of L4T up to release 32 (TX2: `iio_device/in_powerN_input`, mW) and the one
of Linux from release 34 on (Orin: `hwmon/hwmonN/inN_input` and `currN_input`, mV and mA).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import ConfigError, DeviceError
from core.measure.meter import Reading, number_in, text_in

# Rails that add up to the whole module, by board; the first set of which all are there is taken.
# Other rails are parts of these. The carrier board (VDD_MUX of a TX2) is not in them.
TOTALS = (
    ("VDD_IN",),  # TX1, TX2, TX2 NX, Xavier NX, Orin NX and Nano
    ("POM_5V_IN",),  # Nano
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)


@dataclass(frozen=True)
class Rail:
    """A rail: its power in mW, or voltage (mV) and current (mA)."""

    name: str
    power: Path | None
    voltage: Path
    current: Path

    def watts(self) -> float:
        """Raises DeviceError."""
        if self.power is not None:
            return number_in(self.power, f"INA3221 rail {self.name}") / 1e3
        volts, amperes = (
            number_in(path, f"INA3221 rail {self.name}") / 1e3
            for path in (self.voltage, self.current)
        )
        return volts * amperes


class Ina3221:
    """Adds up rails of a Jetson board."""

    kind = "measured"
    every_s = 0.0

    def __init__(self, rails: Sequence[Rail]) -> None:
        self._rails = rails
        self.rails = tuple(rail.name for rail in rails)
        self.title = f"INA3221, {' + '.join(self.rails)}"

    def read(self) -> Reading:
        """Raises DeviceError."""
        return Reading(watts=sum(rail.watts() for rail in self._rails))


def find(sys: Path, names: Sequence[str] = ()) -> Ina3221 | None:
    """That of this board; None where there is none. names: rails to add up, those of `TOTALS`
    without any.

    Raises ConfigError for a rail that there is not, DeviceError where nobody knows which to add.
    """
    rails = {rail.name: rail for rail in _rails(sys)}
    if not rails:
        return None
    known = ", ".join(sorted(rails))
    if not names:
        names = next((total for total in TOTALS if set(total) <= set(rails)), ())
        if not names:
            raise DeviceError(
                f"INA3221: this board has the rails {known}; name those that add up to the whole "
                "board in meter.rails of its file in config/devices"
            )
    missing = [name for name in names if name not in rails]
    if missing:
        raise ConfigError(f"meter.rails: INA3221 has no rail {', '.join(missing)}; it has {known}")
    meter = Ina3221([rails[name] for name in names])
    meter.read()  # says at once what could not be read
    return meter


def _rails(sys: Path) -> Iterator[Rail]:
    drivers = sys / "bus/i2c/drivers"
    for pattern in ("*/iio_device", "*/iio:device*"):
        for chip in sorted((drivers / "ina3221x").glob(pattern)):
            for label in sorted(chip.glob("rail_name_*")):
                yield from _rail(label, label.name.removeprefix("rail_name_"), "in_{}{}_input")
    for chip in sorted((drivers / "ina3221").glob("*/hwmon/hwmon*")):
        for label in sorted(chip.glob("in*_label")):
            number = label.name.removeprefix("in").removesuffix("_label")
            yield from _rail(label, number, "")


def _rail(label: Path, number: str, pattern: str) -> Iterator[Rail]:
    """The rail with this label; none where no current is measured (sums of shunt voltages)."""
    chip, name = label.parent, text_in(label)
    if pattern:
        paths = [chip / pattern.format(what, number) for what in ("power", "voltage", "current")]
    else:
        paths = [chip / "none", chip / f"in{number}_input", chip / f"curr{number}_input"]
    power, voltage, current = paths
    if name and name != "NC" and (power.exists() or current.exists()):
        yield Rail(name, power if power.exists() else None, voltage, current)
