"""How a figure of split training can be drawn, and from what. Imports no matplotlib."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from core.errors import ConfigError


@dataclass(frozen=True)
class SplitKind:
    """What an entry of this kind says.

    source: what it is drawn from: finished runs, the profiles of edge and cloud, or nothing.
    needs, takes: keys beside `kind`, without and with which it does.
    one: keys that name one thing only. shows: what its runs must have.
    varies: settings that `vary` may name; it must vary the first of them.
    """

    source: Literal["runs", "profiles", "nothing"] = "runs"
    needs: tuple[str, ...] = ("task", "schemes", "contexts")
    takes: tuple[str, ...] = ()
    one: tuple[str, ...] = ()
    varies: tuple[str, ...] = ()
    shows: Literal["accuracy", "loss", "images", "anything"] = "anything"


# Each kind is the module of its name, with a function `draw` as those of the other figures. A new
# kind is such a module, and a line here. `steps` makes short runs, which have no accuracy.
SPLIT_KINDS = {
    "split_throughput": SplitKind(takes=("steps",)),
    "split_accuracy": SplitKind(shows="accuracy"),
    "split_loss": SplitKind(shows="loss"),
    "split_decision": SplitKind(takes=("steps",), one=("schemes", "contexts")),
    "split_replay": SplitKind(one=("schemes",), varies=("staleness",), shows="accuracy"),
    "split_codecs": SplitKind(
        one=("schemes", "contexts"), varies=("uplink", "feedback"), shows="accuracy"
    ),
    "split_profile": SplitKind("profiles", needs=("task",)),
    "split_weights": SplitKind(one=("schemes", "contexts")),
    "split_energy": SplitKind(takes=("steps",), one=("contexts",)),
    "split_memory": SplitKind(takes=("steps",), one=("contexts",)),
    "split_trace": SplitKind(takes=("steps",), one=("schemes", "contexts")),
    "chairs_samples": SplitKind(one=("schemes", "contexts"), shows="images"),
    "split_simulated": SplitKind("nothing", needs=("networks", "contexts")),
}


def check_split_entry(entry: Mapping[str, Any]) -> None:
    """Raises ConfigError for an entry that its kind cannot draw, whatever was trained for it."""
    name = entry.get("kind")
    if name not in SPLIT_KINDS:
        raise ConfigError(f"kind is {name!r}, allowed: {', '.join(SPLIT_KINDS)}")
    kind = SPLIT_KINDS[name]
    needs = ["kind", *kind.needs, *(["vary"] if kind.varies else [])]
    missing = [key for key in needs if key not in entry]
    if missing:
        raise ConfigError(f"no key {', '.join(missing)}, which kind {name} needs")
    surplus = [key for key in entry if key not in (*needs, *kind.takes)]
    if surplus:
        raise ConfigError(f"key {', '.join(surplus)}, which kind {name} does not have")
    for key in kind.one:
        if len(entry[key]) != 1:
            given = ", ".join(entry[key]) or "none"
            raise ConfigError(f"{key} is {given}; kind {name} draws one")
    if kind.varies:
        _check_varied(name, kind, entry["vary"])


def _check_varied(name: str, kind: SplitKind, vary: Mapping[str, list[Any]]) -> None:
    first, *_ = kind.varies
    surplus = [key for key in vary if key not in kind.varies]
    if surplus:
        allowed = ", ".join(kind.varies)
        raise ConfigError(f"vary has {', '.join(surplus)}; kind {name} varies {allowed}")
    if len(vary.get(first, [])) < 2:
        raise ConfigError(f"kind {name} needs at least two values of vary.{first}")


def combinations(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the settings that an entry varies."""
    vary = entry.get("vary", {})
    for values in product(*vary.values()):
        yield dict(zip(vary, values, strict=True))
