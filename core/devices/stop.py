"""Ending what runs on a board, and removing what lies there."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.devices import here
from core.devices.connection import Connection
from core.devices.hosts import Host, host, read_hosts
from core.devices.job import name_of
from core.errors import BusyError, CoreError
from core.spec import RunSpec
from core.split.sides import CLOUD, EDGE, front_of, is_alone, other

FOLLOWS_S = 15.0  # for what is here to end with what leads on a board


def stop(out: Path, hosts: Path, patience: float) -> str:
    """Let the run whose results go into `out` save and end, with all its sides; what became of
    each, in words. Raises the first error of a board, after the others were ended."""
    spec, known = RunSpec.load(out / "spec.yaml"), read_hosts(hosts)
    said: list[str] = []
    failed: CoreError | None = None
    for part, device in _sides(spec, known):
        try:
            if device is not None:
                said.append(_stop_there(host(device, hosts), out, part, patience))
            else:
                said.append(here.end(out, patience, leave=FOLLOWS_S if part else 0.0))
        except CoreError as error:
            failed = failed or error
            said.append(str(error))
    if failed is not None:
        raise type(failed)("; ".join(said))
    return "; ".join(said)


def _sides(spec: RunSpec, known: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Each job of a run: its part, and the board that it is on; None is here. That which leads
    comes first, so that it can save with the other one."""
    devices = {spec[side]["name"] for side in (EDGE, CLOUD)} if spec["kind"] == "split" else set()
    if len(devices) < 2 or not devices & set(known) or is_alone(spec):
        yield "", spec.device
        return
    leads = front_of(spec)
    for side in (leads, other(leads)):
        name = spec[side]["name"]
        yield "" if side == leads else side, name if name in known else None


def _stop_there(board: Host, out: Path, part: str, patience: float) -> str:
    what = f"the {part} of {out}" if part else str(out)
    with Connection(board) as there:
        state = there.ask("stop", patience + 60, job=name_of(str(out), part), patience=patience)
    words = {
        "none": f"{board.name} knows nothing of {what}",
        "ended": f"{what} has ended on {board.name} (exit code {state['exit_code']})",
    }
    return words.get(state["state"], f"{what} is {state['state']} on {board.name}")


def clean(board: Host, days: float) -> str:
    """Remove what nothing used for so many days; what was removed, in words. Raises BusyError."""
    with Connection(board) as there:
        answer = there.ask("clean", 600, days=days)
    if "busy" in answer:
        since = time.strftime("%H:%M on %d %B", time.localtime(answer["busy"].get("since", 0)))
        raise BusyError(
            f"{board.name}: {answer['busy'].get('title', 'a job')} runs since {since}; clean later"
        )
    return f"{board.name}: {len(answer['jobs'])} runs and {answer['freed'] >> 20} MiB removed"
