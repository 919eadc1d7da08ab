"""Figures: pictures of finished runs. Nothing here trains, and matplotlib is imported late."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from core.elastic.schemes import SCHEMES
from core.errors import ConfigError


@dataclass(frozen=True)
class Kind:
    """What an entry of this kind says, beside the keys that all have.

    shows: what its `y` may name; without any it has no `y`. most: how many of them at once.
    one: keys that name one thing only. needs, takes: further keys, without and with which it does.
    """

    shows: tuple[str, ...] = ()
    most: int = 1
    one: tuple[str, ...] = ("model", "dataset")
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ("vary",)


COMMON = ("kind", "dataset", "model", "device", "schemes")

# How a figure can be drawn. Each kind is the module of its name, with a function `draw` as in
# curves.py. A new kind is such a module, and a line here.
KINDS = {
    "curves": Kind(shows=("test_accuracy", "test_loss")),
    "bars": Kind(
        shows=("test_accuracy", "hours", "teraflops", "memory", "total_memory", "energy"),
        most=2,
        one=("dataset",),
        takes=("vary", "longer"),
    ),
    "epochs": Kind(shows=("teraflops",)),
    "selections": Kind(one=("model", "dataset", "schemes")),
    "tradeoff": Kind(one=("model", "dataset", "schemes"), needs=("vary",), takes=()),
    "solver": Kind(one=("dataset", "schemes")),
    "overhead_table": Kind(one=("dataset", "schemes")),
    "speedup_table": Kind(one=("model",), takes=("vary", "targets")),
    "measure_trace": Kind(one=("model", "dataset", "schemes")),
}


def check_entry(entry: Mapping[str, Any]) -> None:
    """Raises ConfigError for an entry that its kind cannot draw, whatever was trained for it."""
    name = entry.get("kind")
    if name not in KINDS:
        raise ConfigError(f"kind is {name!r}, allowed: {', '.join(KINDS)}")
    kind = KINDS[name]
    needs = [*COMMON, *kind.needs, *(["y"] if kind.shows else [])]
    missing = [key for key in needs if key not in entry]
    if missing:
        raise ConfigError(f"no key {', '.join(missing)}, which kind {name} needs")
    surplus = [key for key in entry if key not in (*needs, *kind.takes, "ego")]
    if surplus:
        raise ConfigError(f"key {', '.join(surplus)}, which kind {name} does not have")
    for key in kind.one:
        if len(entry[key]) != 1:
            given = ", ".join(entry[key]) or "none"
            raise ConfigError(f"{key} is {given}; kind {name} draws one")
    _check_shown(name, kind, entry.get("y", []))
    if name == "tradeoff":
        _check_sweeps(entry["vary"])
    if name == "speedup_table" and ("elastic" not in entry["schemes"] or len(entry["schemes"]) < 2):
        given = ", ".join(entry["schemes"])
        raise ConfigError(f"schemes is {given}; kind {name} needs elastic and others")


def combinations(scheme: str, entry: Mapping[str, Any]) -> Iterator[dict[str, float]]:
    """Every combination of the settings that an entry varies, for schemes that have them."""
    if scheme not in SCHEMES or SCHEMES[scheme].settings != "elastic":
        yield {}
        return
    for sweep in entry.get("vary", [{}]):
        for values in product(*sweep.values()):
            yield dict(zip(sweep, values, strict=True))


def _check_shown(name: str, kind: Kind, shown: list[str]) -> None:
    for y in shown:
        if y not in kind.shows:
            raise ConfigError(f"y is {y!r}, allowed: {', '.join(kind.shows)}")
    if len(shown) > kind.most or (kind.shows and not shown):
        given = ", ".join(shown) or "empty"
        raise ConfigError(f"y is {given}; kind {name} shows one" + " or two" * (kind.most > 1))


def _check_sweeps(sweeps: list[dict[str, list[float]]]) -> None:
    """Each panel has one horizontal axis, and a trade-off needs two points."""
    for sweep in sweeps:
        if len(sweep) != 1 or any(len(values) < 2 for values in sweep.values()):
            raise ConfigError(
                f"an item of vary is {dict(sweep)}; kind tradeoff needs one setting in each, "
                "with at least two values"
            )
