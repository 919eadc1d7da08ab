"""A run of split training whose sides are not both on this host: on one board, on two, or on a
board and here.

The side with the first blocks leads: it writes the results, and its end is that of the run. The
other one follows; it is kept going until then. Whatever happens to this process, a side on a board
goes on, and the same command finds it again.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from core.data.chairs import INPUTS
from core.devices import board, here
from core.devices.backoff import Backoff
from core.devices.connection import Connection
from core.devices.dispatch import Watched, bring, carry, goes_on
from core.devices.hosts import Host, host, read_hosts
from core.devices.job import Job
from core.errors import ConfigError, CoreError, UnreachableError, given_up
from core.files import write_text
from core.measure.recorder import copy_trace
from core.spec import RunSpec
from core.split import certificates
from core.split.peers import kept_child
from core.split.samples import NAME as SAMPLES
from core.split.sides import CLOUD, EDGE, Side, front_of, is_alone, other, turned
from core.training import run_folder
from core.training.alone import alone_on

log = logging.getLogger(__name__)

EVERYWHERE = "0.0.0.0"  # mutual TLS decides who may speak
END_S = 10.0  # for a side whose other one is gone: it can save nothing
LAST_S = 60.0  # for a side that follows, once the one that leads has ended well
AGAIN_S = 60.0  # after it ended well itself: the one that leads may have died before it wrote
ANSWER_S = 60.0
LOOK_S = 0.05


@dataclass(frozen=True)
class Split:
    """A run, and where its sides are: None is this host. address: host:port at which the edge finds
    the cloud."""

    job: Job
    spec: RunSpec
    hosts: dict[Side, Host | None]
    backoff: Backoff
    address: str = ""

    @property
    def out(self) -> Path:
        """Of the results."""
        assert self.job.out is not None  # by Job.of
        return self.job.out

    @property
    def beside(self) -> Path:
        """Where snapshots of both sides lie, and what else must outlive this process."""
        return run_folder.snapshots(self.out)

    @property
    def leads(self) -> Side:
        """The side whose end is that of the run."""
        return front_of(self.spec)

    @property
    def leader(self) -> Host | None:
        """Where that is."""
        return self.hosts[self.leads]

    @property
    def certificates(self) -> Path:
        """Folder with those of both sides."""
        return self.beside / "certificates"

    def side(self, side: Side) -> Job:
        """What a side does, as a job of a board: with its own secrets, and no more data than it
        needs."""
        follows = side != self.leads
        own = [self.beside / side]
        if not follows:
            own += [self.beside / name for name in ("iterations.csv", "trace.csv")]
        names = ("ca.crt", f"{side}.crt", f"{side}.key")
        return replace(
            self.job,
            part=side if follows else "",
            there=tuple(self.words(side)),
            secrets=tuple(self.certificates / name for name in names),
            data=self._data(side),
            beside=tuple(own),
            writes=(self.out / SAMPLES,) if side == EDGE and follows else (),
        )

    def words(self, side: Side) -> list[str]:
        """The command of a side. An emulated link stands before the cloud, where that is."""
        from core.split.run import PATIENCE  # late: it needs torch

        words = ["split", side, str(self.job.spec), "--patience", str(PATIENCE)]
        words += ["--certificates", str(self.certificates)]
        if side == EDGE:
            return [*words, "--cloud", self.address, "--out", str(self.out)]
        words += ["--listen", self.listen, "--link"]
        if side == self.leads:
            return [*words, "--out", str(self.out)]
        return [*words, "--snapshots", str(self.beside / CLOUD)]

    @property
    def listen(self) -> str:
        """Where the cloud does."""
        return f"{EVERYWHERE}:{self.address.rpartition(':')[2]}"

    def _data(self, side: Side) -> tuple[str, ...] | None:
        if side == EDGE:
            return None
        return ("manifest.json", *INPUTS) if turned(self.spec) else ()


def is_split(job: Job) -> bool:
    """Whether it trains a run of split training."""
    return bool(
        job.spec is not None and job.words[0] == "run" and RunSpec.load(job.spec)["kind"] == "split"
    )


def carry_split(
    edge: Host | None, job: Job, backoff: Backoff, hosts: Path, address: str | None = None
) -> None:
    """Train with each side on its device: the edge on this one, the cloud on that of the spec, if
    `hosts` says where it is, else here. Raises the errors of `carry`; PeerError of a side here.

    address: of this host for a board; by default the one of the SSH connection.
    """
    assert job.spec is not None
    spec = RunSpec.load(job.spec)
    name = spec[CLOUD]["name"]
    cloud = host(name, hosts) if name in read_hosts(hosts) else None
    split = Split(job, spec, {EDGE: edge, CLOUD: cloud}, backoff)
    if is_alone(spec) or edge == cloud:
        _carry_whole(split, edge)
        return
    with run_folder.only_one(split.out), here.noted(split.beside):
        try:
            _carry_sides(split, address)
        except KeyboardInterrupt:
            if split.leader is not None:
                goes_on(split.out, [there.name for there in split.hosts.values() if there])
            raise


def _carry_whole(split: Split, there: Host | None) -> None:
    """A run that one device has to itself."""
    from core.split.run import run

    if there is not None:
        carry(there, split.job, split.backoff)
        return
    with run_folder.only_one(split.out):
        run(split.spec, split.out)


def _carry_sides(split: Split, address: str | None) -> None:
    if _is_finished(split):
        log.info("%s is finished already", split.out)
        return
    follows, job = other(split.leads), split.side(split.leads)
    if split.leader is not None and _asked(split, split.leader, lambda c: _ended_well(c, job)):
        carry(split.leader, job, split.backoff)  # which brings the results
        _brought(split.hosts[follows], split.side(follows))
    else:
        _train(_met(split, address))
    copy_trace(split.beside / follows, split.out / f"trace_{follows}.csv")


def _is_finished(split: Split) -> bool:
    from core.split.run import identity

    return run_folder.is_finished(split.out, lambda: identity(split.spec))


def _train(split: Split) -> None:
    """Keep the side that follows going until the other one has ended."""
    with _following(split) as kept:
        try:
            _lead(split, kept)
        except (CoreError, SystemExit):
            kept.check()  # why the other one ended
            raise
        if not _is_finished(split):
            kept.check()


def _lead(split: Split, kept: "Kept") -> None:
    """The side with the first blocks, to the end of the run."""
    from core.split.run import PATIENCE, Place, run_cloud, run_edge

    if split.leader is not None:
        carry(split.leader, split.side(split.leads), split.backoff, kept.leader)
        return
    place = Place(split.certificates, PATIENCE, linked=True)
    if split.leads == EDGE:
        run_edge(split.spec, split.out, split.address, place, kept.partner)
    else:
        run_cloud(split.spec, None, split.out, split.listen, place, kept.partner)


# Where the sides meet.


def _met(split: Split, address: str | None) -> Split:
    """The same with an address for the cloud, and certificates for it. Those of before stay where
    they can; else a side that still goes by them is ended first."""
    note, cloud = split.beside / "address", split.hosts[CLOUD]
    known = note.read_text(encoding="utf-8") if note.exists() else ""
    _, _, number = known.rpartition(":")
    kept = int(number) if number.isdecimal() else 0
    if cloud is None:
        name = address or _address_here(split)
        port = kept or board.port(split.beside, {"port": 0})["port"]
    else:
        name = cloud.host
        port = cloud.cloud_port or _asked(split, cloud, lambda c: _port(c, split, kept))
    split = replace(split, address=f"{name}:{port}")
    own, sides = split.certificates, (CLOUD, EDGE)
    fit = certificates.fit(own, sides, name)
    if not fit or split.address != known:
        for side in sides:
            _asked(split, split.hosts[side], partial(_end_running, job=split.side(side)))
        if not fit:
            certificates.make(own, sides, hosts=(name,), replace=True)
        write_text(note, split.address)
    where = f"on {cloud.name}" if cloud else "here"
    log.info("the cloud of %s waits %s, at %s", split.out, where, split.address)
    if cloud is not None and cloud.jump is not None:
        log.warning("the edge calls it there, and not by way of %s", cloud.jump.host)
    return split


def _address_here(split: Split) -> str:
    edge = split.hosts[EDGE]
    assert edge is not None  # else both were here
    if edge.jump is not None:
        raise ConfigError(
            f"{edge.name} is behind {edge.jump.host}: it does not see this host's address; name "
            "one that it can reach (devices run --here ADDRESS)"
        )
    return str(_asked(split, edge, lambda there: there.here))


def _port(there: Connection, split: Split, kept: int) -> int:
    """Of the cloud on a board: the one at which it listens already, else one that is free."""
    if there.ask("status", job=split.side(CLOUD).name)["state"] == "running" and kept:
        return kept
    return int(there.ask("port", port=kept)["port"])


def _ended_well(there: Connection, job: Job) -> bool:
    state = there.ask("status", job=job.name)
    ended = (state["state"], state["digest"], state["exit_code"]) == ("ended", job.digest, 0)
    return ended and not state["brought"]


def _end_running(there: Connection, job: Job) -> None:
    state = there.ask("status", job=job.name)
    if (state["state"], state["digest"]) == ("running", job.digest):
        log.warning(
            "%s: %s goes by another address or other certificates; it is started again",
            there.host.name, job.title,
        )  # fmt: skip
        there.ask("stop", END_S + ANSWER_S, job=job.name, patience=END_S)


def _asked(split: Split, there: Host | None, ask: Callable[[Connection], Any]) -> Any:
    """What a board answers; it is waited for as in `carry`. None of this host."""
    waits = split.backoff.waits()
    while there is not None:
        try:
            with Connection(there) as connection:
                return ask(connection)
        except UnreachableError as error:
            wait = next(waits, None)
            if wait is None:
                raise
            log.warning("%s; trying again in %.0f s", error, wait)
            time.sleep(wait)
    return None


# The side that follows.


class Kept:
    """The side that follows, as the one knows it that leads. leader: of one on a board, what is
    known of it. partner: the same for one that leads here."""

    def __init__(self, split: Split) -> None:
        from core.split.run import Other

        self._split = split
        self._failure: CoreError | None = None
        self.leader, self.partner = Watched(), Other()

    def give_up(self, error: CoreError) -> None:
        """It will not come back, so that the side that leads would wait for nothing."""
        split = self._split
        self._failure = error
        log.error("%s; the %s of %s is ended", error, split.leads, split.out)
        self.leader.wanted = False
        self.partner.give_up(str(error), error.exit_code)
        if split.leader is not None:
            _end(split.leader, split.side(split.leads))

    def check(self) -> None:
        """Raises the error with which it was given up."""
        if self._failure is not None:
            raise self._failure from None


@contextmanager
def _following(split: Split) -> Iterator[Kept]:
    """Keep the side that follows going, here or on its board, and end it with the one that leads;
    with one that goes on without this process, it goes on too."""
    side, kept = other(split.leads), Kept(split)
    there = split.hosts[side]
    if there is None:
        with _child(split, side, kept):
            yield kept
        return
    follower = Follower(split, there, split.side(side), kept)
    try:
        follower.wait()
        yield kept
    except (KeyboardInterrupt, UnreachableError):
        if split.leader is None:
            follower.end(0)
        raise
    except BaseException:
        follower.end(0)
        raise
    follower.end(LAST_S)


@contextmanager
def _child(split: Split, side: Side, kept: Kept) -> Iterator[None]:
    with ExitStack() as stack:
        if side == EDGE:  # a measurement of this device
            stack.enter_context(alone_on(split.spec[EDGE]["name"]))
        stack.enter_context(
            kept_child(side, split.words(side), lambda *end: kept.give_up(given_up(*end)))
        )
        yield


class Follower:
    """A side on a board, and the thread that watches it."""

    def __init__(self, split: Split, there: Host, job: Job, kept: Kept) -> None:
        self._split, self._there, self._job, self._kept = split, there, job, kept
        self._watched, self._over = Watched(), threading.Event()
        self._brought = False
        self._thread = threading.Thread(target=self._keep, name=job.title, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until it runs. Raises the error with which it was given up."""
        while self._thread.is_alive() and not self._watched.seen:
            time.sleep(LOOK_S)
        self._kept.check()

    def end(self, seconds: float) -> None:
        """The run has ended: let it end by itself for so long, and bring what it has."""
        self._over.set()
        self._watched.wanted = False
        if not self._ends(seconds):
            _end(self._there, self._job)
            if not self._ends(END_S):
                return  # nobody hears
        self._thread.join()
        if self._watched.seen and not self._brought:
            _brought(self._there, self._job)

    def _ends(self, seconds: float) -> bool:
        """Whether it has within so many seconds; what it left may still be on its way."""
        end = time.monotonic() + seconds
        while self._thread.is_alive() and not self._watched.over and time.monotonic() < end:
            time.sleep(LOOK_S)
        return self._watched.over or not self._thread.is_alive()

    def _keep(self) -> None:
        while not self._over.is_set():
            try:
                carry(self._there, self._job, self._split.backoff, self._watched)
                self._brought = True
                if self._over.wait(AGAIN_S):
                    return
                self._watched = Watched()  # the side that leads began again, and needs it again
            except UnreachableError as error:
                if not self._watched.seen:
                    self._kept.give_up(error)
                    return
                log.warning("%s; the run may go on", error)
                self._over.wait(self._split.backoff.longest)
            except CoreError as error:
                if not self._over.is_set():
                    self._kept.give_up(error)
                return
            except SystemExit:
                return  # it was ended
            except Exception:
                log.exception("%s is not watched any more; this is a defect", self._job.title)
                return


def _end(there: Host, job: Job) -> None:
    """End a side whose other one is gone: it can save nothing."""
    try:
        with Connection(there) as connection:
            connection.ask("stop", END_S + ANSWER_S, job=job.name, patience=END_S)
    except CoreError as error:
        log.warning("%s; without the other side, %s ends by itself", error, job.title)


def _brought(there: Host | None, job: Job) -> None:
    """Bring what a side left, where it can be reached: the results are there without it."""
    if there is None:
        return
    try:
        bring(there, job)
    except CoreError as error:
        log.warning("%s; what %s left stays there", error, job.title)
