"""The front's blocks, and what is under way between the two sides: features go forth, gradients
come back up to K steps late and are applied to features that are made again (feature replay).

Codecs are chosen by what they are for, `uplink` for features and `downlink` for gradients,
whichever way these travel. What is recorded of a step is by the way: up is from edge to cloud."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.errors import PeerError, TrainingError
from core.split import codec as codecs
from core.split.batches import Batch, Training
from core.split.channel import Channel
from core.split.decision import Choice, Link
from core.split.estimator import Estimator
from core.split.feedback import Residual, corrected, feedback
from core.split.messages import (
    EVALUATE,
    FEATURES,
    GRADIENT,
    MOVE,
    MOVED,
    PROBE,
    PROBED,
    REFUSED,
    SAVE,
    SAVED,
    SCORES,
    SHOW,
    SHOWN,
    refused,
    tensor_of,
    understanding,
    with_tensor,
)
from core.split.network import block_count, frozen_count, make_part
from core.split.pace import Pace
from core.split.part import State, below, loss_of, under
from core.split.replay import Pending
from core.split.sides import EDGE, front_of, other, turned
from core.split.wire import Frame

Row = dict[str, Any]

# Test batches that are under way at once.
TESTS_AHEAD = 4

# Bytes of the probes that measure an idle link: small first, larger where that was too quick.
PROBES, QUICK_S, LEAST_PROBE = (1 << 16, 1 << 20), 0.05, 20 << 10
PINGS, PING_S = 3, 1.0  # how often it is tried, and seconds to wait each time


class Pipeline:
    """Trains step by step. `channel` is None where no other side takes part (all-edge)."""

    def __init__(
        self,
        spec: Any,
        channel: Channel | None,
        estimator: Estimator,
        finished: Callable[[Row], None],
    ) -> None:
        """finished: called with what is known of a step once its gradient was applied."""
        self._spec, self._channel = spec, channel
        self._estimator, self._finished = estimator, finished
        self._scheme, self._blocks = spec["scheme"], block_count(spec)
        self._frozen = frozen_count(spec)
        self._exact = codecs.make("none")
        self._corrects = feedback(self._scheme["feedback"]).corrects
        self._residual = Residual(feedback(self._scheme["feedback"]).carries)
        self._side = EDGE if channel is None else front_of(spec)
        self._other = other(self._side)
        self._turned = channel is not None and turned(spec)  # the other side knows the targets
        self._pace = Pace(spec[self._side]["slowdown"])
        self._pending: deque[Pending] = deque()
        self._arrived: deque[Frame] = deque()  # received before their turn
        self._staleness, self._rate = 0, 0.0

    # Where the cut is.

    def start(self, choice: Choice) -> None:
        """Hold the blocks below this cut, as freshly built, and forget whatever was under way."""
        self._part = make_part(self._spec, self._own(choice.cut))
        self._pending.clear()
        self._arrived.clear()
        self._use(choice)

    def _own(self, cut: int) -> range:
        """The blocks held here at a cut."""
        return range(self._blocks if self._channel is None else cut)

    @property
    def _whole(self) -> bool:
        """All blocks are here."""
        return self._channel is None or self.choice.cut == self._blocks

    @property
    def _returns(self) -> bool:
        """A gradient comes back: some block here is trained."""
        return self.choice.cut > self._frozen

    def _use(self, choice: Choice) -> None:
        self.choice = choice
        seed, memory = self._spec["seed"], self._scheme["delta_mib"]
        self._uplink = codecs.make(choice.uplink, seed, memory)
        self._downlink = codecs.make(choice.downlink, seed, memory)
        self._residual.reset()

    def move(self, choice: Choice, step: int) -> None:
        """Let blocks change sides with their optimisers, once nothing is under way."""
        self.drain()
        before, facts = self.choice.cut, {"cut": choice.cut}
        facts |= {"uplink": choice.uplink, "downlink": choice.downlink}  # type: ignore[dict-item]
        given = self._part.give(range(choice.cut, before)) if choice.cut < before else {}
        self._send(Frame(MOVE, step, given, facts))
        answer = self.expect(MOVED, step)
        with self._understanding(step):
            self._part.take(answer.arrays, range(before, choice.cut))
        self._use(choice)

    # Training.

    def begin_epoch(self, staleness: int, rate: float) -> None:
        """K and the learning rate from here on. Nothing may be under way."""
        self._staleness, self._rate = staleness, rate

    def step(self, batch: Batch, step: int) -> None:
        """One batch on its way, and those gradients applied whose turn it is."""
        if self._whole:
            self._train_alone(batch, step)
            return
        self._send_features(batch, step)
        if self._scheme["mode"] == "opportunistic":
            while self._pending and self._has_arrived():
                self._apply()
        while len(self._pending) > self._staleness:
            self._apply()

    def drain(self) -> None:
        """Apply every gradient that is under way."""
        while self._pending:
            self._apply()

    def _train_alone(self, batch: Batch, step: int) -> None:
        self._pace.lap()
        with self._pace.work():
            logits = self._part.forward(self._part.prepared(batch.inputs), step)
            loss, correct = loss_of(logits, batch.wanted)
            _check_loss(float(loss.detach()), step)
            torch.autograd.backward(loss)
            self._part.update(self._rate)
        done = Pending(step, batch, front_s=self._pace.lap())
        self._record(done, float(loss.detach()), correct, back_s=0.0, received=0)

    def _send_features(self, batch: Batch, step: int) -> None:
        self._pace.lap()
        pending = Pending(step, batch)
        with self._pace.work():
            if self.choice.cut == 0:
                encoded = self._raw(batch).encode(batch.inputs, step, batch.samples)
            else:
                encoded = self._encode_features(pending)
        pending.sent, pending.front_s = encoded.nbytes, self._pace.lap()
        facts = {"learning_rate": self._rate}
        self._has_arrived()  # so that the other need not wait with gradients while this waits
        self._send(with_tensor(FEATURES, step, encoded, self._names(batch), **facts))
        self._pending.append(pending)

    def _raw(self, batch: Batch) -> codecs.Codec:
        """For raw inputs: numbers are never rounded, and a lossless stage does not hurt others."""
        return self._exact if batch.inputs.dtype == np.float32 else self._uplink

    def _names(self, batch: Batch) -> dict[str, NDArray[Any]]:
        """What goes with a batch, where the other side does not know it anyway."""
        return {} if self._turned else {"labels": batch.wanted, "samples": batch.samples}

    def _encode_features(self, pending: Pending) -> codecs.Encoded:
        """Features of a batch for the wire. With K = 0 the weights cannot change before the
        gradient is here: the graph is kept and nothing is replayed."""
        batch, step = pending.batch, pending.step
        with torch.set_grad_enabled(self._staleness == 0):
            features = self._part.forward(self._part.prepared(batch.inputs), step)
        if self._staleness == 0:
            pending.features = features
        array = features.detach().numpy()
        wanted = self._residual.add(array)
        corrects = self._corrects and self._returns
        if self._uplink.lossless or not (corrects or self._residual.active):
            return self._uplink.encode(wanted, step, batch.samples)
        encoded, decoded = self._uplink.encode_decoded(wanted, step, batch.samples)
        self._residual.keep(wanted, decoded)
        if corrects:
            pending.lost = decoded - array
        return encoded

    def _apply(self) -> None:
        """Wait for the gradient of the oldest step; replay, backward, update."""
        pending = self._pending[0]
        frame = self.expect(GRADIENT, pending.step)
        with self._understanding(pending.step):
            loss, back_s = float(frame.facts["loss"]), float(frame.facts["seconds"])
            correct = None if frame.facts["correct"] is None else int(frame.facts["correct"])
        _check_loss(loss, pending.step)
        self._pace.lap()
        received = 0
        if self._returns:
            with self._pace.work():
                received = self._backward(pending, frame)
        self._pending.popleft()
        pending.front_s += self._pace.lap()
        self._record(pending, loss, correct, back_s, received)

    def _backward(self, pending: Pending, frame: Frame) -> int:
        """Bytes of the gradient that came."""
        step, batch = pending.step, pending.batch
        with self._understanding(step):
            encoded = tensor_of(frame)
            gradient = self._downlink.decode(encoded, step, batch.samples)
        if pending.lost is not None:
            gradient = corrected(gradient, pending.lost)
        features = pending.features
        if features is None:
            features = self._part.forward(self._part.prepared(batch.inputs), step, again=True)
        with self._understanding(step):
            if gradient.shape != tuple(features.shape) or gradient.dtype != np.float32:
                raise ValueError(f"a gradient {gradient.dtype} {gradient.shape}")
        torch.autograd.backward(features, torch.from_numpy(gradient))
        self._part.update(self._rate)
        return encoded.nbytes

    def _understanding(self, step: int) -> AbstractContextManager[None]:
        return understanding(f"the {self._other}", step)

    def _record(
        self, done: Pending, loss: float, correct: int | None, back_s: float, received: int
    ) -> None:
        """What is known of a step. In iterations.csv up is from the edge, whoever that is."""
        here = self._side == EDGE
        sent = (done.sent, self.choice.uplink)
        got = (received, self.choice.downlink)
        (up_bytes, uplink), (down_bytes, downlink) = (sent, got) if here else (got, sent)
        up, down = self._estimator.up, self._estimator.down
        row = {
            "step": done.step,
            "cut": self.choice.cut,
            "uplink": uplink,
            "downlink": downlink,
            "edge_s": done.front_s if here else back_s,
            "uplink_s": up_bytes / up if up else None,
            "cloud_s": back_s if here else done.front_s,
            "downlink_s": down_bytes / down if down else None,
            "up_bytes": up_bytes,
            "down_bytes": down_bytes,
            "up_rate": up,
            "down_rate": down,
            "delay_s": self._estimator.delay,
            "late": len(self._pending),
            "loss": loss,
            "correct": correct,
        }
        self._finished(row)

    # Testing.

    def evaluate(self, batches: Iterable[Batch], step: int) -> tuple[float, int]:
        """(Summed loss, number of right answers) of test batches; nothing changes. Features are
        sent as they are, so that accuracy is that of the network. Nothing may be under way."""
        total, right, under_way = 0.0, 0, 0
        for number, batch in enumerate(batches):
            features = self._part.evaluate(self._part.prepared(batch.inputs))
            if self._whole:
                loss, correct = loss_of(features, batch.wanted)
                total, right = total + float(loss) * len(batch.samples), right + (correct or 0)
                continue
            array = features.numpy() if self.choice.cut else batch.inputs
            encoded = self._exact.encode(array, step, batch.samples)
            facts = {"batch": number} if self._turned else {}
            self._send(with_tensor(EVALUATE, step, encoded, self._names(batch), **facts))
            under_way += 1
            if under_way == TESTS_AHEAD:
                total, right = self._add_scores(total, right, step)
                under_way -= 1
        for _ in range(under_way):
            total, right = self._add_scores(total, right, step)
        return total, right

    def _add_scores(self, total: float, right: int, step: int) -> tuple[float, int]:
        facts = self.expect(SCORES, step).facts
        with self._understanding(step):
            return total + float(facts["loss"]), right + int(facts["correct"] or 0)

    def show(self, inputs: NDArray[Any], step: int) -> Tensor | None:
        """What the network makes of these inputs; None where the other side, which has the last
        blocks, keeps it there. Nothing may be under way."""
        features = self._part.evaluate(self._part.prepared(inputs))
        if self._whole:
            return features
        array = features.numpy() if self.choice.cut else inputs
        encoded = self._exact.encode(array, step, np.arange(len(inputs)))
        self._send(with_tensor(SHOW, step, encoded))
        self.expect(SHOWN, step)
        return None

    # The link.

    def link(self) -> Link | None:
        """What is known of it; None before enough has passed."""
        return Link.of(self._estimator)

    def probe(self, step: int) -> float:
        """Measure the link, where no features and gradients pass that would tell of it; seconds
        that it is kept busy."""
        assert self._channel is not None
        start = time.perf_counter()
        if not self._pending:
            self.ping()
        for size in self._probe_sizes():
            self._send(Frame(PROBE, step, {"bytes": np.zeros(size, np.uint8)}))
            link = self.link()
            if self._pending:  # steps are under way, and the answer comes between theirs
                return size / link.up + size / link.down if link else 0.0
            self.expect(PROBED, step)
            link = self.link()
            if link and size / min(link.up, link.down) > QUICK_S:
                break
        return time.perf_counter() - start

    def _probe_sizes(self) -> tuple[int, ...]:
        """Bytes: of a link that is known, what passes in QUICK_S; else small ones first."""
        link = self.link()
        if link is None:
            return PROBES
        known = int(QUICK_S * min(link.up, link.down))
        return (min(max(known, LEAST_PROBE), PROBES[-1]),)

    def ping(self) -> None:
        """Measure the delay. Nothing may be under way; waits for the answer, not for long."""
        if self._channel is None:
            return
        before = self._estimator.counts.trips
        for _ in range(PINGS):
            _wait(self._channel.idle, PING_S)
            self._channel.ping()
            if _wait(lambda: self._estimator.counts.trips > before, PING_S):
                return

    def ask(self, kind: str, answer: str, step: int) -> Frame:
        """A question without content."""
        self._send(Frame(kind, step))
        return self.expect(answer, step)

    def _send(self, frame: Frame) -> None:
        assert self._channel is not None
        self._channel.send(frame)

    def expect(self, kind: str, step: int) -> Frame:
        """The next frame in order, which must be this one."""
        assert self._channel is not None
        frame = self._arrived.popleft() if self._arrived else self._channel.receive()
        while frame.kind == PROBED and kind != PROBED:
            frame = self._channel.receive()
        self._check(frame, kind, step)
        return frame

    def _check(self, frame: Frame, kind: str, step: int) -> None:
        """Raises the other side's error, which has its exit code there too, and PeerError for an
        answer to something else."""
        if frame.kind == REFUSED:
            raise refused(frame, f"the {self._other}, step {frame.step}")
        if (frame.kind, frame.step) != (kind, step):
            raise PeerError(
                f"the {self._other} sent {frame.kind!r} of step {frame.step}, expected {kind!r} of "
                f"{step}"
            )

    def _has_arrived(self) -> bool:
        assert self._channel is not None
        try:
            while True:
                frame = self._channel.receive(timeout=0)
                if frame.kind != PROBED:
                    self._keep(frame)
        except TimeoutError:
            return bool(self._arrived)

    def _keep(self, frame: Frame) -> None:
        """For its turn. No more can come than are under way: others would fill the memory."""
        self._arrived.append(frame)
        if len(self._arrived) > len(self._pending) + 1:  # of which one may say why it ends
            raise PeerError(f"the {self._other} sent more answers than were asked for")

    def weights(self) -> State:
        """The state of the blocks held here."""
        return self._part.state()

    # Snapshots. Both sides save where they stand after the features of the same step: what the
    # other has sent until then is here before its answer, and is kept for its turn.

    def save(self, step: int) -> tuple[State, dict[str, Any]]:
        """Let the other side write its snapshot; what this side's must hold, as arrays and JSON."""
        if self._channel is not None:
            self._send(Frame(SAVE, step))
            while (frame := self._channel.receive()).kind in (GRADIENT, PROBED):
                if frame.kind == GRADIENT:
                    self._keep(frame)
            self._check(frame, SAVED, step)
        arrays = under("part", self.weights())
        for prefix, each in self._stateful():
            arrays |= under(prefix, each.state())
        for pending in self._pending:
            if pending.lost is not None:
                arrays[f"lost/{pending.step}"] = pending.lost
        for frame in self._arrived:
            arrays |= under(f"arrived/{frame.step}", frame.arrays)
        facts = {
            "choice": [self.choice.cut, self.choice.uplink, self.choice.downlink],
            "pending": [[p.step, p.sent, p.front_s] for p in self._pending],
            "arrived": [[f.step, f.facts] for f in self._arrived],
        }
        return arrays, facts

    def load(self, arrays: State, facts: dict[str, Any], batches: Training) -> None:
        """Go on from what `save` gave."""
        self.start(Choice(*facts["choice"]))
        self._part.keep(range(0))
        self._part.take(below("part", arrays), self._own(self.choice.cut))
        for prefix, each in self._stateful():
            each.load_state(below(prefix, arrays))
        for step, sent, front_s in facts["pending"]:
            lost = arrays.get(f"lost/{step}")
            self._pending.append(Pending(step, batches.at(step), None, lost, sent, front_s))
        for step, said in facts["arrived"]:
            self._arrived.append(Frame(GRADIENT, step, below(f"arrived/{step}", arrays), said))

    def _stateful(self) -> list[tuple[str, Any]]:
        return [
            ("uplink", self._uplink),
            ("downlink", self._downlink),
            ("residual", self._residual),
        ]


def _wait(ready: Callable[[], bool], seconds: float) -> bool:
    """Whether it is so within this time."""
    deadline = time.monotonic() + seconds
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.005)
    return ready()


def _check_loss(loss: float, step: int) -> None:
    if not np.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss} at step {step}; lower training.optimiser.learning_rate"
        )
