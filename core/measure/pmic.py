"""The power chip (PMIC) of a Raspberry Pi 5, by `vcgencmd pmic_read_adc`."""

import re
from collections.abc import Sequence
from pathlib import Path

from core.errors import ConfigError, DeviceError
from core.measure.meter import Reading
from core.measure.vcgencmd import vcgencmd

_LINE = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=(\d+(?:\.\d+)?)[AV]\s*$")


class Pmic:
    """Adds up what the PMIC gives to its rails. What it loses itself, and what is drawn from the
    5 V input past it (USB, HATs, fan), is not in this."""

    kind = "measured"
    every_s = 1.0  # each is a process of its own

    def __init__(self, rails: Sequence[str] = ()) -> None:
        """rails: to add up, such as `VDD_CORE`; all of them without any. Raises ConfigError for one
        that there is not, DeviceError where the board tells nothing."""
        known = rails_of(vcgencmd("pmic_read_adc"))
        missing = [rail for rail in rails if rail not in known]
        if missing:
            raise ConfigError(
                f"meter.rails: the PMIC has no rail {', '.join(missing)}; it has {', '.join(known)}"
            )
        self.rails = tuple(rails or known)
        self.title = f"PMIC, {', '.join(rails)}" if rails else "PMIC, all rails behind it"

    def read(self) -> Reading:
        """Raises DeviceError."""
        now = rails_of(vcgencmd("pmic_read_adc"))
        try:
            return Reading(watts=sum(now[rail] for rail in self.rails))
        except KeyError as error:
            raise DeviceError(f"vcgencmd pmic_read_adc gave no rail {error}") from None


def rails_of(text: str) -> dict[str, float]:
    """Watts of each rail of which it tells volts and amperes (EXT5V and BATT have no current).
    Raises DeviceError for text without any."""
    parts: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        if match := _LINE.match(line):
            name, unit, value = match.groups()
            parts.setdefault(name, {})[unit] = float(value)
    rails = {name: own["A"] * own["V"] for name, own in parts.items() if len(own) == 2}
    if not rails:
        raise DeviceError(
            "vcgencmd pmic_read_adc told no currents: only a Raspberry Pi 5 measures them"
        )
    return rails


def find(sys: Path, names: Sequence[str] = ()) -> Pmic | None:
    """That of this board; None where it is no Raspberry Pi 5 (nor a 500 or a Compute Module 5,
    which have the same chip). sys: of which the device tree is looked at."""
    model = sys / "firmware/devicetree/base/model"
    try:
        name = model.read_text(errors="replace")
    except OSError:
        return None
    fives = ("Raspberry Pi 5", "Raspberry Pi Compute Module 5")
    return Pmic(names) if name.startswith(fives) else None
