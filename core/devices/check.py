"""What there is to know of a board before anything is sent to it."""

import time
from collections.abc import Iterator
from typing import Any

from core.devices.connection import Connection
from core.devices.hosts import Host

Lines = Iterator[tuple[str, str]]

ENVIRONMENTS = ("main", "tensorflow")
# Asked of an interpreter that hosts.yaml names.
PACKAGES = "torch tensorflow safetensors psutil grpc".split()
_VERSIONS = (
    "from importlib.metadata import version, PackageNotFoundError\n"
    "for name in {names!r}:\n"
    "  try: print(name, version(name))\n"
    "  except PackageNotFoundError: pass\n"
)


def check(host: Host) -> Lines:
    """What is asked, and the answer, as they come. Raises the CoreError of what is wrong."""
    with Connection(host) as there:
        yield "address", f"{host.address}, host key known, login accepted"
        yield from _facts(there.ask("facts"), host)
        yield from _packages(there, host)


def _facts(facts: dict[str, Any], host: Host) -> Lines:
    old = ", too old: 3.8 or newer is needed" if facts["old"] else ""
    yield "python", f"{facts['python']} on {facts['machine']}{old}"
    yield "folder", f"{host.folder}, {_gib(facts['free_disk'])} free"
    memory = facts["free_memory"]
    yield "memory", f"{_gib(memory)} free" if memory else "not known"
    off = facts["time"] - time.time()
    yield (
        "clock",
        "right" if abs(off) < 2 else f"{abs(off):.0f} s {'ahead' if off > 0 else 'behind'}",
    )
    yield "power sensors", ", ".join(facts["sensors"]) or "none"
    yield "power mode", facts["power_mode"] or "not known"
    lease = facts["lease"]
    yield "lease", f"{lease.get('who')}: {lease.get('title')}" if lease else "free"
    for job in facts["jobs"]:
        code = f", exit code {job['exit_code']}" if job["state"] == "ended" else ""
        yield "run", f"{job['title']}: {job['state']}{code}"


def _packages(there: Connection, host: Host) -> Lines:
    if host.python:
        yield "packages", ", ".join(there.words(host.python, _VERSIONS.format(names=PACKAGES)))
        return
    made = [name for name in ENVIRONMENTS if there.has_environment(name)]
    yield "environments", ", ".join(made) or f"none; core devices prepare {host.name} makes them"


def _gib(nbytes: int) -> str:
    return f"{nbytes / 2**30:.1f} GiB"
