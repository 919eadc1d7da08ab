"""A plan: what is to be done, as data and as text, and earlier plans held against outcomes."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from core.files import write_text
from core.planning.configuration import read
from core.planning.estimate import Estimate, estimate, whole_seconds
from core.planning.jobs import Planned, figures_of, missing_fetches, planned
from core.planning.room import room
from core.spec import RunSpec
from core.training.progress import minutes

RECORD = Path("results/plan.json")
CAMPAIGN = "campaign"  # target: every figure, and every run with several seeds
COMMAND_MINUTES, BOARD_MINUTES = 2, 30  # of a person: to type and look, to set up a board


def main(args: argparse.Namespace) -> None:
    """Print what there is to do and how long it takes."""
    if args.check:
        print(checked(recorded()))
        return
    config = read(args.configfile, args.config)
    whole = CAMPAIGN in args.targets
    figures = figures_of(config, [] if args.all or whole else args.targets)
    runs = planned(config, figures, config["seeds"] if whole else 1)
    estimates = {run.folder: estimate(run) for run in runs}
    _record(runs, estimates)
    content = summary(runs, estimates)
    print(json.dumps(content, indent=1) if args.json else text(content))


def summary(runs: Sequence[Planned], estimates: dict[Path, Estimate]) -> dict[str, Any]:
    """The plan as plain data."""
    open_runs = [run for run in runs if run.state != "finished"]
    profiles = dict.fromkeys(p for run in open_runs for p in run.profiles() if not p.exists())
    hours: dict[str, float] = {}
    for run in open_runs:
        for device in run.devices:
            hours[device] = hours.get(device, 0.0) + (estimates[run.folder].hours or 0.0)
    fetches = missing_fetches(runs)
    boards = [device for device in hours if device != "local"]
    return {
        "finished": len(runs) - len(open_runs),
        "runs": [
            {
                "run": run.folder.as_posix(),
                "device": run.device,
                "devices": list(run.devices),
                "state": run.state,
                "hours": estimates[run.folder].hours,
                "from": estimates[run.folder].how,
                "calibrated_by": estimates[run.folder].runs,
            }
            for run in open_runs
        ],
        "profiles": [path.as_posix() for path in profiles],
        "fetches": fetches,
        "fetch_bytes": sum(size or 0 for size in fetches.values()),
        "disk": room(runs),
        "device_hours": hours,
        "human_minutes": (COMMAND_MINUTES + BOARD_MINUTES * len(boards)) if open_runs else 0,
        "unknown": sum(estimates[run.folder].hours is None for run in open_runs),
    }


def text(content: dict[str, Any]) -> str:
    """The plan for a person."""
    lines = []
    for run in content["runs"]:
        hours = "?" if run["hours"] is None else minutes(3600 * run["hours"])
        lines.append(
            f"{hours:>8}  {' + '.join(run['devices']):16} {run['state']:9} {run['from']:10}  "
            f"{run['run']}"
        )
    if by := max((run["calibrated_by"] for run in content["runs"]), default=0):
        lines.append(f"calibrated: what the profile says, by {by} finished runs of other schemes")
    lines += [f"profile   {path}" for path in content["profiles"]]
    lines += [f"fetch     {name}, {_size(size)}" for name, size in content["fetches"].items()]
    lines.append(_disk(content["disk"]))
    lines.append(f"{content['finished']} runs are finished, {len(content['runs'])} are to do")
    hours = content["device_hours"]
    known = {device: each for device, each in hours.items() if each}
    for device, each in known.items():
        lines.append(f"{device}: {minutes(3600 * each)}, one run at a time")
    if content["unknown"]:
        lines.append(f"{content['unknown']} runs have no estimate before their device is profiled")
    total = f"{content['human_minutes']} human-minutes + {sum(hours.values()):.2f} device-hours"
    side = f"; devices work side by side: {max(known.values()):.2f} h" if len(known) > 1 else ""
    return "\n".join([*lines, total + side])


def _disk(disk: dict[str, Any]) -> str:
    more = f" and {disk['unknown']} things of unknown size" if disk["unknown"] else ""
    short = "; NOT ENOUGH" if disk["bytes"] > disk["free"] else ""
    return (
        f"disk: {disk['bytes'] / 1e9:.1f} GB{more}; free here: {disk['free'] / 1e9:.1f} GB{short}"
    )


def _size(nbytes: int | None) -> str:
    if nbytes is None:
        return "size not known"
    return f"{nbytes / 1e6:.0f} MB" if nbytes else "downloaded already"


# Estimates against outcomes.


def recorded() -> dict[str, Any]:
    """Estimates that earlier plans kept, by run."""
    try:
        return dict(json.loads(RECORD.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _record(runs: Sequence[Planned], estimates: dict[Path, Estimate]) -> None:
    """Keep an estimate of each whole run, to be held against what it took: the first one, until a
    plan knows better in kind (a profile after published hours) or the run has other settings."""
    before = recorded()
    kept = dict(before)
    for run in runs:
        found, name = estimates[run.folder], run.folder.as_posix()
        if run.state == "to do" and found.hours is not None:
            now = {"hours": found.hours, "from": found.how, "spec": RunSpec(run.spec).digest}
            old = kept.get(name, {})
            if old.get("spec") != now["spec"] or _rank(now) > _rank(old):
                kept[name] = now | {"at": time.time()}
    if kept != before:
        write_text(RECORD, json.dumps(kept, indent=1))


def _rank(plan: dict[str, Any]) -> int:
    """How much a way to estimate knows of the run."""
    ways = ("unknown", "published", "profile", "calibrated", "like runs")
    return ways.index(str(plan.get("from", "unknown")))


def errors(kept: dict[str, Any]) -> dict[str, tuple[float, float, str]]:
    """Of each finished run that was planned before: hours planned, hours taken, how planned."""
    found = {}
    for name, plan in kept.items():
        folder = Path(name)
        result = folder / "result.json"
        if result.exists() and result.stat().st_mtime >= plan["at"] and _of(result, plan):
            taken = whole_seconds(folder) / 3600
            found[name] = (float(plan["hours"]), taken, str(plan["from"]))
    return found


def _of(result: Path, plan: dict[str, Any]) -> bool:
    """Whether a result is of the spec that was planned."""
    try:
        spec = json.loads(result.read_text(encoding="utf-8"))["spec"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(RunSpec(spec).digest == plan["spec"])


def checked(kept: dict[str, Any]) -> str:
    """Estimates beside outcomes, for a person."""
    found = errors(kept)
    if not found:
        return "no run that was planned has finished yet"
    lines = [
        f"planned {minutes(3600 * planned):>8}, took {minutes(3600 * taken):>8}, "
        f"{planned / taken - 1:+5.0%}  {how:10}  {name}"
        for name, (planned, taken, how) in found.items()
    ]
    off: dict[str, list[float]] = {"": []}
    for expected, taken, how in found.values():
        for group in ("", f"{how}: "):
            off.setdefault(group, []).append(abs(expected / taken - 1))
    lines += [
        f"{group}median error {median(own):.0%} over {len(own)} runs, worst {max(own):.0%}"
        for group, own in sorted(off.items(), reverse=True)
    ]
    return "\n".join(lines)
