"""A party's side of a run. It sends the features of a step, goes on to the next ones, and applies
each gradient exactly K steps late to features that are made again (feature replay)."""

import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core import machine
from core.errors import PeerError
from core.federated.network import make_party
from core.federated.schedule import Schedule
from core.federated.silos import Silo
from core.models.din import FEATURES as WIDTH
from core.split import codec as codecs
from core.split.channel import Channel, Hello, SessionLost
from core.split.feedback import corrected
from core.split.messages import (
    BEGIN,
    DRAINED,
    EVALUATE,
    FEATURES,
    FINISH,
    FINISHED,
    GRADIENT,
    READY,
    REFUSED,
    SAVE,
    SAVED,
    SCORES,
    refused,
    tensor_of,
    understanding,
    with_tensor,
)
from core.split.pace import Pace
from core.split.part import below, learning_rate, under
from core.split.sender import Sender
from core.split.wire import Frame
from core.training.progress import ProgressBar
from core.training.snapshot import Snapshot, Snapshots

log = logging.getLogger(__name__)


@dataclass
class Sent:
    """A step whose gradient was not applied yet. frame: as it was sent. lost: by the codec, where
    the gradient is corrected by it. features: with their graph where K = 0."""

    step: int
    frame: Frame
    lost: NDArray[np.float32] | None = None
    features: Tensor | None = None


class Party:
    """One party. `run` follows the server until it says that all is done; it may be called again
    after any kind of death of any side."""

    def __init__(
        self,
        spec: Any,
        name: str,
        silo: Silo,
        connect: Callable[[Hello], Channel],
        snapshots: Snapshots,
    ) -> None:
        """connect: opens a session with the server. Raises ConfigError for a name or data that do
        not go with the spec."""
        self._spec, self._name, self._silo = spec, name, silo
        self._connect, self._snapshots = connect, snapshots
        names = [party["party"] for party in spec["parties"]]
        self._index = names.index(name)
        self._schedule = Schedule(spec, silo.sizes)
        self._pace = Pace(spec["parties"][self._index]["slowdown"])
        self._k: int = spec["scheme"]["staleness"]
        self._exact = codecs.make("none")
        self._channel: Channel

    def run(self, shows: bool = False) -> None:
        """shows: a progress bar. Raises PeerError when the server stays away, and what it says
        when it refuses."""
        while True:
            steps = tuple(self._snapshots.steps())
            try:
                self._channel = self._connect(Hello(self._name, self._spec.digest, steps))
                self._follow(steps, shows)
            except SessionLost as lost:
                log.warning("party %s: %s; going back to the last snapshot", self._name, lost)
            else:
                return

    # A session.

    def _follow(self, steps: tuple[int, ...], shows: bool) -> None:
        """One session, to its end."""
        try:
            self._open(steps)
            with ProgressBar(self._schedule.total, self._next, shows) as bar:
                while self._turn(bar):
                    pass
            self._channel.send(Frame(FINISHED, self._next, {}, {}))
            self._channel.close()
        except SessionLost:
            # It may have ended while this side was about to send, and said why before that.
            with suppress(SessionLost):
                while True:
                    self._heed(self._channel.receive())
            raise

    def _open(self, steps: tuple[int, ...]) -> None:
        """Meet the server, and stand where all sides can go on from. steps: own snapshots."""
        begin = self._receive()
        if begin.kind != BEGIN or begin.step not in (0, *steps):
            raise PeerError(f"the server sent {begin.kind!r} of step {begin.step} to begin with")
        self._start(begin.step)
        facts = {"order": self._silo.order, "shared": self._silo.shared, "sizes": self._silo.sizes}
        self._channel.send(Frame(READY, begin.step, {}, facts))
        for sent in self._pending:
            self._channel.send(sent.frame)

    def _start(self, step: int) -> None:
        assert self._silo.genres is not None  # of a party
        scheme, seed = self._spec["scheme"], self._spec["seed"]
        self._part = make_party(self._spec, self._index, self._silo.genres)
        self._sender = Sender(scheme["uplink"], scheme, seed, corrected=True)
        self._downlink = codecs.make(scheme["downlink"], seed, scheme["delta_mib"])
        self._pending: deque[Sent] = deque()
        self._next = self._closed = 0  # step to send, epochs that are over
        self._pace.lap()
        snapshot = self._snapshots.load(step)  # later ones are not of this one's past
        if snapshot is not None:
            self._load(snapshot)
            log.info("party %s: going on from a snapshot of step %d", self._name, step)

    # Training.

    def _turn(self, bar: ProgressBar) -> bool:
        """Whatever is next: send, apply, end an epoch. False when all is done."""
        if self._closed == self._schedule.epochs:
            self._expect(FINISH, self._next)
            return False
        if self._next < self._end and len(self._pending) <= self._k:
            self._send_features()
        elif self._pending:
            self._apply()
            bar.step()
        else:
            self._close_epoch()
        return True

    @property
    def _end(self) -> int:
        """First step of the next epoch."""
        return (self._closed + 1) * self._schedule.steps_per_epoch

    def _features(self, step: int, again: bool) -> Tensor:
        rows = self._silo.rows["train"][self._schedule.at(step)]
        return self._part.forward(torch.from_numpy(rows), step, again)

    def _send_features(self) -> None:
        step, samples = self._next, self._schedule.at(self._next)
        with self._pace.work():
            # With K = 0 the weights cannot change before the gradient is here.
            with torch.set_grad_enabled(self._k == 0):
                features = self._features(step, again=False)
            encoded, lost = self._sender.encode(features.detach().numpy(), step, samples)
        sent = Sent(step, with_tensor(FEATURES, step, encoded), lost)
        if self._k == 0:
            sent.features = features
        self._channel.send(sent.frame)
        self._pending.append(sent)
        self._next += 1

    def _apply(self) -> None:
        """Wait for the gradient of the oldest step; replay, backward, update."""
        sent = self._pending[0]
        frame = self._expect(GRADIENT, sent.step)
        with self._pace.work():
            self._backward(sent, frame)
        self._pending.popleft()

    def _backward(self, sent: Sent, frame: Frame) -> None:
        samples = self._schedule.at(sent.step)
        with understanding("the server", sent.step):
            gradient = self._downlink.decode(tensor_of(frame), sent.step, samples)
            if gradient.shape != (len(samples), WIDTH) or gradient.dtype != np.float32:
                raise ValueError(f"a gradient {gradient.dtype} {gradient.shape}")
        if sent.lost is not None:
            gradient = corrected(gradient, sent.lost)
        features = sent.features
        if features is None:
            features = self._features(sent.step, again=True)
        torch.autograd.backward(features, torch.from_numpy(gradient))
        rate = learning_rate(self._spec["training"]["optimiser"], self._closed + 1)
        self._part.update(rate)

    def _close_epoch(self) -> None:
        """Send the features of the test samples as they are, so that the score is that of the
        network, and wait until they were scored."""
        step = self._next
        facts = {"seconds": self._pace.lap(), "peak_mib": machine.peak_mib()}
        self._channel.send(Frame(DRAINED, step, {}, facts))
        self._expect(EVALUATE, step)
        for samples in self._schedule.tests():
            with self._pace.work():
                features = self._part.evaluate(torch.from_numpy(self._silo.rows["test"][samples]))
                encoded = self._exact.encode(features.numpy(), step, samples)
            self._channel.send(with_tensor(EVALUATE, step, encoded))
        self._closed += 1
        self._expect(SCORES, step)
        self._pace.lap()

    # What the server says.

    def _expect(self, kind: str, step: int) -> Frame:
        frame = self._receive()
        if (frame.kind, frame.step) != (kind, step):
            raise PeerError(
                f"the server sent {frame.kind!r} of step {frame.step}, expected {kind!r} of {step}"
            )
        return frame

    def _receive(self) -> Frame:
        """The next frame that is not about snapshots, which are written when they are asked for."""
        while (frame := self._channel.receive()).kind == SAVE:
            self._save(frame.step)
        self._heed(frame)
        return frame

    def _heed(self, frame: Frame) -> None:
        """Raises the server's error if it is one, with the exit code that it has there."""
        if frame.kind == REFUSED:
            raise refused(frame, f"the server refused party {self._name}")

    # Snapshots. The server asks between the gradients of two steps. What was sent after that is
    # kept as it was sent, with the weights of then, and is sent again.

    def _save(self, step: int) -> None:
        if step != (self._pending[0].step if self._pending else self._next):
            raise PeerError(f"the server asks for a snapshot of step {step}, which is over")
        arrays = under("part", self._part.state()) | under("sender", self._sender.state())
        arrays |= under("downlink", self._downlink.state())
        for sent in self._pending:
            arrays |= under(f"sent/{sent.step}", sent.frame.arrays)
            if sent.lost is not None:
                arrays[f"lost/{sent.step}"] = sent.lost
        pending = [[sent.step, sent.frame.facts] for sent in self._pending]
        progress = {"next": self._next, "closed": self._closed, "pending": pending}
        progress["work_s"] = self._pace.seconds
        self._snapshots.save(step, Snapshot(arrays, progress))
        self._channel.send(Frame(SAVED, step, {}, {}))

    def _load(self, snapshot: Snapshot) -> None:
        arrays, progress = snapshot.arrays, snapshot.progress
        self._part.take(below("part", arrays), range(self._index, self._index + 1))
        self._sender.load_state(below("sender", arrays))
        self._downlink.load_state(below("downlink", arrays))
        self._next, self._closed = progress["next"], progress["closed"]
        self._pace.seconds = progress["work_s"]
        for step, facts in progress["pending"]:
            frame = Frame(FEATURES, step, below(f"sent/{step}", arrays), facts)
            self._pending.append(Sent(step, frame, arrays.get(f"lost/{step}")))
