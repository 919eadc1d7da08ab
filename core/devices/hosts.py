"""Where boards are: config/hosts.yaml, filled up from ~/.ssh/config."""

import getpass
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import schema
from core.errors import ConfigError

DEFAULT = Path("config/hosts.yaml")


@dataclass(frozen=True)
class Host:
    """How to reach a board, and what to use there. `core/schemas/hosts.schema.yaml` has the words.

    keys: files of private keys; none lets the agent and ~/.ssh decide. jump: a host in between.
    cloud_port: at which the cloud of a split run listens there; None is one that is free.
    """

    name: str
    host: str
    port: int
    user: str
    keys: tuple[str, ...]
    jump: "Host | None"
    folder: str
    python: str | None
    known_hosts: Path
    cloud_port: int | None = None

    @property
    def address(self) -> str:
        """For messages."""
        return f"{self.user}@{self.host}:{self.port}"


def read_hosts(path: Path = DEFAULT) -> dict[str, dict[str, Any]]:
    """What the file says of each board; nothing where there is no file. Raises ConfigError."""
    if not path.exists():
        return {}
    content = schema.read_yaml(path) or {}
    schema.check(content, "hosts", [path])
    return dict(content)


def host(name: str, path: Path = DEFAULT) -> Host:
    """The board of this name. Raises ConfigError that lists those there are."""
    hosts = read_hosts(path)
    if name not in hosts:
        known = ", ".join(sorted(hosts)) or "none"
        raise ConfigError(
            f"{path} has no board {name!r} (there: {known}); write where it is, as in "
            "config/hosts.example.yaml"
        )
    return _resolved(name, hosts[name])


def _resolved(name: str, entry: dict[str, Any]) -> Host:
    """The entry with what ~/.ssh/config says of it."""
    said = _ssh_config(entry["host"])
    jump = entry.get("jump") or said.get("proxyjump")
    known = Path(entry.get("known_hosts", "~/.ssh/known_hosts")).expanduser()
    return Host(
        name=name,
        host=said.get("hostname", entry["host"]),
        port=int(entry.get("port") or said.get("port", 22)),
        user=entry.get("user") or said.get("user") or getpass.getuser(),
        keys=_keys(entry.get("key"), said.get("identityfile", ())),
        jump=_jump(jump, entry) if jump and jump.lower() != "none" else None,
        folder=entry.get("folder", "~/edge-training"),
        python=entry.get("python"),
        known_hosts=known,
        cloud_port=entry.get("cloud_port"),
    )


def _keys(own: str | None, said: Iterable[str]) -> tuple[str, ...]:
    """Files of private keys. Of those in ~/.ssh/config some may be missing, as for ssh."""
    if own:
        return (str(Path(own).expanduser()),)
    return tuple(file for file in said if Path(file).expanduser().is_file())


def _jump(words: str, entry: dict[str, Any]) -> Host:
    """The host in between: user@host:port, of which host alone is needed; of several, the last one,
    which is reached by way of those before it."""
    before, _, last = words.rpartition(",")
    user, _, address = last.strip().rpartition("@")
    name, _, port = address.partition(":")
    own = {"host": name, "user": user or None, "jump": before or "none"}
    own |= {key: entry[key] for key in ("key", "known_hosts") if key in entry}
    if port and not port.isdecimal():
        raise ConfigError(f"jump = {words!r}: {port!r} is no port")
    return _resolved(name, own | {"port": int(port) if port else None})


def _ssh_config(name: str) -> dict[str, Any]:
    from paramiko import SSHConfig  # late: the other environment has none

    path = Path("~/.ssh/config").expanduser()
    return dict(SSHConfig.from_path(str(path)).lookup(name)) if path.exists() else {}
