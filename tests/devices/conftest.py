"""A board: a real OpenSSH server on this machine, with keys, user and folder of its own."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.spec import RunSpec

NAME = "jetson_tx2"
SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


@dataclass
class Sshd:
    """A server. Everything of it lies in `folder`. within: words before its command."""

    folder: Path
    port: int
    address: str = "127.0.0.1"
    within: tuple[str, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Serve until `stop`."""
        command = [*self.within, SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex((self.address, self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError((self.folder / "sshd.log").read_text())

    def cut(self) -> None:
        """Kill every connection that is open, as a cable that is pulled out."""
        assert self.process is not None
        children = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True
        )
        for pid in children.stdout.split():
            os.kill(int(pid), 9)

    def stop(self) -> None:
        """No more connections; those that are open stay."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def hosts(self, here: Path, **changes: Any) -> Path:
        """A hosts.yaml of a working directory, whose board lies in a folder of it."""
        entry = {
            "host": self.address,
            "port": self.port,
            "user": getpass.getuser(),
            "key": str(self.folder / "user_key"),
            "folder": str(here / "board"),
            "python": sys.executable,
            "known_hosts": str(self.folder / "known_hosts"),
        }
        path = here / "config" / "hosts.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({NAME: entry | changes}))
        return path


def keygen(path: Path) -> str:
    """Make a key pair; the public one."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)],
        check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return path.with_name(path.name + ".pub").read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_sshd(folder: Path, address: str = "127.0.0.1", within: tuple[str, ...] = ()) -> Sshd:
    if not Path(SSHD).exists():
        raise AssertionError("these tests need an OpenSSH server: sudo .ci/system-packages")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it; a service would make it
    server = Sshd(folder, free_port(), address, within)
    host_key = keygen(folder / "host_key")
    (folder / "authorized_keys").write_text(keygen(folder / "user_key"))
    (folder / "known_hosts").write_text(f"[{address}]:{server.port} {host_key}")
    (folder / "sshd_config").write_text(
        f"ListenAddress {address}:{server.port}\n"
        f"HostKey {folder}/host_key\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\n"
        f"PidFile {folder}/pid\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        "MaxStartups 100\nSubsystem sftp internal-sftp\n"
    )
    return server


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = make_sshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own: paths that are carried are relative to it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def task(here: Path, profiled: RunSpec) -> Callable[..., Path]:
    """A spec at a relative path, with data and profile beside it; changes are of `training`."""

    def make(out: str = "results/run", **changes: Any) -> Path:
        content = dict(profiled.content) | {"profile": "results/profile.json"}
        content["device"] = content["device"] | {"name": NAME}
        content["data"] = content["data"] | {"folder": "results/data"}
        content["training"] = content["training"] | changes
        if not (here / "results/data").exists():
            shutil.copytree(profiled["data"]["folder"], here / "results/data")
            shutil.copy(profiled["profile"], here / "results/profile.json")
        path = Path(out) / "spec.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        RunSpec(content).save(path)
        return path

    return make
