"""No meter at all: the power that somebody stated for the device. What comes of it is simulated."""

from core.measure.meter import Reading


class Stated:
    """The same watts at every moment, whatever the device does."""

    kind = "simulated"
    every_s = 0.0
    rails: tuple[str, ...] = ("stated",)

    def __init__(self, watts: float) -> None:
        self._watts = watts
        self.title = f"stated {watts:g} W × time"

    def read(self) -> Reading:
        """Never fails."""
        return Reading(watts=self._watts)
