"""What a figure of the configuration is, whatever trains its runs."""

from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, cast

Config = dict[str, Any]


class Key(Protocol):
    """Which run: what distinguishes it from the others of the same configuration. A dataclass."""

    @property
    def device(self) -> str:
        """Where the run is counted: the edge, or the server."""

    @property
    def scheme(self) -> str:
        """Its name."""

    @property
    def seed(self) -> int:
        """Of all that is drawn."""

    @property
    def options(self) -> tuple[tuple[str, Any], ...]:
        """What is not as the configuration has it."""

    @property
    def sends(self) -> bool:
        """Whether anything goes over a network, so that its context matters."""

    def folder(self, config: Config) -> str:
        """Of its results."""


def with_seed(key: Key, seed: int) -> Key:
    """The same run with another seed."""
    found: Key = replace(cast(Any, key), seed=seed)
    return found


K = TypeVar("K", bound=Key, covariant=True)


@dataclass(frozen=True)
class Figure(Generic[K]):
    """A figure's entry and what it is drawn from: runs, or profiles.

    results: files in the folder of each run that must be there before.
    """

    name: str
    entry: Config
    runs: tuple[K, ...]
    results: tuple[str, ...]
    profiles: tuple[str, ...] = ()

    def folders(self, config: Config) -> list[str]:
        """What the drawing is told: folders of runs, or profiles."""
        return [*(key.folder(config) for key in self.runs), *self.profiles]

    def files(self, config: Config) -> list[str]:
        """What must be there before."""
        runs = [f"{key.folder(config)}/{name}" for key in self.runs for name in self.results]
        return [*runs, *self.profiles]
