"""Questions to the firmware of a Raspberry Pi."""

import shutil
import subprocess

from core.errors import DeviceError

SECONDS = 2.0  # that an answer may take; it takes milliseconds


def vcgencmd(*words: str) -> str:
    """What `vcgencmd` answers. Raises DeviceError."""
    command = shutil.which("vcgencmd")
    what = " ".join(("vcgencmd", *words))
    if command is None:
        raise DeviceError(f"{what}: vcgencmd is not on the PATH; install raspi-utils")
    try:
        said = subprocess.run(
            [command, *words], capture_output=True, text=True, timeout=SECONDS, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"{what} gave no answer: {error}") from None
    if said.returncode or "error=" in said.stdout:
        reason = (said.stderr or said.stdout).strip()[:200]
        raise DeviceError(
            f"{what} failed ({reason}); the user must be in the group video, as `pi` is"
        )
    return said.stdout
