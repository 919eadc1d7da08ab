"""What runs on a board beside the runs themselves: a supervisor, and answers to the host.

This file is carried to the board by itself and called as `python board.py ROOT VERB` with JSON on
standard input; it answers with lines of JSON. It needs Python 3.8 and nothing else.

ROOT/store/SHA256      every file that came up, once
ROOT/checkout          the project's code, changed only while nothing runs
ROOT/work/BASE         what a checkout on the host has, at the same relative paths
ROOT/jobs/JOB          state.json and log: a folder for each run or profile
ROOT/lease.json, .lock who has the board

A run holds the lock of the lease by a handle that it inherits: there is one at a time, and a dead
one keeps nobody out.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Dict  # noqa: UP035 - Python 3.8

Answer = Dict[str, Any]  # noqa: UP006

OLDEST_PYTHON = (3, 8)
BEAT_S = 1.0  # between two heartbeats
POLL_S = 0.2
LEASE_S = 1.0
OURS = ("checkout", "jobs", "lease.json", "lease.lock", "store", "work")
CHUNK = 1 << 20
LOG_CHUNK = 64 << 10  # of the log in one line


def facts(root: Path, ask: Answer) -> Answer:
    """What the board is, and what runs there. ask: nothing."""
    root.mkdir(parents=True, exist_ok=True)
    if all(path.name in OURS or path.name.startswith("board-") for path in root.iterdir()):
        root.chmod(0o700)  # certificates and data of runs are nobody else's
    probe = root / f".probe-{os.getpid()}"
    probe.write_bytes(bytes(4096))  # says whether anything can be written here
    probe.unlink()
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "old": sys.version_info < OLDEST_PYTHON,
        "machine": os.uname().machine,
        "time": time.time(),
        "free_disk": shutil.disk_usage(root).free,
        "free_memory": _free_memory(),
        "sensors": _sensors(),
        "power_mode": _power_mode(),
        "lease": _lease(root),
        "jobs": [_public(_state(root, job)) for job in _children(root / "jobs")],
    }


def missing(root: Path, ask: Answer) -> Answer:
    """Which of these files are not in the store, and how many bytes of each are. ask: files, base
    (who sends: two of them do not write into one file)."""
    (root / "store").mkdir(mode=0o700, parents=True, exist_ok=True)
    found = []
    for sha in ask["files"]:
        if not _stored(root, sha).exists():
            part = _part(root, sha, ask["base"])
            found.append([sha, part.stat().st_size if part.exists() else 0])
    return {"missing": found}


def accept(root: Path, ask: Answer) -> Answer:
    """Take files that came up into the store, if they are what their names say. ask: files,
    base."""
    damaged = []
    for sha in ask["files"]:
        part = _part(root, sha, ask["base"])
        if not part.exists() and _stored(root, sha).exists():
            continue  # somebody else brought it meanwhile
        if _seen(part)[1] == sha:
            _flush(part)
            part.replace(_stored(root, sha))
        else:
            part.unlink()
            damaged.append(sha)
    return {"damaged": damaged}


def start(root: Path, ask: Answer) -> Answer:
    """Take the lease, put files in their places, start a command under a supervisor.

    ask: job, title, who, digest (of what is asked), base, remove (paths that are made anew), code
    and inputs (path, sha256, link or copy), command, in which @checkout stands for the folder of
    the code.
    """
    lock = _take_lease(root, LEASE_S)
    if lock is None:
        return {"busy": _lease(root) or {}}
    job = _job(root, ask["job"])
    job.mkdir(parents=True, exist_ok=True)
    checkout, work = root / "checkout", _inside(root / "work", ask["base"])
    work.mkdir(parents=True, exist_ok=True)
    for path in (_inside(work, name) for name in ask["remove"]):
        if path.exists():
            _remove(path)
    _place(root, checkout, ask["code"], owned="core")
    _place(root, work, ask["inputs"])
    lease = {key: ask[key] for key in ("job", "who", "title")}
    _write(root / "lease.json", {**lease, "boot": _boot(), "since": time.time()})
    state = {"state": "running", "digest": ask["digest"], "title": ask["title"], "boot": _boot()}
    state.update(beat=time.time(), began=time.time(), exit_code=None)
    _write(job / "state.json", state)
    (job / "log").write_bytes(b"")
    command = [word.replace("@checkout", str(checkout)) for word in ask["command"]]
    if os.fork() == 0:
        _detach()
        _supervise(job, command, work, checkout, state, lock)
        os._exit(0)
    return {"started": True}


def follow(root: Path, ask: Answer) -> None:
    """Lines about a job until it has ended: what its log grew by, and a sign of life.

    ask: job, offset (bytes of the log that are known).
    """
    job, offset, said = _job(root, ask["job"]), int(ask["offset"]), 0.0
    while True:
        state = _state(root, job)
        text, offset = _log_from(job, offset)
        ended = state["state"] != "running"
        if text or ended or time.monotonic() - said > 3 * BEAT_S:
            age = time.time() - state.get("beat", 0)
            _say({"log": text, "offset": offset, "beat_age": age, **_public(state)})
            said = time.monotonic()
        if ended and not text:
            return
        time.sleep(0 if text else POLL_S)


def status(root: Path, ask: Answer) -> Answer:
    """The state of a job: none, running, ended, lost (killed) or rebooted. ask: job."""
    return _public(_state(root, _job(root, ask["job"])))


def stop(root: Path, ask: Answer) -> Answer:
    """Let a job save and end, as `kill` would; kill it if it does not. ask: job, patience."""
    job = _job(root, ask["job"])
    for number, seconds in ((signal.SIGTERM, float(ask["patience"])), (signal.SIGKILL, 10.0)):
        state = _state(root, job)
        if state["state"] == "running" and "child" in state:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(state["child"], number)
        end = time.monotonic() + seconds
        while _state(root, job)["state"] == "running" and time.monotonic() < end:
            time.sleep(POLL_S)
    return _public(_state(root, job))


def brought(root: Path, ask: Answer) -> Answer:
    """Note that what an ended job wrote is at the host: asked for again, it is made anew. ask:
    job."""
    job = _job(root, ask["job"])
    state = _read(job / "state.json")
    if state.get("state") == "ended":
        _write(job / "state.json", {**state, "brought": True})
    return {}


def port(root: Path, ask: Answer) -> Answer:
    """A port at which nobody listens: the one that is wanted, if that can be. ask: port."""
    for wanted in (int(ask["port"]), 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("", wanted))
                return {"port": probe.getsockname()[1]}
    raise ValueError("no port is free")


def files(root: Path, ask: Answer) -> Answer:
    """Size and checksum of every file below a path, or of that file. ask: base, path."""
    work = _inside(root / "work", ask["base"])
    top = _inside(work, ask["path"])
    found = []
    for path in [top] if top.is_file() else _below(top):
        with contextlib.suppress(FileNotFoundError):  # a snapshot that was replaced meanwhile
            found.append([str(path.relative_to(work)), *_seen(path)])
    return {"files": found, "folder": str(work)}


def clean(root: Path, ask: Answer) -> Answer:
    """Remove what nothing used for so many days; the bytes that became free. ask: days."""
    if _take_lease(root, LEASE_S) is None:
        return {"busy": _lease(root) or {}}
    limit, freed, gone = time.time() - 86400 * float(ask["days"]), 0, []
    for job in _children(root / "jobs"):
        state = _read(job / "state.json")
        if state.get("beat", 0) < limit:
            gone.append(state.get("title", job.name))
            freed += _remove(job)
    for path in [*_children(root / "work"), *_children(root / "store")]:
        times = [each.stat().st_mtime for each in _below(path)] or [path.stat().st_mtime]
        if max(times) < limit:
            freed += _remove(path)
    return {"freed": freed, "jobs": gone}


VERBS = {
    "facts": facts,
    "missing": missing,
    "accept": accept,
    "start": start,
    "follow": follow,
    "status": status,
    "stop": stop,
    "brought": brought,
    "port": port,
    "files": files,
    "clean": clean,
}


# The supervisor.


def _detach() -> None:
    """A session of its own: a connection that drops takes nothing along."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)


def _supervise(
    job: Path, command: list[str], work: Path, checkout: Path, state: Answer, lock: int
) -> None:
    """Run the command, beat, and note how it ended."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(checkout)}
    with (job / "log").open("ab") as log:
        try:
            child = subprocess.Popen(
                command, cwd=work, env=environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True, pass_fds=[lock],
            )  # fmt: skip
        except OSError as error:
            log.write(f"error: {command[0]}: {error.strerror}\n".encode())
            _write(job / "state.json", {**state, "state": "ended", "exit_code": 8})
            return
    state.update(child=child.pid)
    code = None
    while code is None:
        with contextlib.suppress(OSError):  # a full disk must not end who watches
            _write(job / "state.json", {**state, "beat": time.time()})
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = child.wait(BEAT_S)
    ended = {"state": "ended", "exit_code": code if code >= 0 else 128 - code}
    while job.is_dir():  # else it was cleaned away, and nobody asks any more
        with contextlib.suppress(OSError):
            _write(job / "state.json", {**state, **ended, "beat": time.time()})
            return
        time.sleep(BEAT_S)  # how it ended is told as soon as there is room


def _state(root: Path, job: Path) -> Answer:
    """What is known of a job: it is `running` only while something holds the lease for it."""
    state = _read(job / "state.json")
    if not state:
        return {"state": "none"}
    if state["state"] != "running":
        return state
    if state["boot"] != _boot():
        return {**state, "state": "rebooted"}
    if _read(root / "lease.json").get("job") == job.name and _held(root):
        return state
    again = _read(job / "state.json")  # it may have ended just now
    return again if again.get("state") == "ended" else {**state, "state": "lost"}


def _public(state: Answer) -> Answer:
    keys = ("state", "exit_code", "digest", "title", "began", "brought")
    return {key: state.get(key) for key in keys}


def _log_from(job: Path, offset: int) -> tuple[str, int]:
    """What the log grew by, up to a limit, and where that ends."""
    try:
        with (job / "log").open("rb") as log:
            log.seek(offset)
            data = log.read(LOG_CHUNK)
    except FileNotFoundError:
        return "", offset
    return data.decode("utf-8", errors="replace"), offset + len(data)


# The lease.


def _take_lease(root: Path, seconds: float = 0.0) -> int | None:
    """A handle that holds the lease; None where another has it for so long. Who only looks
    whether it is held has it for a moment."""
    root.mkdir(parents=True, exist_ok=True)
    lock = os.open(root / "lease.lock", os.O_RDWR | os.O_CREAT, 0o600)
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(lock)
                return None
            time.sleep(POLL_S / 4)


def _held(root: Path) -> bool:
    lock = _take_lease(root)
    if lock is None:
        return True
    os.close(lock)
    return False


def _lease(root: Path) -> Answer | None:
    """Who has the board; None where nobody has."""
    return _read(root / "lease.json") if _held(root) else None


# Files.


def _place(root: Path, top: Path, wanted: list[list[str]], owned: str = "") -> None:
    """Put files (path, sha256, link or copy) from the store into their places. owned: a folder
    below `top` from which all others are removed."""
    for path, sha, how in wanted:
        target, stored = _inside(top, path), _stored(root, sha)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(target.name + ".fresh")
        fresh.unlink() if fresh.exists() else None
        if how == "link":
            os.link(stored, fresh)
        else:  # a run writes into it
            shutil.copyfile(stored, fresh)
            fresh.chmod(0o600)
        os.utime(fresh)  # `clean` goes by what was used last
        fresh.replace(target)
        fresh.unlink() if fresh.exists() else None  # both were links to one file: nothing replaced
    if owned:
        names = {_inside(top, path) for path, *_ in wanted}
        for file in list(_below(top / owned)):
            if file not in names:
                file.unlink()


def _inside(top: Path, path: str) -> Path:
    """A path below a folder, and no other one."""
    found = Path(os.path.normpath(top / path))
    if top not in found.parents:
        raise ValueError(f"{path!r} leaves its folder")
    return found


def _stored(root: Path, sha: str) -> Path:
    if len(sha) != 64 or set(sha) - set("0123456789abcdef"):
        raise ValueError(f"{sha!r} is no checksum")
    return root / "store" / sha


def _part(root: Path, sha: str, base: str) -> Path:
    """Where a file comes up from a working directory of a host."""
    if not base.isalnum():
        raise ValueError(f"{base!r} is no working directory")
    return _stored(root, sha).with_name(f"{sha}.{base}.part")


def _job(root: Path, name: str) -> Path:
    if not name.isalnum():
        raise ValueError(f"{name!r} is no name of a job")
    return root / "jobs" / name


def _seen(path: Path) -> tuple[int, str]:
    """Bytes that a file has now, and the checksum of these: a run may write more meanwhile."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = left = os.fstat(file.fileno()).st_size
        while left:
            block = file.read(min(CHUNK, left))
            if not block:
                break
            digest.update(block)
            left -= len(block)
    return size - left, digest.hexdigest()


def _read(path: Path) -> Answer:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _write(path: Path, content: Answer) -> None:
    fresh = path.with_name(path.name + ".fresh")
    fresh.write_text(json.dumps(content), encoding="utf-8")
    _flush(fresh)
    fresh.replace(path)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _below(folder: Path) -> Iterator[Path]:
    """Files below a folder; not links, and not half-written ones, whose names begin with a dot."""
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
            yield path


def _remove(path: Path) -> int:
    """Remove a file or folder; the bytes that it held."""
    size = sum(each.stat().st_size for each in _below(path))
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return size


# The machine.


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _free_memory() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                return 1024 * int(line.split()[1])
    return None


def _sensors() -> list[str]:
    """Power sensors that this board has, by the names of config/devices."""
    ina3221 = Path("/sys/bus/i2c/drivers/ina3221"), Path("/sys/bus/i2c/drivers/ina3221x")
    found = ["ina3221"] if any(path.exists() for path in ina3221) else []
    found += ["rapl"] if Path("/sys/class/powercap/intel-rapl:0").exists() else []
    return found + (["pmic"] if shutil.which("vcgencmd") else [])


def _power_mode() -> str | None:
    """As the board's own tool says it; None where there is none."""
    if not shutil.which("nvpmodel"):
        return None
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        said = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=10)
        return " ".join(said.stdout.split()) or None
    return None


def _say(answer: Answer) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Answer one question; errors are answers too."""
    root, verb = Path(sys.argv[1]).expanduser(), sys.argv[2]
    try:
        answer = VERBS[verb](root, json.load(sys.stdin))
    except OSError as error:
        where = str(error.filename or root)
        answer = {"error": error.strerror, "errno": error.errno, "path": where}
    except ValueError as error:
        answer = {"error": str(error), "path": str(root)}
    if answer is not None:
        _say(answer)


if __name__ == "__main__":
    main()
