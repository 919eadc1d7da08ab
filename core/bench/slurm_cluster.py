"""A real Slurm cluster of two nodes on this machine: munged, slurmctld and two slurmd, in a folder
and on ports of its own. For the benchmark of that name, and for tests."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "squeue", "srun", "scontrol", "scancel", "sinfo")
SBIN = "/usr/sbin:/sbin"
NODES = ("one", "two")
# How Snakemake learns of jobs here, where there is no accounting, and soon.
STATUS = (
    "--slurm-status-command=squeue",
    "--slurm-init-seconds-before-status-checks=1",
    "--seconds-between-status-checks=1",
    "--latency-wait=5",
)

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/%n
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=4000
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=4000
PartitionName=main Nodes=one,two Default=YES MaxTime=INFINITE State=UP
"""


def is_installed() -> bool:
    """Whether Debian's slurmctld, slurmd and munge are there, and this user may start them."""
    found = all(shutil.which(name, path=f"{os.environ['PATH']}:{SBIN}") for name in PROGRAMS)
    return found and os.geteuid() == 0


class Slurm:
    """The cluster. path: to be put before PATH, so that its commands find it wherever they run;
    the executor of Snakemake takes variables of Slurm out of the environment."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "bin"
        self._environment = os.environ | {
            "PATH": f"{os.environ['PATH']}:{SBIN}",
            "SLURM_CONF": str(folder / "slurm.conf"),
        }

    def start(self) -> None:
        """Start everything; returns when both nodes are idle."""
        for name in ("state", "bin", *NODES):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid"}
        files |= {"log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge.{end}" for option, end in files.items()]
        self._run("munged", "--force", *options)
        host, ports = socket.gethostname().partition(".")[0], free_ports(3)
        config = CONFIG.format(host=host, folder=self.folder, ports=ports)
        (self.folder / "slurm.conf").write_text(config)
        for name in CLIENTS:
            script = self.path / name
            real = shutil.which(name, path=self._environment["PATH"])
            conf = self._environment["SLURM_CONF"]
            script.write_text(f'#!/bin/sh\nSLURM_CONF={conf} exec {real} "$@"\n')
            script.chmod(0o755)
        self._run("slurmctld")
        for node in NODES:
            self._run("slurmd", "-N", node)
        wait(lambda: self("sinfo", "-hN", "-o", "%T").split() == ["idle", "idle"])

    def __call__(self, *words: str) -> str:
        """What a command of Slurm says."""
        return self._run(*words).stdout

    def kill(self, node: str) -> None:
        """A node that loses power: its daemon and whatever it runs are gone at once."""
        daemon = int((self.folder / f"{node}.pid").read_text())
        steps = [pid for pid in processes() if self._is_of(pid, node)]
        for pid in (daemon, *steps, *(child for step in steps for child in descendants(step))):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self("scontrol", "update", f"nodename={node}", "state=down", "reason=killed")

    def _is_of(self, pid: int, node: str) -> bool:
        """Whether a process is a job step of a node: it has its log open."""
        log = str(self.folder / f"{node}.log")
        with suppress(OSError):
            return any(str(file.readlink()) == log for file in Path(f"/proc/{pid}/fd").iterdir())
        return False

    def stop(self) -> None:
        """End all of it."""
        for node in NODES:
            for pid in [p for p in processes() if self._is_of(p, node)]:
                for each in (*descendants(pid), pid):
                    with suppress(ProcessLookupError):
                        os.kill(each, signal.SIGKILL)
        for name in ("slurmctld.pid", "munge.pid"):
            with suppress(OSError, ValueError):
                os.kill(int((self.folder / name).read_text()), signal.SIGTERM)

    def _run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            words, env=self._environment, text=True, capture_output=True, check=True
        )


def free_ports(count: int) -> list[int]:
    """Ports that are free now."""
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in listening]
    for each in listening:
        each.close()
    return ports


def processes() -> list[int]:
    """All of this machine."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def descendants(pid: int) -> list[int]:
    """Children of a process, their children and so on."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout
    children = [int(word) for word in found.split()]
    return [each for child in children for each in (child, *descendants(child))]


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Until something is so. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"it did not come to that in {seconds:g} s")
        time.sleep(0.2)
