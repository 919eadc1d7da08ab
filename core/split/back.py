"""The side of a run that holds the last blocks and the loss, and answers the front in order.

Targets come with the features, or are here already and stay here: then it goes through the same
samples by the number of the step, and no target crosses the link either way."""

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core import machine
from core.data.texts import VOCABULARY
from core.errors import CoreError, DataError
from core.measure import recorder, trace
from core.split import codec as codecs
from core.split import samples
from core.split.batches import Testing, Training
from core.split.chair_batches import ChairTests
from core.split.channel import Channel
from core.split.data import names_digest
from core.split.distributions import distributions
from core.split.feedback import Residual, feedback
from core.split.messages import (
    BEGIN,
    DISTRIBUTIONS,
    EVALUATE,
    FEATURES,
    FINISH,
    FINISHED,
    GRADIENT,
    MOVE,
    MOVED,
    PROBE,
    PROBED,
    READY,
    SAVE,
    SAVED,
    SCORES,
    SHOW,
    SHOWN,
    WEIGHTS,
    integers,
    refusal,
    tensor_of,
    with_tensor,
)
from core.split.network import block_count, frozen_count, input_of, make_part
from core.split.pace import Pace
from core.split.part import State, below, loss_of, under
from core.split.sides import front_of, other, turned
from core.split.wire import Frame
from core.training.snapshot import Snapshot, Snapshots

log = logging.getLogger(__name__)

LAST = 10**9  # steps: more are not named in a snapshot

Places = NDArray[np.int64]  # positions of samples in their part

_BLOCKS, _UPLINK, _DOWNLINK, _RESIDUAL = "blocks", "uplink", "downlink", "residual"


class Back:
    """One session with a front. `serve` answers its frames, one after the other."""

    def __init__(
        self,
        spec: Any,
        channel: Channel,
        snapshots: Path,
        data: tuple[Training, Testing] | None = None,
        out: Path | None = None,
    ) -> None:
        """snapshots: folder of this side's snapshots. data: the two parts, where this side has the
        targets. out: folder for generated images, where it makes some."""
        self._spec, self._channel = spec, channel
        self._snapshots = Snapshots(snapshots, spec.digest)
        self._blocks, self._frozen = block_count(spec), frozen_count(spec)
        self._data, self._out = data, out
        self._pace = Pace(spec[other(front_of(spec))]["slowdown"])
        self._part = make_part(spec, range(0))
        scheme, decision = spec["scheme"], spec["scheme"]["decision"] or {}
        self._allowed = {"none", scheme["uplink"], scheme["downlink"]}
        self._allowed |= {*decision.get("uplink", ()), *decision.get("downlink", ())}
        self._residual = Residual(feedback(spec["scheme"]["feedback"]).carries)
        self._cut = self._blocks
        self._begun = self._broken = False
        self._saved = 0  # step of the last snapshot
        self._use("none", "none")

    def serve(self) -> None:
        """Answer until the front has finished. Raises PeerError when it stays away, SessionLost
        when it has begun another session."""
        while True:
            frame = self._channel.receive()
            self._channel.send(self._answer(frame))
            if frame.kind == FINISH:
                return

    def _answer(self, frame: Frame) -> Frame:
        """The reply. What does not fit is refused and leaves everything as it was."""
        answers: dict[str, Callable[[Frame], Frame]] = {
            BEGIN: self._begin,
            FEATURES: self._train,
            EVALUATE: self._evaluate,
            MOVE: self._move,
            SAVE: self._save,
            WEIGHTS: self._distributions,
            PROBE: self._probe,
            SHOW: self._show,
            FINISH: self._finish,
        }
        try:
            if frame.kind not in answers:
                raise ValueError(f"there is no frame {frame.kind!r}")
            if self._broken:
                raise ValueError("this session broke before; begin another one")
            if not self._begun and frame.kind not in (BEGIN, PROBE, FINISH):
                raise ValueError(f"{frame.kind!r} before {BEGIN!r}")
            return answers[frame.kind](frame)
        except (CoreError, ValueError) as error:
            return self._refused(frame, error)
        except Exception as error:
            # Past the checks: what this side holds may be half changed. The snapshots are not.
            log.exception("step %d: the session is broken", frame.step)
            self._broken = True
            return self._refused(frame, error)

    def _refused(self, frame: Frame, error: Exception) -> Frame:
        answer = refusal(frame.step, error)
        log.warning("step %d: refused: %s", frame.step, answer.facts["reason"])
        return answer

    # Training.

    def _train(self, frame: Frame) -> Frame:
        """One step: the loss of a batch, the gradient of its features, and the update at once."""
        self._pace.lap()
        rate = _rate(frame)
        if not 0 <= frame.step < LAST:
            raise ValueError(f"there is no step {frame.step}")
        with self._pace.work():
            targets, places = self._targets(frame)
            features = self._input(frame, places)
            features.requires_grad_(self._cut > self._frozen)
            loss, correct = loss_of(self._part.forward(features, frame.step), targets)
            torch.autograd.backward(loss)
            self._part.update(rate)
            facts: dict[str, Any] = {"loss": float(loss.detach()), "correct": correct}
            reply = Frame(GRADIENT, frame.step, {}, facts)
            # Of a loss that is no number there is no gradient to send; the front says so.
            if features.grad is not None and math.isfinite(facts["loss"]):
                try:
                    reply = self._gradient(features.grad.numpy(), frame, places, facts)
                except CoreError:
                    self._broken = True  # blocks have changed, and the front has no answer
                    raise
        return Frame(
            GRADIENT, frame.step, reply.arrays, reply.facts | {"seconds": self._pace.lap()}
        )

    def _gradient(
        self, gradient: NDArray[Any], frame: Frame, places: Places, facts: dict[str, Any]
    ) -> Frame:
        wanted = self._residual.add(gradient)
        if self._downlink.lossless or not self._residual.active:
            encoded = self._downlink.encode(wanted, frame.step, places)
        else:
            encoded, decoded = self._downlink.encode_decoded(wanted, frame.step, places)
            self._residual.keep(wanted, decoded)
        return with_tensor(GRADIENT, frame.step, encoded, **facts)

    def _targets(self, frame: Frame) -> tuple[NDArray[Any], Places]:
        """What a batch is to give, and which samples it has: of this side's own data where it has
        the targets, else as the frame says. Raises ValueError for what does not fit."""
        if self._data is None:
            return self._labels(frame)
        train, test = self._data
        if frame.kind == FEATURES:
            batch = train.at(frame.step)
        else:
            number = frame.facts.get("batch")
            if type(number) is not int or not 0 <= number < len(test):
                raise ValueError(f"batch {number!r} is not 0 to {len(test) - 1}")
            batch = test.at(number)
        return batch.wanted, batch.samples

    def _labels(self, frame: Frame) -> tuple[NDArray[Any], Places]:
        labels = integers(frame, "labels")
        classes, training = self._spec["data"]["classes"], self._spec["training"]
        most = max(training["batch"], training["test_batch"])
        if len(labels) > most:
            raise ValueError(f"{len(labels)} samples in a batch of at most {most}")
        if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
            raise ValueError(f"labels must be 0 to {classes - 1}, and there must be some")
        return labels, integers(frame, "samples", len(labels))

    def _input(self, frame: Frame, places: Places) -> torch.Tensor:
        """What the first block here takes: decoded features, or the raw batch where all blocks are
        here. Raises ValueError for what does not fit, before anything is computed."""
        raw = self._cut == 0 and self._takes[1] == np.float32  # as they are, whatever the codec
        decoder = self._uplink if frame.kind == FEATURES and not raw else self._exact
        encoded = tensor_of(frame)
        self._check_announced(encoded.facts, len(places))  # delta coding remembers what it decodes
        array = decoder.decode(encoded, frame.step, places)
        if array.dtype == np.int32 and (array.min() < 0 or array.max() >= VOCABULARY):
            raise ValueError(f"tokens must be 0 to {VOCABULARY - 1}")
        if self._cut == 0:
            return self._part.prepared(array)
        return torch.from_numpy(array)

    def _check_announced(self, facts: Mapping[str, Any], samples: int) -> None:
        """Raises ValueError for an array that the first block here could not take."""
        shape, dtype = self._takes
        wanted, said = (str(dtype), [samples, *shape]), (facts.get("dtype"), facts.get("shape"))
        if said != wanted:
            raise ValueError(
                f"at cut {self._cut} the input is {wanted[0]} {wanted[1]}, not {said[0]} {said[1]}"
            )

    def _evaluate(self, frame: Frame) -> Frame:
        targets, places = self._targets(frame)
        outputs = self._part.evaluate(self._input(frame, places))
        loss, correct = loss_of(outputs, targets)
        facts = {"loss": float(loss) * len(places), "correct": correct}
        return Frame(SCORES, frame.step, {}, facts)

    def _show(self, frame: Frame) -> Frame:
        """Generate images beside those that are wanted. They stay here."""
        if self._data is None or self._out is None or not isinstance(self._data[1], ChairTests):
            raise ValueError("this side has no images to show")
        split = self._data[1].split
        inputs = self._input(frame, np.arange(len(samples.inputs_of(split))))
        samples.write(self._out, split, self._part.evaluate(inputs))
        return Frame(SHOWN, frame.step)

    # Blocks that change sides.

    def _move(self, frame: Frame) -> Frame:
        """The front gives blocks with this frame, or asks for some of this side's."""
        cut, names = self._cut_of(frame), self._codecs_of(frame)
        given: State = {}
        if cut < self._cut:
            self._part.take(frame.arrays, range(cut, self._cut))
        else:
            given = self._part.give(range(self._cut, cut))
        self._hold(cut)
        self._use(*names)
        return Frame(MOVED, frame.step, given)

    def _hold(self, cut: int) -> None:
        """The cut is here now."""
        self._cut, self._takes = cut, input_of(self._spec, cut)

    def _cut_of(self, frame: Frame) -> int:
        cut = frame.facts.get("cut")
        last = self._blocks - turned(self._spec)  # the loss needs the targets, which stay here
        if type(cut) is not int or not 0 <= cut <= last:
            raise ValueError(f"cut {cut!r} is not 0 to {last}")
        return cut

    def _codecs_of(self, frame: Frame) -> tuple[str, str]:
        uplink, downlink = (str(frame.facts.get(key)) for key in ("uplink", "downlink"))
        for name in (uplink, downlink):
            if name not in self._allowed:
                raise ValueError(f"codec {name!r} is not of this run: {sorted(self._allowed)}")
        return uplink, downlink

    def _use(self, uplink: str, downlink: str) -> None:
        """Start with these codecs, which remember nothing yet."""
        self._names = (uplink, downlink)
        seed, memory = self._spec["seed"], self._spec["scheme"]["delta_mib"]
        self._uplink = codecs.make(uplink, seed, memory)
        self._downlink = codecs.make(downlink, seed, memory)
        self._exact = codecs.make("none")
        self._residual.reset()

    # Snapshots.

    def _begin(self, frame: Frame) -> Frame:
        """From the snapshot that both sides have, or from the start."""
        if frame.step != self._channel.start or self._begun:
            raise ValueError(f"this session starts at step {self._channel.start}, and once")
        if self._data is not None and frame.facts.get("data") != names_digest(*self._data):
            raise DataError(
                "the sides have other samples, or another order of them: "
                f"{self._spec['data']['folder']} must be of the same fetch on both"
            )
        if frame.step:
            self._load(frame.step)
        else:
            cut, names = self._cut_of(frame), self._codecs_of(frame)
            self._snapshots.load(0)  # of an earlier attempt: not of this one's past
            self._part = make_part(self._spec, range(cut, self._blocks))
            self._hold(cut)
            self._use(*names)
        self._begun = True
        recorder.begin(frame.step)
        return Frame(READY, frame.step)

    def _save(self, frame: Frame) -> Frame:
        arrays = under(_BLOCKS, self._part.state()) | under(_UPLINK, self._uplink.state())
        arrays |= under(_DOWNLINK, self._downlink.state())
        arrays |= under(_RESIDUAL, self._residual.state())
        progress = {"cut": self._cut, "codecs": self._names}
        if not self._saved <= frame.step < LAST:
            raise ValueError(f"a snapshot of step {frame.step} after that of {self._saved}")
        recorder.mark(trace.SNAPSHOT, frame.step)
        self._snapshots.save(frame.step, Snapshot(arrays, progress))
        self._saved = frame.step
        return Frame(SAVED, frame.step, {}, {})

    def _load(self, step: int) -> None:
        snapshot = self._snapshots.load(step)
        assert snapshot is not None  # it is among the steps
        self._hold(snapshot.progress["cut"])
        self._use(*snapshot.progress["codecs"])
        self._part.keep(range(0))
        self._part.take(below(_BLOCKS, snapshot.arrays), range(self._cut, self._blocks))
        self._saved = step
        self._uplink.load_state(below(_UPLINK, snapshot.arrays))
        self._downlink.load_state(below(_DOWNLINK, snapshot.arrays))
        self._residual.load_state(below(_RESIDUAL, snapshot.arrays))

    # The link and the end.

    def _probe(self, frame: Frame) -> Frame:
        """As many bytes back as came: both directions of the link can be seen."""
        return Frame(PROBED, frame.step, dict(frame.arrays))

    def _distributions(self, frame: Frame) -> Frame:
        found = {str(k): v for k, v in distributions(self._part.state()).items()}
        return Frame(DISTRIBUTIONS, frame.step, {}, {"blocks": found})

    def _finish(self, frame: Frame) -> Frame:
        facts = {"peak_mib": machine.peak_mib(), "measure": recorder.summary()}
        return Frame(FINISHED, frame.step, {}, facts)


def _rate(frame: Frame) -> float:
    rate: Any = frame.facts.get("learning_rate")
    if type(rate) not in (int, float) or not math.isfinite(rate) or rate < 0:
        raise ValueError(f"learning_rate {rate!r} is no rate")
    return float(rate)
