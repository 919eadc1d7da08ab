"""A run of split training from its spec: both sides on this machine, or one of them."""

import hashlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core import machine, results
from core.data.arrays import open_arrays
from core.data.manifest import entry_of
from core.errors import ConfigError, PeerError
from core.files import write_text
from core.measure.recorder import FILE, copy_trace, measured
from core.spec import RunSpec
from core.split import certificates, codec, profile
from core.split.batches import Batches, Tests
from core.split.certificates import Security
from core.split.channel import Channel, Hello, SessionLost
from core.split.client import connect
from core.split.cloud import Cloud
from core.split.contexts import Context
from core.split.costs import FLOAT32, Costs
from core.split.edge import PARTY, Edge
from core.split.estimator import Estimator
from core.split.feedback import feedback
from core.split.iterations import IterationLog
from core.split.network import block_count, input_of
from core.split.peers import Report, kept_cloud, kept_link
from core.split.server import Expected, Server
from core.split.window import Limits
from core.training import run_folder, threads
from core.training.alone import alone_on
from core.training.snapshot import Snapshots

log = logging.getLogger(__name__)

CLOUD = "cloud"
PATIENCE = 600.0  # seconds that a side waits for the other by default


def run(spec: RunSpec, out: Path, patience: float = PATIENCE) -> None:
    """Train with both sides on this machine, the spec's context between them, and write
    result.json, epochs.csv and iterations.csv into `out`; snapshots of both sides lie beside it.

    A finished run is left as it is. Raises the errors of `Edge.run` and of its files.
    """
    with alone_on(spec["edge"]["name"]), ExitStack() as stack:
        if run_folder.is_finished(out, lambda: identity(spec)):
            log.info("%s is finished already", out)
            return
        beside = run_folder.snapshots(out)
        if spec["scheme"]["cut"] == block_count(spec):
            _train(spec, out, None, dict)
            return
        own = beside / "certificates"
        certificates.make(own, replace=True)  # both sides start here
        copy = beside / "spec.yaml"
        spec.save(copy)
        port = stack.enter_context(kept_cloud(copy, beside / CLOUD, own, patience))
        port, report = stack.enter_context(kept_link(Context.of(spec["context"]), port))
        call = caller(spec, f"127.0.0.1:{port}", Security.load(own, PARTY), patience)
        _train(spec, out, call, report, of="both sides")
        copy_trace(beside / CLOUD, out / "trace_cloud.csv")


def run_edge(spec: RunSpec, out: Path, address: str, folder: Path, patience: float) -> None:
    """The edge alone, with a cloud at `address` (host:port). folder: of its certificates."""
    with alone_on(spec["edge"]["name"]):
        if run_folder.is_finished(out, lambda: identity(spec)):
            log.info("%s is finished already", out)
            return
        if spec["context"]["timing"] == "emulated":
            log.warning(
                "the spec's context is %s, emulated: start `split link` before the cloud, or the "
                "result is of another network than it says", spec["context"]["title"],
            )  # fmt: skip
        _train(spec, out, caller(spec, address, Security.load(folder, PARTY), patience), dict)


def run_cloud(
    spec: RunSpec, snapshots: Path, listen: str, folder: Path, patience: float, child: bool
) -> None:
    """The cloud alone: wait for the edge, and answer until it has finished. child: of a process
    that wants to be told the port, and whose end is this one's too."""
    _use_threads(spec, "cloud")
    if spec["model"]["weights"]:
        entry_of(Path(spec["model"]["weights"]))  # raises DataError, before anybody waits
    own = Snapshots(snapshots, spec.digest)
    limits = Limits(patience=patience)
    expected = Expected(spec.digest, (PARTY,), lambda hello: common_step(own, hello))
    server = Server(listen, Security.load(folder, CLOUD), expected, limits)
    if child:
        print(f'{{"port": {server.port}}}', flush=True)
        threading.Thread(target=_end_with_parent, daemon=True).start()
    else:
        log.info("the cloud listens on port %d; Ctrl-C ends it", server.port)
    try:
        with measured(snapshots, spec, "cloud", CLOUD, shared=child):
            _serve(spec, server, snapshots, patience)
    finally:
        server.stop()


def _serve(spec: RunSpec, server: Server, snapshots: Path, patience: float) -> None:
    """One session after the other until the edge has finished."""
    while True:
        channel = server.accept()
        try:
            Cloud(spec, channel, snapshots).serve()
            channel.close(timeout=patience)
            return
        except SessionLost as lost:
            log.warning("%s; waiting for the edge", lost)


def common_step(own: Snapshots, hello: Hello) -> int:
    """The newest step of which both sides have a snapshot; 0 where neither has one.

    Raises PeerError where the edge has some, but none that fits: then nobody knows what the
    blocks of the cloud had learned.
    """
    mine = own.steps()
    common = max((step for step in mine if step in hello.snapshots), default=0)
    if hello.snapshots and not common:
        raise PeerError(
            f"the edge has snapshots of the steps {list(hello.snapshots)}, the cloud "
            f"{mine or 'none'} in {own.folder}: bring those of the cloud back, or delete both "
            "to begin again"
        )
    return common


def caller(
    spec: RunSpec, address: str, security: Security, patience: float
) -> Callable[[Hello, Estimator], Channel]:
    """Opens a session with the cloud at an address."""
    limits = Limits(patience=patience)
    return lambda hello, observer: connect(address, security, hello, observer, limits)


def identity(spec: RunSpec) -> str:
    """What the edge's snapshots must agree with to be used: the spec, the data, the weights, and
    the profiles where they decide where the cut is."""
    folders = [spec["data"]["folder"], spec["model"]["weights"]]
    parts = [spec.digest, *(entry_of(Path(folder)) for folder in folders if folder)]
    if spec["scheme"]["cut"] is None:
        parts += [Path(path).read_text() for path in spec["profile"].values()]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def costs_of(spec: RunSpec) -> Costs:
    """What each cut costs, from the profiles that the spec names. Raises DataError."""
    scheme, decision = spec["scheme"], spec["scheme"]["decision"] or {}
    names = ["none", scheme["uplink"], scheme["downlink"]]
    names += [*decision.get("uplink", []), *decision.get("downlink", [])]
    edge, cloud = (profile.load(Path(spec["profile"][side])) for side in ("edge", "cloud"))
    for side, found in (("edge", edge), ("cloud", cloud)):
        found["slowdown"] = spec[side]["slowdown"]
    kept = feedback(scheme["feedback"])
    lossy = [name for name in dict.fromkeys(names) if not codec.make(name).lossless]
    costs = Costs.from_profiles(
        edge,
        cloud,
        dict.fromkeys(names),
        profile.input_bytes(spec),
        decoded=lossy if kept.corrects or kept.carries else (),
    )
    largest = [_largest_mib(spec, shape[1:]) for shape in edge["feature_shapes"]]
    return costs.without([cut for cut, mib in enumerate(largest) if mib > codec.LIMIT_MIB])


def _largest_mib(spec: RunSpec, shape: Sequence[int]) -> float:
    """MiB of the features of the largest batch, of training or tests, as float32."""
    samples = max(spec["training"]["batch"], spec["training"]["test_batch"])
    return float(samples * np.prod(shape) * FLOAT32 / 2**20)


def _train(
    spec: RunSpec,
    out: Path,
    call: Callable[[Hello, Estimator], Channel] | None,
    link_report: Callable[[], Report],
    of: str = "edge",
) -> None:
    """The edge's side, and the results. of: what a meter of this machine measures."""
    _use_threads(spec, "edge")
    training = spec["training"]
    train, test = (open_arrays(Path(spec["data"]["folder"]), part) for part in ("train", "test"))
    _check_data(spec, train)
    flip, crop = (training["augmentation"][key] for key in ("flip", "crop"))
    batches = Batches(train, training["batch"], spec["seed"], flip, crop, training["steps"])
    tests = Tests(test, training["test_batch"], training["test_samples"])
    beside = run_folder.snapshots(out)
    beside.mkdir(parents=True, exist_ok=True)
    origin = results.origin(machine.versions("torch", "torchvision", "numpy", "grpcio"))
    iterations = beside / "iterations.csv"
    edge = Edge(
        spec,
        batches,
        tests,
        costs_of(spec) if spec["scheme"]["cut"] is None else None,
        call,
        Snapshots(beside / PARTY, identity(spec)),
        IterationLog(iterations),
        origin,
    )
    with measured(beside, spec, "edge", of) as recorder:
        progress = edge.run()
    recorder.save(out / FILE)
    write_text(out / "iterations.csv", iterations.read_text(encoding="utf-8"))
    last = progress.legs[-1]
    extra = {
        "identity": identity(spec),
        "resumed": len(progress.legs) - 1,
        "legs": progress.legs,
        **{key: last[key] for key in ("commit", "versions", "machine")},
        "choices": progress.choices,
        "weights": progress.weights,
        "cloud": progress.cloud,
        "link": link_report(),
        "peak_mib": machine.peak_mib(),
        "measure": recorder.summary(results.seconds(progress.rows)),
    }
    results.write(out, spec, progress.rows, extra)


def _check_data(spec: RunSpec, train: Any) -> None:
    """Raises ConfigError where data and spec do not go together, before anything starts."""
    batch, classes = spec["training"]["batch"], spec["data"]["classes"]
    if len(train.labels) < batch:
        raise ConfigError(
            f"training.batch = {batch}: {spec['data']['name']} has only {len(train.labels)} "
            "training samples"
        )
    cut = spec["scheme"]["cut"]
    if cut is not None and cut < block_count(spec):
        mib = _largest_mib(spec, input_of(spec, cut)[0])
        if mib > codec.LIMIT_MIB:
            raise ConfigError(
                f"scheme.cut = {cut}: features of a batch take {mib:.0f} MiB, at most "
                f"{codec.LIMIT_MIB:.0f} are sent; choose another cut, or a smaller training.batch "
                "or training.test_batch"
            )
    if classes != len(train.classes):
        raise ConfigError(
            f"data.classes = {classes}: {spec['data']['name']} in {spec['data']['folder']} has "
            f"{len(train.classes)} classes; write that number"
        )


def _use_threads(spec: RunSpec, side: str) -> None:
    count = threads.resolve(spec[side]["threads"])
    threads.export(count)
    torch.set_num_threads(count["intra_op"])


def _end_with_parent() -> None:
    """The parent holds the other end of standard input; when it is gone, so is this process."""
    sys.stdin.read()
    os._exit(0)
