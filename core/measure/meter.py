"""What every reader of electrical power looks like."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.errors import DeviceError


@dataclass(frozen=True)
class Reading:
    """What a meter told at one moment. watts: power now; None where it only counts. joules: its
    own count, which never falls; None where it only tells the power."""

    watts: float | None = None
    joules: float | None = None


class Meter(Protocol):
    """A way to learn what a device draws.

    A new one is a module with a class like this, and a line in `KINDS` of core/measure/meters.py.
    """

    title: str  # for readers: what it is and what it measures
    rails: tuple[str, ...]  # what it adds up
    kind: str  # `measured`, or `simulated` where nothing is measured
    every_s: (
        float  # seconds between two readings at least: what a reading costs is no part of a run
    )

    def read(self) -> Reading:
        """The power, or the count, now. Raises DeviceError; the next call may work again."""


def number_in(path: Path, what: str) -> float:
    """The number in a file of the kernel. Raises DeviceError that names what cannot be read."""
    try:
        return float(path.read_text())
    except PermissionError:
        raise DeviceError(
            f"{what}: {path} may not be read by this user; allow it (chmod a+r {path}, as root), "
            "or run as root"
        ) from None
    except (OSError, ValueError) as error:
        raise DeviceError(f"{what}: {path} gave no number ({error})") from None


def text_in(path: Path) -> str | None:
    """The text in a file of the kernel; None where there is none to be had."""
    try:
        return path.read_text(errors="replace").strip("\0 \n")
    except OSError:
        return None
