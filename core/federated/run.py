"""A run of vertical federated training from its spec: all sides on this machine, or one of them."""

import csv
import hashlib
import io
import logging
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from core import machine, results
from core.data.histories import Histories, open_histories
from core.data.manifest import entry_of
from core.data.parts import PARTS
from core.errors import ConfigError, DataError
from core.federated.members import Members, OnePlace, Parties
from core.federated.party import Party
from core.federated.schemes import SCHEMES
from core.federated.server import FederatedServer
from core.federated.silos import SERVER, Silo, divide, open_party, open_server
from core.files import write_text
from core.spec import RunSpec
from core.split import certificates
from core.split.certificates import Security
from core.split.client import connect
from core.split.contexts import Context
from core.split.peers import kept_child, kept_link
from core.split.server import Expected, Server
from core.split.window import Limits
from core.training import run_folder, threads
from core.training.alone import alone_on
from core.training.snapshot import Snapshots

log = logging.getLogger(__name__)

PATIENCE = 600.0  # seconds that a side waits for another one by default
PARTY_COLUMNS = ("epoch", "party", "up_bytes", "down_bytes", "test_bytes", "work_s", "peak_mib")


def run(spec: RunSpec, out: Path, patience: float = PATIENCE) -> None:
    """Train with all sides on this machine, an emulated link between each party and the server, and
    write result.json, epochs.csv and parties.csv into `out`; snapshots of all sides lie beside it.

    A finished run is left as it is. Raises the errors of `FederatedServer.run` and of its files.
    """
    with alone_on(spec["server"]["name"]), ExitStack() as stack:
        data = Path(spec["data"]["folder"])
        if run_folder.is_finished(out, lambda: _identity(spec, entry_of(data))):
            log.info("%s is finished already", out)
            return
        histories, beside = open_histories(data), run_folder.snapshots(out)
        _check_history(spec, histories)
        silos = beside / "silos"
        divide(histories, spec, silos)
        silo = open_server(silos / SERVER, spec)
        if SCHEMES[spec["scheme"]["name"]].alone:
            _train(spec, out, silo, _in_one_place(spec, silos), {}, entry_of(data))
            return
        own = beside / "certificates"
        certificates.make(own, names_of(spec), replace=True)  # all sides start here
        copy = beside / "spec.yaml"
        spec.save(copy)
        door = stack.enter_context(_door(spec, own, "127.0.0.1:0", patience))
        parties = Parties(spec, silo, door, patience)
        links = {}
        for name in names_of(spec)[1:]:
            context = Context.of(spec["context"])
            port, links[name] = stack.enter_context(kept_link(context, door.port))
            words = ["federated", "party", str(copy), "--name", name]
            words += ["--data", str(silos / name), "--snapshots", str(beside / name)]
            words += ["--certificates", str(own), "--patience", str(patience)]
            words += ["--server", f"127.0.0.1:{port}"]
            stack.enter_context(kept_child(f"party {name}", words, parties.give_up))
        _train(spec, out, silo, parties, links, entry_of(data))


def run_server(
    spec: RunSpec, out: Path, silo: Path, listen: str, folder: Path, patience: float
) -> None:
    """The server alone: wait for every party of the spec, and train. folder: of certificates."""
    with alone_on(spec["server"]["name"]):
        own = open_server(silo, spec)
        if run_folder.is_finished(out, lambda: _identity(spec, own.order)):
            log.info("%s is finished already", out)
            return
        if spec["context"]["timing"] == "emulated":
            log.warning(
                "the spec's context is %s, emulated: let each party call by way of `split link`, "
                "or the result is of another network than it says", spec["context"]["title"],
            )  # fmt: skip
        with _door(spec, folder, listen, patience) as door:
            log.info("the server listens on port %d; Ctrl-C stops it", door.port)
            _train(spec, out, own, Parties(spec, own, door, patience), {}, own.order)


def run_party(
    spec: RunSpec,
    name: str,
    silo: Path,
    snapshots: Path,
    address: str,
    folder: Path,
    patience: float,
    child: bool,
) -> None:
    """One party, with a server at `address` (host:port), until all is done. folder: of its
    certificates. child: of a process whose end is this one's too."""
    if child:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    found = next((party for party in spec["parties"] if party["party"] == name), None)
    if found is None:
        known = ", ".join(names_of(spec)[1:])
        raise ConfigError(f"--name {name}: the spec has no such party, only {known}")
    _use_threads(found)
    own = open_party(silo, spec, len(found["columns"]))
    security, limits = Security.load(folder, name), Limits(patience=patience)
    party = Party(
        spec,
        name,
        own,
        lambda hello: connect(address, security, hello, None, limits, "server"),
        Snapshots(snapshots, _identity(spec, own.order), spec.digest),
    )
    party.run(shows=not child)
    log.info("party %s: all is done", name)


def names_of(spec: Any) -> list[str]:
    """Sides of a run: the server, then the parties."""
    return [SERVER, *(party["party"] for party in spec["parties"])]


def _door(spec: RunSpec, folder: Path, listen: str, patience: float) -> Server:
    expected = Expected(spec.digest, tuple(names_of(spec)[1:]))
    return Server(listen, Security.load(folder, SERVER), expected, Limits(patience=patience))


def _identity(spec: RunSpec, data: str) -> str:
    """What snapshots and results must agree with to be used: spec and data."""
    return hashlib.sha256(f"{spec.digest} {data}".encode()).hexdigest()


def _check_history(spec: RunSpec, histories: Histories) -> None:
    columns, wanted = histories.train.history.shape[1], spec["data"]["history"]
    if columns != wanted:
        raise DataError(
            f"{spec['data']['folder']} has histories of {columns} movies, the spec says {wanted}; "
            f"fetch it again with --size {wanted}"
        )


def _in_one_place(spec: RunSpec, silos: Path) -> OnePlace:
    """What all parties hold, in this process."""
    own = [
        open_party(silos / party["party"], spec, len(party["columns"])) for party in spec["parties"]
    ]
    assert own[0].genres is not None  # of a party
    return OnePlace(spec, [silo.rows for silo in own], own[0].genres)


def _train(
    spec: RunSpec, out: Path, silo: Silo, members: Members, links: dict[str, Any], data: str
) -> None:
    """The server's side, and the results. data: what names them."""
    _use_threads(spec["server"])
    beside, identity = run_folder.snapshots(out), _identity(spec, data)
    beside.mkdir(parents=True, exist_ok=True)
    origin = results.origin(machine.versions("torch", "numpy", "grpcio"))
    snapshots = Snapshots(beside / SERVER, identity, spec.digest)
    progress = FederatedServer(spec, silo.labels, members, snapshots, origin).run()
    text = io.StringIO()
    writer = csv.DictWriter(text, PARTY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(progress.parties)
    write_text(out / "parties.csv", text.getvalue())
    last = progress.legs[-1]
    extra = {
        "identity": identity,
        "best_auc": max((row["test_auc"] or 0.0 for row in progress.rows), default=0.0),
        "samples": dict(zip(PARTS, (silo.sizes[part] for part in PARTS), strict=True)),
        "resumed": len(progress.legs) - 1,
        "legs": progress.legs,
        **{key: last[key] for key in ("commit", "versions", "machine")},
        "links": {name: report() for name, report in links.items()},
        "peak_mib": machine.peak_mib(),
    }
    results.write(out, spec, progress.rows, extra)


def _use_threads(side: Any) -> None:
    count = threads.resolve(side["threads"])
    threads.export(count)
    torch.set_num_threads(count["intra_op"])


def _end_with_parent() -> None:
    """The parent holds the other end of standard input; when it is gone, so is this process."""
    sys.stdin.read()
    os._exit(0)


def make_certificates(spec: RunSpec, folder: Path, days: int, hosts: Sequence[str]) -> None:
    """Certificates for the server and every party of a spec."""
    certificates.make(folder, names_of(spec), days, hosts)
