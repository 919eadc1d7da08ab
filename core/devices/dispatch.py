"""Carrying a job to a board, watching it and bringing its results back.

Whatever happens to the connection or to this process, the board goes on; the same command finds the
job again. Nothing is run twice: the board knows the job by its name and what was asked.
"""

import getpass
import logging
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from core import results
from core.devices.backoff import Backoff
from core.devices.connection import ChangedError, Connection, LostError
from core.devices.hosts import Host
from core.devices.job import Job, Sent, base, code
from core.errors import (
    INCURABLE,
    INTERRUPTED,
    BoardError,
    BusyError,
    CoreError,
    MissingPackageError,
    UnreachableError,
)
from core.files import digest, replacing
from core.training.progress import minutes
from core.training.snapshot import KEPT

log = logging.getLogger(__name__)

RESTARTS = 3  # of a job that was killed, or whose board started again
HEALTHY_S = 60.0  # a part of a run that lived for so long was a good start
HEARTBEAT_S = 120.0
SNAPSHOT_S = 600.0
CLOCK_S = 86_400.0  # off by more, certificates and dates of results are wrong
ROOM = 64 << 20  # bytes beside the files
KILLED = 137  # by SIGKILL, which nobody here sends
LAST = "result.json"  # what says that a folder is whole


class SilentError(UnreachableError):
    """The board answers, and what watches over the run there does not: no reason to try again."""


@dataclass
class Watched:
    """What is known of a job across connections."""

    offset: int = 0  # of its log
    line: str = ""  # of the log, not whole yet
    error: str = ""  # the last line that says so
    seen: bool = False  # running, by this process
    wanted: bool = True  # of a side: the other one has not ended
    over: bool = False  # it has ended; its results come
    restarts: int = 0
    begun: float = field(default_factory=time.monotonic)  # the last attempt
    saved: float = field(default_factory=time.monotonic)  # when snapshots were last fetched


def carry(
    host: Host, job: Job, backoff: Backoff | None = None, watched: Watched | None = None
) -> None:
    """Run a job on a board and bring back what it wrote; what it says is logged here. watched: for
    others to look at and to say that a part is not wanted any more.

    Raises the error that the command there had, with its exit code; LoginError, BoardError,
    BusyError of the board; UnreachableError when it has stayed away for as long as `backoff` says.
    """
    watched, backoff = watched or Watched(), backoff or Backoff()
    waits, began = backoff.waits(), time.monotonic()
    while True:
        known = watched.offset
        try:
            with Connection(host) as there:
                _carry(there, job, watched)
                return
        except SilentError:
            raise
        except UnreachableError as error:
            if watched.offset > known:  # it was there in between
                waits, began = backoff.waits(), time.monotonic()
            wait = next(waits, None)
            if wait is None:
                goes_on = "; what runs there goes on, and the same command finds it again"
                raise UnreachableError(
                    f"{error}; tried for {minutes(time.monotonic() - began)}"
                    f"{goes_on if watched.seen else ''}"
                ) from None
            log.warning("%s; trying again in %.0f s", error, wait)
            time.sleep(wait)


def _carry(there: Connection, job: Job, watched: Watched) -> None:
    while True:
        state = there.ask("status", job=job.name)
        ours = state["digest"] == job.digest
        if state["state"] == "running" and not ours:
            raise BusyError(
                f"{there.host.name} runs an earlier form of {job.title}; end it first "
                f"(core devices stop {job.out or ''})"
            )
        if state["state"] == "running":
            if not watched.seen:
                log.info("%s runs on %s already; watching it", job.title, there.host.name)
        elif not watched.wanted:
            return
        elif not (ours and state["state"] == "ended" and _counts(state, job, watched)):
            _begin(there, job, watched, state)
            if not watched.wanted:  # since then
                there.ask("stop", job=job.name, patience=0)
        watched.seen = True
        ended = _follow(there, job, watched)
        if not watched.wanted or (ended["state"] == "ended" and _counts(ended, job, watched)):
            break
        log.warning("%s: %s %s", there.host.name, job.title, _how(ended))
    watched.over = True
    _check_end(there.host, job, watched, ended["exit_code"] or 0)
    for path in job.results:
        _fetch(there, path)
    if job.out is not None and not job.out.is_file():  # a run, whose last snapshots stay there
        for path in job.snapshots:
            path.mkdir(parents=True, exist_ok=True)
    there.ask("brought", job=job.name)
    _drop_old(job)


def _counts(state: dict[str, Any], job: Job, watched: Watched) -> bool:
    """Whether an end is that of this attempt, or a success that needs no other. What was brought
    once is asked for because it is to be made anew. Environments are looked at every time: their
    lists change. A part is needed until the run has ended."""
    if watched.seen:
        return not job.part or state["exit_code"] in (0, *INCURABLE)
    if job.spec is None or job.out is None or job.part or state["exit_code"] != 0:
        return False
    here = job.out if job.out.is_file() else job.out / LAST
    return here.is_file() or not state["brought"]


def _how(state: dict[str, Any]) -> str:
    """What became of a job that is begun again."""
    words = {
        "lost": "was killed; it goes on from its last snapshot",
        "rebooted": "was cut short because the board started again; it goes on from its last "
        "snapshot",
        "none": "was removed from the board; it begins again",
    }
    ended = f"ended with exit code {state['exit_code']}; it goes on from its last snapshot"
    return words.get(state["state"], ended)


def _begin(there: Connection, job: Job, watched: Watched, before: dict[str, Any]) -> None:
    """Send what is missing and start the job."""
    host = there.host
    if watched.seen:
        _count_restart(host, job, watched, before)
    own, inputs = code(), list(job.inputs())
    inputs += _new_snapshots(there, job)
    wanted = {sent.sha256: sent for sent in [*own, *inputs]}
    _check(host, there.ask("facts"), sum(s.source.stat().st_size for s in wanted.values()))
    if host.python is None and job.spec is not None:
        _check_environment(there, job)
    _send(there, list(wanted.values()))
    answer = there.ask(
        "start",
        job=job.name,
        title=job.title,
        who=f"{getpass.getuser()}@{socket.gethostname()}",
        digest=job.digest,
        base=base(),
        remove=[str(path) for path in job.made_anew()] if before["brought"] else [],
        code=[sent.words() for sent in own],
        inputs=[sent.words() for sent in inputs],
        command=_command(host, job),
    )
    if "busy" in answer:
        raise BusyError(_busy(host, answer["busy"]))
    watched.offset, watched.line, watched.error = 0, "", ""
    watched.begun = time.monotonic()
    log.info("%s runs on %s (%s)", job.title, host.name, host.address)


def _count_restart(host: Host, job: Job, watched: Watched, before: dict[str, Any]) -> None:
    """Raises BoardError for a job that cannot be kept going."""
    if job.part and time.monotonic() - watched.begun > HEALTHY_S:
        watched.restarts = 0
    watched.restarts += 1
    if watched.restarts > RESTARTS:
        said = f"; the last time it said: {watched.error}" if watched.error else ""
        raise BoardError(
            f"{host.name}: {job.title} {_how(before)}, {RESTARTS} times in a row; look at the "
            f"board (memory, power supply, temperature){said}"
        )


def _command(host: Host, job: Job) -> list[str]:
    if job.spec is None:
        return ["bash", "@checkout/envs/run", job.environment]
    python = (
        [host.python] if host.python else ["bash", "@checkout/envs/run", job.environment, "python"]
    )
    commit = results.commit()
    return [
        "env",
        *([f"CORE_COMMIT={commit}"] if commit else []),
        *python,
        "-m",
        "core",
        *(job.there or job.words),
    ]


def _busy(host: Host, lease: dict[str, Any]) -> str:
    since = time.strftime("%H:%M on %d %B", time.localtime(lease.get("since", 0)))
    return (
        f"{host.name} is taken: {lease.get('who', 'somebody')} runs {lease.get('title', 'a job')} "
        f"there since {since}; wait for it, or end it where it was started (core devices stop)"
    )


def _check(host: Host, facts: dict[str, Any], needed: int) -> None:
    """Raises BoardError for a board on which nothing would come of it."""
    if facts["old"]:
        raise BoardError(f"{host.name} has Python {facts['python']}; 3.8 or newer is needed")
    off = facts["time"] - time.time()
    if abs(off) > CLOCK_S:
        raise BoardError(
            f"{host.name}: its clock is {abs(off) / 86400:.0f} days "
            f"{'ahead' if off > 0 else 'behind'}; set it (sudo timedatectl set-ntp true)"
        )
    if facts["free_disk"] < needed + ROOM:
        raise BoardError(
            f"{host.name}: {host.folder} has {facts['free_disk'] >> 20} MiB left, "
            f"{(needed + ROOM) >> 20} MiB are needed; free some space there (core devices clean)"
        )


def _check_environment(there: Connection, job: Job) -> None:
    host = there.host
    if not there.has_environment(job.environment):
        raise MissingPackageError(
            f"{host.name} has no environment {job.environment!r}; make it first (core devices "
            f"prepare {host.name} --environment {job.environment}), or name an interpreter that "
            "has the packages (python in config/hosts.yaml)"
        )


def _new_snapshots(there: Connection, job: Job) -> list[Sent]:
    """Snapshots that lie here and not on the board."""
    here = list(job.snapshots_here())
    known = {
        name
        for path in (job.snapshots if here else ())
        for name, *_ in there.ask("files", base=base(), path=str(path))["files"]
    }
    return [sent for sent in here if sent.path not in known]


def _send(there: Connection, files: Sequence[Sent]) -> None:
    """Bring what the board does not have into its store."""
    by_sha = {sent.sha256: sent for sent in files}
    for _ in range(2):
        missing = dict(there.ask("missing", files=list(by_sha), base=base())["missing"])
        if not missing:
            return
        sizes = {sha: by_sha[sha].source.stat().st_size for sha in missing}
        missing = {sha: have if have <= sizes[sha] else 0 for sha, have in missing.items()}
        total = sum(sizes.values()) - sum(missing.values())
        with _bar(f"to {there.host.name}", total) as bar:
            for sha, have in missing.items():
                there.put(by_sha[sha].source, there.stored(sha, base()), have, bar.update)
        if not there.ask("accept", 600, files=list(missing), base=base())["damaged"]:
            return
    raise BoardError(
        f"{there.host.name}: files arrived damaged twice; look at the board's disk and cable"
    )


def _follow(there: Connection, job: Job, watched: Watched) -> dict[str, Any]:
    """Log what the job says until it has ended; its last state. Raises LostError."""
    state: dict[str, Any] = {"state": "running"}
    for state in there.lines("follow", job=job.name, offset=watched.offset):
        watched.offset = state["offset"]
        _log(there.host, state["log"], watched)
        if state["state"] == "running" and state["beat_age"] > HEARTBEAT_S:
            raise SilentError(
                f"{there.host.name}: what watches over {job.title} has been silent for "
                f"{minutes(state['beat_age'])}; look at the board. The same command finds the run"
            )
        if time.monotonic() - watched.saved > SNAPSHOT_S and job.spec:
            watched.saved = time.monotonic()
            _fetch_snapshots(there, job)
    if state["state"] == "running":
        raise LostError(f"{there.host.name}: the connection ended")
    return state


def _log(host: Host, text: str, watched: Watched) -> None:
    """Whole lines, as of this process."""
    *lines, watched.line = (watched.line + text).split("\n")
    for line in lines:
        shown = line.rpartition("\r")[2].strip()
        if shown.startswith("error: "):
            watched.error = shown.removeprefix("error: ")
        if shown:
            log.info("%s: %s", host.name, shown)


def _check_end(host: Host, job: Job, watched: Watched, code: int) -> None:
    """Raises the error of the command there."""
    if code == 0:
        return
    if code in INTERRUPTED:
        log.warning("%s was stopped on %s; the same command goes on", job.title, host.name)
        raise SystemExit(code)
    if code == KILLED:
        raise BoardError(
            f"{host.name}: {job.title} was killed there; did the board run out of memory? Its "
            "snapshots are there, and the same command goes on"
        )
    kinds = {kind.exit_code: kind for kind in CoreError.__subclasses__()}
    said = watched.error or f"{job.title} ended with exit code {code}; its messages are above"
    raise kinds.get(code, BoardError)(f"{host.name}: {said}")


def goes_on(title: object, boards: Sequence[str]) -> None:
    """Say that a run does so without this process."""
    log.warning(
        "%s goes on on %s; the same command finds it again, `core devices stop %s` ends it",
        title, " and ".join(boards), title,
    )  # fmt: skip


# The way back.


def bring(host: Host, job: Job) -> None:
    """Bring back the snapshots of a job that was stopped there. Raises the errors of a board."""
    with Connection(host) as there:
        _fetch_snapshots(there, job)


def _fetch(there: Connection, path: Path, live: bool = False) -> None:
    """Bring back a folder or a file: what says that it is whole comes last, and each file is
    checked before it takes its place. live: a run writes there; what changed meanwhile comes
    another time."""
    answer = there.ask("files", 600, base=base(), path=str(path))
    found = sorted(answer["files"], key=lambda each: Path(each[0]).name == LAST)
    wanted = [each for each in found if _wanted(there.host, path, *each)]
    with _bar(f"from {there.host.name}", sum(size for _, size, _ in wanted)) as bar:
        for name, size, sha in wanted:
            try:
                _fetch_file(there, f"{answer['folder']}/{name}", Path(name), size, sha, bar)
            except ChangedError as error:
                if not live:
                    raise
                log.debug("%s; it comes with the next ones", error)
    for part in path.rglob(".*.part"):  # of a file that has gone there
        part.unlink()


def _fetch_snapshots(there: Connection, job: Job) -> None:
    """Bring back the snapshots that are there now; as on the board, the newest ones stay."""
    for path in job.snapshots:
        _fetch(there, path, live=True)
    _drop_old(job)


def _drop_old(job: Job) -> None:
    files = [file for path in job.snapshots for file in path.rglob("step-*.safetensors")]
    for folder in {file.parent for file in files}:
        for old in sorted(folder.glob("step-*.safetensors"))[:-KEPT]:
            old.unlink()


def _wanted(host: Host, top: Path, name: str, size: int, sha: str) -> bool:
    """Whether a file has to come. Raises BoardError for a name that leaves its folder."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or top not in [path, *path.parents]:
        raise BoardError(f"{host.name} offers a file {name!r} outside {top}; it is not fetched")
    return not (path.exists() and path.stat().st_size == size and digest(path) == sha)


def _fetch_file(there: Connection, remote: str, local: Path, size: int, sha: str, bar: Any) -> None:
    part = local.with_name(f".{local.name}.{sha[:16]}.part")  # goes on where it was
    part.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        there.get(remote, part, size, bar.update)
        if part.stat().st_size == size and digest(part) == sha:
            with replacing(local) as temporary:
                part.replace(temporary)
            return
        part.unlink()
    raise ChangedError(
        f"{there.host.name}: {remote} does not have its checksum {sha[:16]}… after two attempts; "
        "look at the board's disk"
    )


def _bar(what: str, total: int) -> Any:
    return tqdm(
        total=total, desc=what, unit="B", unit_scale=True, disable=None if total > ROOM else True
    )
