"""The process on this host to which a run belongs whose sides are on several devices."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from core.errors import BusyError
from core.files import write_text
from core.training import run_folder

NOTE = "process"
KILL_S = 10.0
LOOK_S = 0.05


@contextmanager
def noted(beside: Path) -> Iterator[None]:
    """Say in the folder beside a run which process it is, for as long as it is."""
    own, note = psutil.Process(os.getpid()), beside / NOTE
    content = {"host": socket.gethostname(), "pid": own.pid, "began": own.create_time()}
    write_text(note, json.dumps(content))
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def end(out: Path, patience: float, leave: float = 0.0) -> str:
    """Let the process of a run save and end, as `kill` would; what became of it, in words. leave:
    seconds that it has to end by itself. Raises BusyError where it is on another host."""
    process = _process(run_folder.snapshots(out))
    if process is None:
        return f"nothing of {out} runs here"
    if not _ends(process, leave):
        process.terminate()
        if not _ends(process, patience):
            process.kill()
            _ends(process, KILL_S)
    return f"{out} has ended here"


def _ends(process: psutil.Process, seconds: float) -> bool:
    """Whether it has within so many seconds; its parent need not have noticed."""
    end = time.monotonic() + seconds
    with suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() >= end:
                return False
            time.sleep(LOOK_S)
    return True


def _process(beside: Path) -> psutil.Process | None:
    """The one that is noted, if it still runs."""
    try:
        content = json.loads((beside / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if content["host"] != socket.gethostname():
        raise BusyError(
            f"{beside}: its run belongs to a process on {content['host']}; end it there"
        )
    try:
        process = psutil.Process(content["pid"])
        return process if process.create_time() == content["began"] else None
    except psutil.NoSuchProcess:
        return None
