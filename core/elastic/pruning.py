"""What both backends share of a network that is made smaller: see `core.elastic.channels`."""

from abc import ABC, abstractmethod
from typing import Any

from numpy.typing import NDArray

from core.elastic import channels
from core.elastic.backend import State

_PREFIX = "kept/"


class Prunable(ABC):
    """A backend's network, in groups of channels, of which some may have been cut out."""

    _groups: tuple[channels.Group, ...]
    _kept: channels.Kept  # of the whole network

    @abstractmethod
    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Every array of the network and the prediction layer by name."""

    @abstractmethod
    def _keep(self, kept: channels.Kept) -> None:
        """Go on with these channels of those that there are now."""

    def prune(self, threshold: float, multiple: int = 1) -> int:
        """See `core.elastic.backend.Backend`."""
        alive = channels.alive(self._groups, self._arrays(), threshold, multiple)
        dead = channels.count(self._kept) - channels.count(alive)
        if dead:
            self._keep(alive)
        return dead

    def _with_kept(self, state: State) -> State:
        """A state and which channels it is of."""
        return state | {_PREFIX + name: places for name, places in self._kept.items()}

    def _cut_to(self, state: State) -> State:
        """Cut the network down to that of a state; the state without its channels. Raises
        ValueError where that is not a part of this network."""
        kept = {k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}
        places = channels.places(kept, self._kept)
        if channels.count(places) < channels.count(self._kept):
            self._keep(places)
        return {name: v for name, v in state.items() if not name.startswith(_PREFIX)}


def friction(optimiser: dict[str, Any]) -> float:
    """The learning rate over this is the step of the proximal update. optimiser: that section of
    a run spec."""
    return 1 - float(optimiser["momentum"]) if optimiser["name"] == "sgdw" else 1.0
