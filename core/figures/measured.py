"""What a run cost, as its result says it, and why something of that is not known."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from core.errors import DataError
from core.figures.results import AGAIN, TIMINGS, Finished

MIB_PER_GIB = 1024
OLD = "the run was trained before anything was recorded"
NO_ACCELERATOR = "no accelerator took part, or its framework does not tell"


class Cost(NamedTuple):
    """value: NaN where it is not known; why: then."""

    value: float
    why: str = ""


def energy(run: Finished, side: str = "edge") -> Cost:
    """Joules of a run, or of a side of it. Raises DataError for a damaged result."""
    section = _part(run, side, "energy")
    return _cost(run, section, "joules")


def word(run: Finished, side: str = "edge") -> str:
    """How the energy of a run became known: `measured`, `emulated` or `simulated`; empty where it
    is not. Raises DataError."""
    section = _part(run, side, "energy")
    if section.get("joules") is None:
        return ""
    found = section.get("kind")
    if found not in TIMINGS:
        path = run.folder / "result.json"
        raise DataError(f"{path}: measure.energy.kind is {found!r}, allowed: {', '.join(TIMINGS)}")
    return str(found)


def metered(run: Finished) -> str:
    """What the meter of a run measured: `device`, `edge` or `both sides`; empty where nobody
    knows."""
    return str(_part(run, "edge", "energy").get("of", ""))


def memory(run: Finished, side: str = "edge") -> Cost:
    """GiB that the processes of a run, or of a side of it, had at most. Raises DataError."""
    section = _part(run, side, "memory")
    if section.get("why"):  # the peak may have been in the part that is not known
        return Cost(math.nan, str(section["why"]))
    found = _cost(run, section, "peak_mib")
    return found._replace(value=found.value / MIB_PER_GIB)


def total_memory(run: Finished) -> Cost:
    """GiB of the processes and of the accelerator. Both peaks are added up, which need not have
    been at the same moment. Raises DataError."""
    own, section = memory(run), _part(run, "edge", "memory")
    if own.why:
        return own
    if section.get("accelerator_peak_mib") is None:
        return Cost(math.nan, NO_ACCELERATOR)
    more = _cost(run, section, "accelerator_peak_mib")
    return Cost(own.value + more.value / MIB_PER_GIB)


def meters(named: Sequence[tuple[str, Finished]], side: str = "edge") -> list[str]:
    """How the energy of runs became known, for the face of a figure; each manner says of which runs
    where there are several."""
    found: dict[str, list[str]] = {}
    for name, run in named:
        if known := word(run, side):
            meter = _part(run, side, "energy").get("meter")
            found.setdefault(f"energy {known}: {meter}", []).append(name)
    if len(found) == 1:
        return list(found)
    return [f"{how} ({', '.join(dict.fromkeys(names))})" for how, names in found.items()]


def missing(what: str, named: Iterable[tuple[str, Cost]]) -> list[str]:
    """Why values of a figure are missing, as lines: each reason once, and whose it is where it is
    not that of all."""
    pairs = list(named)
    reasons: dict[str, list[str]] = {}
    for name, cost in pairs:
        if cost.why:
            reasons.setdefault(cost.why, []).append(name)
    whole = len({name for name, _ in pairs})
    lines = []
    for why, names in reasons.items():
        own = dict.fromkeys(names)
        whose = "" if len(own) == whole else f" ({', '.join(own)})"
        lines.append(f"no {what}{whose}: {why}")
    return lines


def throttled(named: Iterable[tuple[str, Finished]]) -> list[str]:
    """That a device was made slower while it trained, as a line, where it was."""
    found: dict[str, list[str]] = {}
    for name, run in named:
        for section in (_section(run, "edge"), _section(run, "cloud")):
            if section.get("throttled") is True:
                found.setdefault(name, []).extend(map(str, section.get("throttled_why") or []))
    if not found:
        return []
    each = (f"{name} ({', '.join(dict.fromkeys(why))})" for name, why in found.items())
    return [f"throttled: {', '.join(each)}"]


def _section(run: Finished, side: str) -> Mapping[str, Any]:
    """The section `measure` of a side; that of the only one where there is one."""
    inside: Any = run.result if side == "edge" else run.result.get("cloud")
    section = inside.get("measure") if isinstance(inside, dict) else None
    return section if isinstance(section, dict) else {}


def _part(run: Finished, side: str, name: str) -> Mapping[str, Any]:
    part = _section(run, side).get(name)
    return part if isinstance(part, dict) else {"why": OLD}


def _cost(run: Finished, section: Mapping[str, Any], key: str) -> Cost:
    value = section.get(key)
    if value is None:
        return Cost(math.nan, str(section.get("why") or OLD))
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        path = run.folder / "result.json"
        raise DataError(f"{path}: {key} is {value!r}, must be a number of 0 or more; {AGAIN}")
    return Cost(float(value))
