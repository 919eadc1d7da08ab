"""A smart plug as an outside meter: Shelly of the second generation and later, over HTTP.

https://shelly-api-docs.shelly.cloud/gen2/ComponentsAndServices/Switch: `apower` is the power in W,
`aenergy.total` the energy in Wh that passed since the plug was made.
"""

import json
import math
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import requests

from core.errors import ConfigError, DeviceError
from core.measure.meter import Reading

SECONDS = 1.0  # that an answer may take: the plug is in the same network
MOST = 1 << 16  # bytes of an answer
WATT_HOUR = 3600.0


class Shelly:
    """Power at the socket: with the power supply and everything that hangs on it."""

    kind = "measured"
    every_s = 1.0  # the plug itself knows no more
    rails: tuple[str, ...] = ("socket",)

    def __init__(self, address: str, switch: int = 0) -> None:
        """address: such as http://192.168.1.20. switch: which of the plug's. Raises ConfigError,
        and DeviceError where the plug does not answer."""
        parts = urlsplit(address)
        if parts.scheme != "http" or not parts.hostname or parts.username:
            raise ConfigError(
                f"meter.address = {address!r} must be http://HOST or http://HOST:PORT"
            )
        self._url = f"{address.rstrip('/')}/rpc/Switch.GetStatus?id={switch}"
        self.title = f"smart plug {parts.netloc}"
        self._session = requests.Session()
        self._session.trust_env = False  # the plug is here, not behind a proxy
        self.read()

    def read(self) -> Reading:
        """Raises DeviceError."""
        status = self._ask()
        watts, energy = status.get("apower"), status.get("aenergy")
        total = energy.get("total") if isinstance(energy, dict) else None
        if not _is_number(watts):
            raise DeviceError(f"{self.title} tells no power (no apower): it does not measure any")
        return Reading(watts, WATT_HOUR * total if _is_number(total) else None)

    def _ask(self) -> dict[str, Any]:
        try:
            with self._session.get(
                self._url, timeout=SECONDS, stream=True, allow_redirects=False
            ) as answer:
                if answer.status_code == 401:
                    raise DeviceError(
                        f"{self.title} wants a password; switch its authentication off, or let "
                        "another tool log it and use a CSV file"
                    )
                if answer.status_code != 200:
                    raise DeviceError(f"{self.title} answered {answer.status_code} to {self._url}")
                content = json.loads(next(answer.iter_content(MOST), b""))
        except (requests.RequestException, ValueError) as error:
            raise DeviceError(f"{self.title} cannot be read: {_reason(error)}") from None
        if not isinstance(content, dict):
            raise DeviceError(f"{self.title} cannot be read: {self._url} is no status of a switch")
        return content


def _is_number(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and math.isfinite(value)


def _reason(error: Exception) -> str:
    if isinstance(error, requests.Timeout):
        return f"no answer in {SECONDS:g} s"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return f"no JSON ({error})"
