"""Sending a run to a board: what that takes beside the run.

The board is an OpenSSH server on this machine, so the numbers are those of the programs and not of
a network.
"""

import getpass
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from core.bench import Report
from core.devices.connection import Connection
from core.devices.dispatch import _send, carry
from core.devices.hosts import Host
from core.devices.job import Job, Sent
from core.errors import MissingPackageError

MIB, REPEATS = 100, 3
OVERHEAD_S = 2.0  # of a run with nothing to copy, at most
SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


def run() -> Report:
    """Overhead with nothing to copy, upload against scp, delay of the log, time to find a run."""
    logging.getLogger("core").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as name, served(Path(name)) as host, chdir(name):
        overhead, upload = _overhead(host), _upload(host, Path(name))
        delay, found = _follow(host)
    figures = {"overhead_s": overhead, "upload": upload, "log_delay_s": delay, "found_s": found}
    limits = {"overhead_s": OVERHEAD_S, "log_delay_s": 2.0, "found_s": 3.0}
    notes = [
        "overhead_s: a command that ends at once, code and files there already, the best of three; "
        f"upload: {MIB} MiB with both checksums, beside scp to the same server, the best of three "
        "of each (share: of scp's speed; at least 0.7 is asked for)",
        "log_delay_s: from a line on the board to its arrival here, the worst of ten; found_s: "
        "from no connection to the first line of a run",
    ]
    return Report(figures, limits, notes)


@contextmanager
def served(folder: Path) -> Iterator[Host]:
    """A board in a folder. Raises MissingPackageError without OpenSSH."""
    if not Path(SSHD).exists():
        raise MissingPackageError("this benchmark needs an OpenSSH server (openssh-server)")
    for name in ("host", "user"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    known = folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nPidFile {folder}/pid\n"
        f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([SSHD, "-D", "-f", str(folder / "sshd_config")])
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        keys = (str(folder / "user"),)
        board = str(folder / "board")
        yield Host(
            "board", "127.0.0.1", port, getpass.getuser(), keys, None, board, sys.executable, known
        )
    finally:
        server.terminate()
        server.wait()


def _overhead(host: Host) -> float:
    """Seconds of the best of three, after one that sends the code; Python's own start included."""
    taken = []
    for number in range(1 + REPEATS):
        spec = Path("spec.yaml")
        spec.write_text(f"{number}\n")  # something else is asked for each time
        start = time.monotonic()
        carry(host, Job(("--version",), "main", spec))
        taken.append(time.monotonic() - start)
    return round(min(taken[1:]), 2)


def _upload(host: Host, folder: Path) -> dict[str, float]:
    """MB/s of a file into the store, and of scp."""
    ours, theirs = [], []
    words = ["scp", "-q", "-P", str(host.port), "-i", host.keys[0]]
    words += ["-o", f"UserKnownHostsFile={host.known_hosts}"]
    with Connection(host) as there:
        for number in range(REPEATS):
            file = folder / "large"
            file.write_bytes(os.urandom(MIB << 20))
            start = time.monotonic()
            _send(there, [Sent.of(file, "large")])
            ours.append(time.monotonic() - start)
            start = time.monotonic()
            target = f"{host.user}@{host.host}:{folder}/copy{number}"
            subprocess.run([*words, str(file), target], check=True, stdin=subprocess.DEVNULL)
            theirs.append(time.monotonic() - start)
    speeds = {"mb_s": (MIB << 20) / 1e6 / min(ours), "scp_mb_s": (MIB << 20) / 1e6 / min(theirs)}
    return {**{k: round(v) for k, v in speeds.items()}, "share": round(min(theirs) / min(ours), 2)}


def _follow(host: Host) -> tuple[float, float]:
    """Worst delay of ten lines; seconds from a new connection to the first line of a run."""
    program = "import time\nfor _ in range(10): print(time.time(), flush=True); time.sleep(0.3)"
    ask = {"job": "lines", "title": "lines", "who": "bench", "digest": "", "base": "bench"}
    delays = []
    with Connection(host) as there:
        command = [sys.executable, "-c", program]
        there.ask("start", 30, **ask, code=[], inputs=[], command=command)
        for line in there.lines("follow", job="lines", offset=0):
            now = time.time()
            delays += [now - float(said) for said in line["log"].split()]
    start = time.monotonic()
    with Connection(host) as there:
        next(iter(there.lines("follow", job="lines", offset=0)))
        found = time.monotonic() - start
    return round(max(delays), 2), round(found, 2)
