"""A run of split training from its spec: both sides on this machine, or one of them.

The edge calls and the cloud listens, whoever leads: an edge is often behind a router that lets
nobody in, and a cloud has an address.
"""

import hashlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from core import machine, results
from core.data.manifest import entry_of
from core.data.weights import open_weights
from core.errors import ConfigError, PeerError, given_up
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
from core.split.peers import HERE, Report, kept_child, kept_cloud, kept_link
from core.split.profiles import costs_of, largest_batch, largest_mib
from core.split.server import Expected, Server
from core.split.sides import CLOUD, EDGE, front_of, is_alone, other, turned
from core.split.window import Limits
from core.training import run_folder, threads
from core.training.alone import alone_on
from core.training.snapshot import Snapshots

log = logging.getLogger(__name__)

PATIENCE = 600.0  # seconds that a side waits for the other by default
LOOK_S = 0.5  # how often whoever waits looks whether the other side was given up

Call = Callable[[Hello, Estimator], Channel]


@dataclass(frozen=True)
class Place:
    """How one side runs by itself. folder: of its certificates. patience: seconds that it waits for
    the other side. child: of a process whose end is this one's too. shared: the other side is on
    this machine, whose meter counts both. linked: a cloud has the emulated link before it."""

    folder: Path
    patience: float = PATIENCE
    child: bool = False
    shared: bool = False
    linked: bool = False


class Other:
    """The other side, as whoever keeps it going knows it: once it is given up, nobody here waits
    for it any longer."""

    def __init__(self) -> None:
        self._channel: Channel | None = None
        self._given_up: PeerError | None = None

    def met(self, channel: Channel) -> None:
        """This is the session with it, or will be."""
        self._channel = channel
        if self._given_up is not None:
            channel.fail(self._given_up)

    def give_up(self, reason: str, exit_code: int) -> None:
        """It will not come back: whoever waits ends with this. From any thread."""
        error = self._given_up = given_up(reason, exit_code)
        if self._channel is not None:
            self._channel.fail(error)

    def check(self) -> None:
        """Raises the PeerError with which it was given up."""
        if self._given_up is not None:
            raise self._given_up


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
        context, partner = Context.of(spec["context"]), Other()
        if turned(spec):
            open_data(spec)  # the edge's, which would find out too late to be heard
            server = stack.enter_context(
                _leading(spec, beside / CLOUD, f"{HERE}:0", Place(own, patience))
            )
            port, report = stack.enter_context(kept_link(context, server.port))
            words = ["split", "edge", str(copy), "--out", str(out), "--cloud", f"{HERE}:{port}"]
            words += ["--certificates", str(own), "--patience", str(patience), "--shared"]
            stack.enter_context(kept_child("edge", words, partner.give_up))
            _lead(spec, out, accepting(server, patience, partner), report, of="both sides")
            copy_trace(beside / EDGE, out / "trace_edge.csv")
            return
        gone = partner.give_up
        port = stack.enter_context(kept_cloud(copy, beside / CLOUD, own, patience, gone))
        port, report = stack.enter_context(kept_link(context, port))
        call = caller(spec, f"{HERE}:{port}", Place(own, patience), partner)
        _lead(spec, out, call, report, of="both sides")
        copy_trace(beside / CLOUD, out / "trace_cloud.csv")


def run_edge(
    spec: RunSpec, out: Path, address: str, place: Place, cloud: Other | None = None
) -> None:
    """The edge alone, with a cloud at `address` (host:port). cloud: as whoever keeps it going knows
    it. Of a child, the parent has this device already."""
    call = caller(spec, address, place, cloud or Other())
    if place.child:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        _follow_cloud(spec, out, call, place)
        return
    with alone_on(spec["edge"]["name"]):
        if run_folder.is_finished(out, lambda: identity(spec)):
            log.info("%s is finished already", out)
            return
        if turned(spec) and not is_alone(spec):
            _follow_cloud(spec, out, call, place)
        else:
            _lead(spec, out, None if is_alone(spec) else call, dict)


def run_cloud(
    spec: RunSpec,
    snapshots: Path | None,
    out: Path | None,
    listen: str,
    place: Place,
    edge: Other | None = None,
) -> None:
    """The cloud alone: wait for the edge, and work with it until the run has finished. snapshots:
    their folder, where the edge leads. out: folder of the results, where the cloud does. edge: as
    whoever keeps it going knows it. The parent of a child is told the port."""
    if turned(spec):
        if out is None:
            raise ConfigError("the cloud has the first blocks, so it leads: give --out FOLDER")
        if run_folder.is_finished(out, lambda: identity(spec)):
            log.info("%s is finished already", out)
            return
        beside = run_folder.snapshots(out)
        with (
            _leading(spec, beside / CLOUD, listen, place) as server,
            _linked(spec, server.port, listen, place) as (port, report),
        ):
            log.info("the cloud listens on port %d; it leads", port)
            _lead(spec, out, accepting(server, place.patience, edge), report)
        return
    if snapshots is None:
        raise ConfigError("the cloud has the last blocks, so it follows: give --snapshots FOLDER")
    _follow_edge(spec, snapshots, listen, place)


def _follow_edge(spec: RunSpec, snapshots: Path, listen: str, place: Place) -> None:
    """The back in the cloud: wait for the edge, and answer until it has finished."""
    _use_threads(spec, CLOUD)
    if spec["model"]["weights"]:
        open_weights(Path(spec["model"]["weights"]))  # raises DataError, before anybody waits
    own = Snapshots(snapshots, spec.digest)
    expected = Expected(spec.digest, (EDGE,), lambda hello: common_step(own, hello))
    server = _server(spec, listen, place, expected)
    try:
        with _linked(spec, server.port, listen, place) as (port, _):
            if place.child:
                print(f'{{"port": {port}}}', flush=True)
                threading.Thread(target=_end_with_parent, daemon=True).start()
            else:
                log.info("the cloud listens on port %d; Ctrl-C ends it", port)
            with measured(snapshots, spec, CLOUD, CLOUD, shared=place.shared):
                _serve(spec, server, snapshots, place)
    finally:
        server.stop()


def _server(spec: RunSpec, listen: str, place: Place, expected: Expected) -> Server:
    """The port of a cloud; behind an emulated link, one that is free."""
    inside = f"{HERE}:0" if place.linked and spec["context"]["timing"] == "emulated" else listen
    security = Security.load(place.folder, CLOUD)
    return Server(inside, security, expected, Limits(patience=place.patience))


@contextmanager
def _linked(
    spec: RunSpec, port: int, listen: str, place: Place
) -> Iterator[tuple[int, Callable[[], Report]]]:
    """The port to call of a cloud that listens at `port`: that of the emulated link, where it has
    to be here; and what returns the link's report."""
    context = Context.of(spec["context"])
    if context.emulated and place.linked:
        host, _, number = listen.rpartition(":")
        with kept_link(context, port, (host, int(number))) as found:
            yield found
        return
    if context.emulated and not place.child:
        log.warning(
            "the spec's context is %s, emulated: give --link, or start `split link` before this "
            "cloud; else the result is of another network than it says", context.title,
        )  # fmt: skip
    yield port, dict


def _serve(spec: RunSpec, server: Server, snapshots: Path, place: Place) -> None:
    """One session after the other until the edge has finished. A child waits as long as its
    parent."""
    while True:
        channel = _accepted(server, None if place.child else place.patience, Other())
        try:
            Back(spec, channel, snapshots).serve()
            channel.close(timeout=place.patience)
            return
        except SessionLost as lost:
            log.warning("%s; waiting for the edge", lost)


def _follow_cloud(spec: RunSpec, out: Path, call: Call, place: Place) -> None:
    """The back on the edge, where the images are: call the cloud, and answer until it has
    finished."""
    _use_threads(spec, EDGE)
    data = open_data(spec)
    own = Snapshots(run_folder.snapshots(out) / EDGE, spec.digest)
    with measured(own.folder, spec, EDGE, EDGE, shared=place.shared):
        while True:
            channel = call(Hello(EDGE, spec.digest, tuple(own.steps())), Estimator())
            try:
                Back(spec, channel, own.folder, data, out).serve()
                channel.close(timeout=place.patience)
                return
            except SessionLost as lost:
                log.warning("%s; calling the cloud again", lost)


@contextmanager
def _leading(spec: RunSpec, snapshots: Path, listen: str, place: Place) -> Iterator[Server]:
    """The port of a cloud that leads. snapshots: folder of its own."""
    own = Snapshots(snapshots, identity(spec), spec.digest)
    expected = Expected(spec.digest, (EDGE,), lambda hello: common_step(own, hello, leads=True))
    server = _server(spec, listen, place, expected)
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


def accepting(server: Server, patience: float, edge: Other | None = None) -> Call:
    """Waits for a session that the edge opens. edge: as whoever keeps it going knows it."""

    def accept(hello: Hello, estimator: Estimator) -> Channel:
        channel = _accepted(server, patience, edge or Other())
        channel.observe(FromCloud(estimator))
        return channel

    return accept


def _accepted(server: Server, patience: float | None, edge: Other) -> Channel:
    """The next session that the edge opens. patience: seconds to wait for it; None is for ever.
    Raises PeerError when it did not call, or was given up."""
    end = None if patience is None else time.monotonic() + patience
    while end is None or time.monotonic() < end:
        edge.check()
        try:
            channel = server.accept(timeout=LOOK_S)
        except TimeoutError:
            continue
        edge.met(channel)
        return channel
    raise PeerError(
        f"the edge did not call within {patience:g} s. Look whether it runs, and at the link "
        "between. Snapshots are safe: the same command goes on"
    )


def caller(spec: RunSpec, address: str, place: Place, cloud: Other) -> Call:
    """Opens a session with the cloud at an address."""
    security, limits = Security.load(place.folder, EDGE), Limits(patience=place.patience)
    return lambda hello, observer: connect(
        address, security, hello, observer, limits, made=cloud.met
    )


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
        Snapshots(beside / side, identity(spec), spec.digest),
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
