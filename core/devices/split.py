"""A run of split training whose edge is a board: the cloud is here."""

import logging
import socket
from dataclasses import replace
from pathlib import Path

from core.devices.backoff import Backoff
from core.devices.connection import Connection
from core.devices.dispatch import carry
from core.devices.hosts import Host
from core.devices.job import Job
from core.errors import ConfigError
from core.spec import RunSpec
from core.split import certificates
from core.split.contexts import Context
from core.split.peers import HERE, kept_cloud, kept_link
from core.split.sides import CLOUD, is_alone, turned
from core.training import run_folder

log = logging.getLogger(__name__)

EVERYWHERE = "0.0.0.0"  # mutual TLS decides who may speak


def has_cloud(job: Job) -> bool:
    """Whether it is a run of split training in which a cloud takes part."""
    if job.spec is None or job.words[0] != "run":
        return False
    spec = RunSpec.load(job.spec)
    return bool(spec["kind"] == "split" and not is_alone(spec))


def carry_edge(host: Host, job: Job, backoff: Backoff, here: str | None = None) -> None:
    """Start the cloud here and carry the edge to a board, which calls it back. An emulated link, if
    the spec has one, stands here too. Raises the errors of `carry`; PeerError of the cloud.

    here: address of this host for the board; by default the one of the SSH connection.
    """
    from core.split.run import PATIENCE  # late: it needs torch

    assert job.spec is not None
    assert job.out is not None
    spec = RunSpec.load(job.spec)
    if turned(spec):
        raise ConfigError(
            f"{job.spec}: the first blocks are in the cloud, so that it leads; such a run is not "
            "sent to a board: start both sides by hand (docs/chairs.md)"
        )
    beside = run_folder.snapshots(job.out)
    beside.mkdir(parents=True, exist_ok=True)
    if here is None:
        here = _address_here(host)
    own = beside / "certificates"
    if not (own / "ca.crt").exists():
        certificates.make(own, hosts=(here,))
    copy = beside / "spec.yaml"
    spec.save(copy)
    context, outside = Context.of(spec["context"]), (EVERYWHERE, _port(beside))
    inside = (HERE, 0) if context.emulated else outside
    with (
        kept_cloud(copy, beside / CLOUD, own, PATIENCE, inside) as port,
        kept_link(context, port, outside) as (port, _),
    ):
        (beside / "port").write_text(str(port))
        log.info("the cloud of %s waits here, at %s:%d", job.title, here, port)
        words = ["split", "edge", str(job.spec), "--cloud", f"{here}:{port}", "--out", str(job.out)]
        words += ["--certificates", str(own), "--patience", str(PATIENCE)]
        secrets = tuple(own / name for name in ("ca.crt", "edge.crt", "edge.key"))
        carry(host, replace(job, there=tuple(words), secrets=secrets), backoff)


def _port(beside: Path) -> int:
    """That of before, by which an edge that runs already knows this cloud; else a free one."""
    file = beside / "port"
    if file.exists() and file.read_text().isdecimal():
        return int(file.read_text())
    with socket.socket() as probe:
        probe.bind((EVERYWHERE, 0))
        return int(probe.getsockname()[1])


def _address_here(host: Host) -> str:
    if host.jump is not None:
        raise ConfigError(
            f"{host.name} is behind {host.jump.host}: it does not see this host's address; name "
            "one that it can reach (devices run --here ADDRESS)"
        )
    with Connection(host) as there:
        return there.here
