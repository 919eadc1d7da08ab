"""A run of split training from its spec: both sides on this machine, or one of them.

The edge calls and the cloud listens, whoever leads: an edge is often behind a router that lets
nobody in, and a cloud has an address.
"""

import hashlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from core import machine, results
from core.data.manifest import entry_of
from core.errors import ConfigError, PeerError
from core.files import write_text
from core.measure.recorder import FILE, copy_trace, measured
from core.spec import RunSpec
from core.split import certificates, codec
from core.split.back import Back
from core.split.certificates import Security
from core.split.channel import Channel, Hello, SessionLost
from core.split.client import connect
from core.split.contexts import Context
from core.split.data import open_data
from core.split.estimator import Estimator, FromCloud
from core.split.front import Front
from core.split.iterations import IterationLog
from core.split.network import block_count, input_of
from core.split.peers import Report, kept_child, kept_cloud, kept_link
from core.split.profiles import costs_of, largest_batch, largest_mib
from core.split.server import Expected, Server
from core.split.sides import CLOUD, EDGE, front_of, is_alone, other, turned
from core.split.window import Limits
from core.training import run_folder, threads
from core.training.alone import alone_on
from core.training.snapshot import Snapshots

log = logging.getLogger(__name__)

PATIENCE = 600.0  # seconds that a side waits for the other by default

Call = Callable[[Hello, Estimator], Channel]


def run(spec: RunSpec, out: Path, patience: float = PATIENCE) -> None:
    """Train with both sides on this machine, the spec's context between them, and write
    result.json, epochs.csv and iterations.csv into `out`; snapshots of both sides lie beside it.

    A finished run is left as it is. Raises the errors of `Front.run` and of its files.
    """
    with alone_on(spec["edge"]["name"]), ExitStack() as stack:
        if run_folder.is_finished(out, lambda: identity(spec)):
            log.info("%s is finished already", out)
            return
        if is_alone(spec):
            _lead(spec, out, None, dict)
            return
        beside = run_folder.snapshots(out)
        own = beside / "certificates"
        certificates.make(own, replace=True)  # both sides start here
        copy = beside / "spec.yaml"
        spec.save(copy)
        context = Context.of(spec["context"])
        if turned(spec):
            open_data(spec)  # the edge's, which would find out too late to be heard
            server = stack.enter_context(
                _leading(spec, beside / CLOUD, "127.0.0.1:0", own, patience)
            )
            port, report = stack.enter_context(kept_link(context, server.port))
            words = ["split", "edge", str(copy), "--out", str(out), "--cloud", f"127.0.0.1:{port}"]
            words += ["--certificates", str(own), "--patience", str(patience)]
            stack.enter_context(kept_child("edge", words))
            _lead(spec, out, accepting(server, patience), report, of="both sides")
            copy_trace(beside / EDGE, out / "trace_edge.csv")
            return
        port = stack.enter_context(kept_cloud(copy, beside / CLOUD, own, patience))
        port, report = stack.enter_context(kept_link(context, port))
        call = caller(spec, f"127.0.0.1:{port}", Security.load(own, EDGE), patience)
        _lead(spec, out, call, report, of="both sides")
        copy_trace(beside / CLOUD, out / "trace_cloud.csv")


def run_edge(
    spec: RunSpec, out: Path, address: str, folder: Path, patience: float, child: bool
) -> None:
    """The edge alone, with a cloud at `address` (host:port). folder: of its certificates. child:
    of a process that has this device already, and whose end is this one's too."""
    call = caller(spec, address, Security.load(folder, EDGE), patience)
    if child:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        _follow_cloud(spec, out, call, patience, shared=True)
        return
    with alone_on(spec["edge"]["name"]):
        if run_folder.is_finished(out, lambda: identity(spec)):
            log.info("%s is finished already", out)
            return
        if spec["context"]["timing"] == "emulated":
            log.warning(
                "the spec's context is %s, emulated: start `split link` before the cloud, or the "
                "result is of another network than it says", spec["context"]["title"],
            )  # fmt: skip
        if turned(spec) and not is_alone(spec):
            _follow_cloud(spec, out, call, patience, shared=False)
        else:
            _lead(spec, out, None if is_alone(spec) else call, dict)


def run_cloud(
    spec: RunSpec,
    snapshots: Path | None,
    out: Path | None,
    listen: str,
    folder: Path,
    patience: float,
    child: bool,
) -> None:
    """The cloud alone: wait for the edge, and work with it until the run has finished. snapshots:
    their folder, where the edge leads. out: folder of the results, where the cloud does. child: of
    a process that wants to be told the port, and whose end is this one's too."""
    if turned(spec):
        if out is None:
            raise ConfigError("the cloud has the first blocks, so it leads: give --out FOLDER")
        if run_folder.is_finished(out, lambda: identity(spec)):
            log.info("%s is finished already", out)
            return
        beside = run_folder.snapshots(out)
        with _leading(spec, beside / CLOUD, listen, folder, patience) as server:
            log.info("the cloud listens on port %d; it leads", server.port)
            _lead(spec, out, accepting(server, patience), dict)
        return
    if snapshots is None:
        raise ConfigError("the cloud has the last blocks, so it follows: give --snapshots FOLDER")
    _follow_edge(spec, snapshots, listen, folder, patience, child)


def _follow_edge(
    spec: RunSpec, snapshots: Path, listen: str, folder: Path, patience: float, child: bool
) -> None:
    """The back in the cloud: wait for the edge, and answer until it has finished."""
    _use_threads(spec, CLOUD)
    if spec["model"]["weights"]:
        entry_of(Path(spec["model"]["weights"]))  # raises DataError, before anybody waits
    own = Snapshots(snapshots, spec.digest)
    limits = Limits(patience=patience)
    expected = Expected(spec.digest, (EDGE,), lambda hello: common_step(own, hello))
    server = Server(listen, Security.load(folder, CLOUD), expected, limits)
    if child:
        print(f'{{"port": {server.port}}}', flush=True)
        threading.Thread(target=_end_with_parent, daemon=True).start()
    else:
        log.info("the cloud listens on port %d; Ctrl-C ends it", server.port)
    try:
        with measured(snapshots, spec, CLOUD, CLOUD, shared=child):
            _serve(spec, server, snapshots, patience)
    finally:
        server.stop()


def _serve(spec: RunSpec, server: Server, snapshots: Path, patience: float) -> None:
    """One session after the other until the edge has finished."""
    while True:
        channel = server.accept()
        try:
            Back(spec, channel, snapshots).serve()
            channel.close(timeout=patience)
            return
        except SessionLost as lost:
            log.warning("%s; waiting for the edge", lost)


def _follow_cloud(spec: RunSpec, out: Path, call: Call, patience: float, shared: bool) -> None:
    """The back on the edge, where the images are: call the cloud, and answer until it has
    finished. shared: the cloud is on this machine too."""
    _use_threads(spec, EDGE)
    data = open_data(spec)
    own = Snapshots(run_folder.snapshots(out) / EDGE, spec.digest)
    with measured(own.folder, spec, EDGE, EDGE, shared=shared):
        while True:
            channel = call(Hello(EDGE, spec.digest, tuple(own.steps())), Estimator())
            try:
                Back(spec, channel, own.folder, data, out).serve()
                channel.close(timeout=patience)
                return
            except SessionLost as lost:
                log.warning("%s; calling the cloud again", lost)


@contextmanager
def _leading(
    spec: RunSpec, snapshots: Path, listen: str, folder: Path, patience: float
) -> Iterator[Server]:
    """The port of a cloud that leads. snapshots: folder of its own. folder: of certificates."""
    own = Snapshots(snapshots, identity(spec))
    expected = Expected(spec.digest, (EDGE,), lambda hello: common_step(own, hello, leads=True))
    server = Server(listen, Security.load(folder, CLOUD), expected, Limits(patience=patience))
    try:
        yield server
    finally:
        server.stop()


def common_step(own: Snapshots, hello: Hello, leads: bool = False) -> int:
    """The newest step of which both sides have a snapshot; 0 where there is none, and the side
    that leads has none at all. leads: the cloud does, whose snapshots are `own`.

    Raises PeerError where the leading side has some, but none that fits: then nobody knows what
    the blocks of the other one had learned.
    """
    mine, theirs = own.steps(), list(hello.snapshots)
    common = max((step for step in mine if step in theirs), default=0)
    if (mine if leads else theirs) and not common:
        back = "bring those of the edge back" if leads else "bring those of the cloud back"
        raise PeerError(
            f"the edge has {_listed(theirs)}, the cloud {_listed(mine)} in {own.folder}: {back}, "
            "or delete both to begin again"
        )
    return common


def _listed(steps: list[int]) -> str:
    return f"snapshots of the steps {steps}" if steps else "no snapshots"


def accepting(server: Server, patience: float) -> Call:
    """Waits for a session that the edge opens."""

    def accept(hello: Hello, estimator: Estimator) -> Channel:
        try:
            channel = server.accept(timeout=patience)
        except TimeoutError:
            raise PeerError(
                f"the edge did not call within {patience:g} s. Look whether it runs, and at the "
                "link between. Snapshots are safe: the same command goes on"
            ) from None
        channel.observe(FromCloud(estimator))
        return channel

    return accept


def caller(spec: RunSpec, address: str, security: Security, patience: float) -> Call:
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


def _lead(
    spec: RunSpec,
    out: Path,
    call: Call | None,
    link_report: Callable[[], Report],
    of: str | None = None,
) -> None:
    """The front's side, and the results. call: None where the edge is alone. of: what a meter of
    this machine measures; this side alone without it."""
    side = EDGE if call is None else front_of(spec)
    _use_threads(spec, side)
    # A front in the cloud has no images, wherever it runs.
    batches, tests = open_data(spec, targets=call is None or not turned(spec))
    _check_features(spec)
    beside = run_folder.snapshots(out)
    beside.mkdir(parents=True, exist_ok=True)
    origin = results.origin(machine.versions("torch", "torchvision", "numpy", "grpcio"))
    iterations = beside / "iterations.csv"
    front = Front(
        spec,
        batches,
        tests,
        costs_of(spec) if spec["scheme"]["cut"] is None else None,
        call,
        Snapshots(beside / side, identity(spec)),
        IterationLog(iterations),
        origin,
        out=out,
        shared=of is not None,
    )
    with measured(beside, spec, side, of or side) as recorder:
        progress = front.run()
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
        other(side): front.peer,
        "link": link_report(),
        "peak_mib": machine.peak_mib(),
        "measure": recorder.summary(results.seconds(progress.rows)),
    }
    results.write(out, spec, progress.rows, extra)


def _check_features(spec: RunSpec) -> None:
    """Raises ConfigError where what a batch sends is too large: features at a fixed cut, raw inputs
    at cut 0. Where the cut is chosen, that may be 0; inner ones that send too much are not chosen.
    """
    fixed = spec["scheme"]["cut"]
    cut = fixed or 0
    if is_alone(spec) or cut == block_count(spec):
        return
    shape, dtype = input_of(spec, cut)
    mib = largest_mib(spec, shape, dtype.itemsize)
    if mib > codec.LIMIT_MIB:
        most = int(largest_batch(spec) * codec.LIMIT_MIB / mib)
        raise ConfigError(
            f"{'a chosen cut' if fixed is None else 'scheme.cut'} = {cut}: "
            f"{'features' if cut else 'raw inputs'} of a batch take {mib:.0f} MiB, at most "
            f"{codec.LIMIT_MIB:.0f} are sent; lower training.batch and training.test_batch to "
            f"{most} at most, or take a later cut"
        )


def _use_threads(spec: RunSpec, side: str) -> None:
    count = threads.resolve(spec[side]["threads"])
    threads.export(count)
    torch.set_num_threads(count["intra_op"])


def _end_with_parent() -> None:
    """The parent holds the other end of standard input; when it is gone, so is this process."""
    sys.stdin.read()
    os._exit(0)
