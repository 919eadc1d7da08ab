"""The server's side of a run: it holds the labels and the upper network, adds up what the parties
send, and leads: epochs, testing, snapshots."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.errors import CoreError, TrainingError
from core.federated.auc import roc_auc
from core.federated.members import Members
from core.federated.network import make_server
from core.federated.schedule import Schedule
from core.split.channel import SessionLost
from core.split.pace import Pace
from core.split.part import below, class_loss, learning_rate, under
from core.training.progress import ProgressBar, minutes
from core.training.snapshot import Snapshot, Snapshots
from core.training.stop import Stop

log = logging.getLogger(__name__)

Row = dict[str, Any]

# Seconds of an epoch by what they were spent on.
TIMES = ("training", "testing", "snapshot")


@dataclass
class Progress:
    """Where a run stands, beside the network. Everything is plain JSON.

    epoch, batch: the next step to take, from 0. rows, parties: as in epochs.csv and parties.csv.
    current: sums of the epoch under way. traffic: bytes up and down of it, by party. legs: every
    process that trained a part of the run.
    """

    epoch: int = 0
    batch: int = 0
    rows: list[Row] = field(default_factory=list)
    parties: list[Row] = field(default_factory=list)
    current: dict[str, float] = field(default_factory=dict)
    traffic: dict[str, list[int]] = field(default_factory=dict)
    legs: list[Row] = field(default_factory=list)


class FederatedServer:
    """One run. `run` may be called again after any kind of death of any side."""

    def __init__(
        self,
        spec: Any,
        labels: Mapping[str, NDArray[np.int64]],
        members: Members,
        snapshots: Snapshots,
        origin: Row,
    ) -> None:
        """labels: by part, in the aligned order. origin: what computes in this process."""
        self._spec, self._labels, self._members = spec, labels, members
        self._snapshots, self._origin = snapshots, origin
        self._schedule = Schedule(spec, {part: len(own) for part, own in labels.items()})
        self._pace = Pace(spec["server"]["slowdown"])
        self._stop = Stop()
        self.progress = Progress()

    def run(self) -> Progress:
        """Train to the last epoch, from the newest snapshot that all sides have.

        Raises SystemExit(128 + signal) after a snapshot when asked to stop, TrainingError when the
        loss is no longer a number, PeerError when a party stays away, DataError when parties
        contradict each other.
        """
        with self._stop:
            while True:
                try:
                    self._open()
                    with ProgressBar(self._schedule.total, self._done()) as bar:
                        self._train(bar)
                    self._members.finish(self._done())
                except SessionLost as lost:
                    log.warning("%s; going on from the last snapshot of all sides", lost)
                    self._members.part()
                except CoreError as error:
                    self._members.refuse_all(error)
                    raise
                else:
                    return self.progress

    def _done(self) -> int:
        return self.progress.epoch * self._schedule.steps_per_epoch + self.progress.batch

    def _open(self) -> None:
        """Meet the parties, and stand where all sides can go on from."""
        step = self._members.meet(self._snapshots.steps())
        snapshot = self._snapshots.load(step)
        self._part, self.progress = make_server(self._spec), Progress()
        if snapshot is not None:
            own = below("part", snapshot.arrays)
            self._part.take(own, range(self._part.blocks[0], self._part.blocks[0] + 1))
            self.progress = Progress(**snapshot.progress)
        self._members.load_state(below("members", snapshot.arrays) if snapshot else None)
        self._saved_at = time.monotonic() if snapshot is not None else -float("inf")
        self._saved_step = step if snapshot is not None else -1
        if step:
            log.info("going on from a snapshot: step %d of %d", step, self._schedule.total)
        if self.progress.epoch < self._schedule.epochs:
            self.progress.legs.append(self._origin | {"from_step": step})

    # An epoch.

    def _train(self, bar: ProgressBar) -> None:
        while self.progress.epoch < self._schedule.epochs:
            rate = learning_rate(self._spec["training"]["optimiser"], self.progress.epoch + 1)
            if not self.progress.current:
                self.progress.current = dict.fromkeys(["loss", "correct", *TIMES], 0.0)
            while self.progress.batch < self._schedule.steps_per_epoch:
                self._save_if_due()
                with self._timed("training"):
                    self._step(self._done(), rate)
                self.progress.batch += 1
                bar.step()
            with self._timed("training"):
                worked = self._members.drained(self._done())
            self._end_epoch(worked, bar)

    def _step(self, step: int, rate: float) -> None:
        """Features of every party, the loss of their sum, its gradient, the update at once."""
        samples = self._schedule.at(step)
        features = _sum(self._members.features(step, samples))
        with self._pace.work():
            if not features.requires_grad:  # they came over the wire
                features.requires_grad_()
            logits = self._part.forward(features, step)
            loss, correct = class_loss(logits, self._labels["train"][samples])
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss is {float(loss.detach())} at step {step}; lower "
                    "training.optimiser.learning_rate"
                )
            torch.autograd.backward(loss)
            self._part.update(rate)
        gradient = features.grad if features.is_leaf else None
        self._members.answer(step, gradient, samples, rate)
        self.progress.current["loss"] += float(loss.detach())
        self.progress.current["correct"] += correct

    def _end_epoch(self, worked: Mapping[str, Row], bar: ProgressBar) -> None:
        progress = self.progress
        self._count()
        trained, progress.traffic = progress.traffic, {}
        self._members.ask_to_test(self._done())
        with self._timed("testing"):
            tested = self._test()
        self._count()
        for name, (up, down) in trained.items():
            own = {"epoch": progress.epoch + 1, "party": name, "up_bytes": up, "down_bytes": down}
            own["test_bytes"] = sum(progress.traffic[name])
            progress.parties.append(own | worked[name])
        row = self._row(tested, list(trained.values()))
        progress.rows.append(row)
        progress.traffic, progress.current = {}, {}
        progress.epoch, progress.batch = progress.epoch + 1, 0
        row["snapshot_s"] += self._save()
        self._members.tested(self._done())
        auc = tested["test_auc"]
        bar.say(
            f"epoch {progress.epoch}/{self._schedule.epochs}: loss {row['train_loss']:.3f}, "
            + (f"test AUC {auc:.3f}, " if auc is not None else "")
            + f"{minutes(row['training_s'])} of training"
        )

    def _test(self) -> Row:
        """Loss, accuracy and AUC on all test samples."""
        step, total, right, scores = self._done(), 0.0, 0, []
        labels = self._labels["test"]
        for samples in self._schedule.tests():
            logits = self._part.evaluate(_sum(self._members.tests(step, samples)))
            loss, correct = class_loss(logits, labels[samples])
            total, right = total + float(loss) * len(samples), right + correct
            scores.append((logits[:, 1] - logits[:, 0]).double().numpy())
        return {
            "test_loss": total / len(labels),
            "test_accuracy": right / len(labels),
            "test_auc": roc_auc(labels, np.concatenate(scores)),
        }

    def _row(self, tested: Row, traffic: list[list[int]]) -> Row:
        """A line of epochs.csv. Bytes are those of training, of all parties together."""
        now, steps = self.progress.current, self._schedule.steps_per_epoch
        return {
            "epoch": self.progress.epoch + 1,
            "train_loss": now["loss"] / steps,
            "train_accuracy": now["correct"] / (steps * self._spec["training"]["batch"]),
            **tested,
            "steps": steps,
            "up_bytes": sum(up for up, _ in traffic),
            "down_bytes": sum(down for _, down in traffic),
            **{f"{name}_s": now[name] for name in TIMES},
        }

    def _count(self) -> None:
        for name, (up, down) in self._members.traffic().items():
            before = self.progress.traffic.get(name, [0, 0])
            self.progress.traffic[name] = [before[0] + up, before[1] + down]

    # Snapshots, always between two steps: of the start, in between when time has passed, and of
    # the end of every epoch.

    def _save_if_due(self) -> None:
        if self._stop.signal is not None:
            self._members.settle()
            self._save()
            log.warning("stopped; the same command goes on from here")
            raise SystemExit(128 + self._stop.signal)
        if time.monotonic() - self._saved_at > 60 * self._spec["training"]["snapshot_minutes"]:
            with self._timed("snapshot"):
                self._ask_to_save()

    def _save(self) -> float:
        """Write a snapshot that every side has at the end; seconds taken."""
        start = time.perf_counter()
        self._members.settle()
        self._ask_to_save()
        self._members.settle()
        return time.perf_counter() - start

    def _ask_to_save(self) -> None:
        step = self._done()
        if step == self._saved_step or not self._members.ask_to_save(step):
            return
        self._count()
        arrays = under("part", self._part.state()) | under("members", self._members.state())
        self._snapshots.save(step, Snapshot(arrays, asdict(self.progress)))
        self._saved_at, self._saved_step = time.monotonic(), step

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.progress.current[part] += time.perf_counter() - start


def _sum(features: list[Tensor]) -> Tensor:
    """In the order of the parties, whoever came first: the same bits."""
    total = features[0]
    for other in features[1:]:
        total = total + other
    return total
