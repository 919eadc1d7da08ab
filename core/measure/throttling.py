"""Whether a device was made slower: by heat, by its power supply, or by a limit of current."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from core.errors import DeviceError
from core.measure.meter import text_in
from core.measure.vcgencmd import vcgencmd

# Bits of `vcgencmd get_throttled`: now, and 16 higher since the board was started.
PI_BITS = {
    0: "undervoltage",
    1: "processor clock capped",
    2: "throttled by the firmware",
    3: "soft temperature limit",
}
# Cooling devices that make something slower; a fan does not.
SLOWING = ("cpu", "gpu", "processor", "balanced", "emergency", "devfreq")

Count = Callable[[], float]


class Throttling:
    """Compares counters with what they were at the start; nothing in it lasts a run."""

    def __init__(self, sys: Path, pi: bool) -> None:
        """sys: the kernel's tree. pi: whether this board has the firmware of a Raspberry Pi."""
        self._pi, self._pi_before = pi, 0
        self._counters = dict(_counters(sys))
        self._states = dict(_cooling(sys))
        self._before: Mapping[str, float] = {}
        self.restart()

    @property
    def known(self) -> bool:
        """Whether anything here would tell."""
        return bool(self._pi or self._counters or self._states)

    def sensors(self) -> list[str]:
        """What would tell."""
        found = ["get_throttled of the firmware"] if self._pi else []
        kinds = dict.fromkeys(name.rpartition(" of ")[0] or name for name in self._counters)
        return [*found, *kinds, *(["cooling devices"] if self._states else [])]

    def restart(self) -> None:
        """From here on it counts."""
        self._before = {name: _value(path) or 0.0 for name, path in self._counters.items()}
        self._pi_before = self._pi_word() or 0

    def reasons(self) -> list[str]:
        """Why it was slower since the last call or `restart`; empty where it was not."""
        found = []
        for name, path in self._counters.items():
            value = _value(path)
            if value is not None and value > self._before[name]:
                found.append(name.rpartition(" of ")[0] or name)
                self._before = {**self._before, name: value}
        found += [name for name, path in self._states.items() if (_value(path) or 0) > 0]
        word = self._pi_word()
        if word is not None:
            new = (word & 0xF) | ((word & ~self._pi_before) >> 16 & 0xF)
            found += [text for bit, text in PI_BITS.items() if new >> bit & 1]
            self._pi_before |= word
        return list(dict.fromkeys(found))

    def _pi_word(self) -> int | None:
        if not self._pi:
            return None
        try:
            return int(vcgencmd("get_throttled").partition("=")[2], 16)
        except (DeviceError, ValueError):
            return None


def _value(path: Path) -> float | None:
    text = text_in(path)
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _counters(sys: Path) -> Iterator[tuple[str, Path]]:
    """Events of processors of Intel, by core and package; over-current events of a Jetson Orin."""
    for folder in sorted((sys / "devices/system/cpu").glob("cpu[0-9]*/thermal_throttle")):
        for what in ("core", "package"):
            if (path := folder / f"{what}_throttle_count").exists():
                yield f"{what} too hot of {folder.parent.name}", path
    for folder in sorted((sys / "class/hwmon").glob("hwmon*")):
        for path in sorted(folder.glob("oc*_event_cnt")):
            yield f"over-current ({path.name.partition('_')[0]})", path


def _cooling(sys: Path) -> Iterator[tuple[str, Path]]:
    for folder in sorted((sys / "class/thermal").glob("cooling_device*")):
        kind = (text_in(folder / "type") or "").lower()
        if any(word in kind for word in SLOWING) and "fan" not in kind:
            yield f"cooled by {kind}", folder / "cur_state"
