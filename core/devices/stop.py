"""Ending what runs on a board, and removing what lies there."""

import time
from pathlib import Path

from core.devices.connection import Connection
from core.devices.hosts import Host, host
from core.devices.job import name_of
from core.errors import BusyError
from core.spec import RunSpec


def stop(out: Path, hosts: Path, patience: float) -> str:
    """Let the run whose results go into `out` save and end; what became of it, in words."""
    spec = RunSpec.load(out / "spec.yaml")
    board = host(spec.device, hosts)
    with Connection(board) as there:
        state = there.ask("stop", patience + 60, job=name_of(str(out)), patience=patience)
    words = {
        "none": f"{board.name} knows nothing of {out}",
        "ended": f"{out} has ended on {board.name} (exit code {state['exit_code']})",
    }
    return words.get(state["state"], f"{out} is {state['state']} on {board.name}")


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
