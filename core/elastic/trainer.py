"""The training loop of ElasticTrainer and its baselines, for any backend."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from core.data.images import Split
from core.elastic import correcting
from core.elastic.backend import Backend, Images, Labels
from core.elastic.budget import backward_budget, check_budget
from core.elastic.schemes import SCHEMES, prediction_layer
from core.elastic.selector import Floats, Mask, select
from core.elastic.timing import Timing
from core.errors import TrainingError
from core.measure import recorder, trace
from core.results import TRAINING_SECONDS
from core.spec import RunSpec
from core.training.events import EventLog
from core.training.order import epoch_order, probe_batch
from core.training.progress import ProgressBar, minutes
from core.training.snapshot import Snapshot, Snapshots
from core.training.stop import Stop

log = logging.getLogger(__name__)

TIMES = ("data", "step", "compile", "selection", "testing", "snapshot")


@dataclass
class Progress:
    """Where a run stands, beside weights and optimiser. Everything is plain JSON.

    epoch, batch: the next step to take, from 0. rows: finished epochs, as in epochs.csv.
    current: sums of the epoch under way. selections: what was selected and when. legs: every
    process that trained a part of the run, from which epoch. penalty: its
    coefficient, where the scheme has one. prunings: channels cut out and when. excess: measured
    over predicted backward pass of the last selection, where that was measured. resume_s: seconds
    that processes after the first one took to get ready.
    """

    epoch: int = 0
    batch: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    current: dict[str, float] = field(default_factory=dict)
    selections: list[dict[str, Any]] = field(default_factory=list)
    legs: list[dict[str, Any]] = field(default_factory=list)
    penalty: float = 0.0
    prunings: list[dict[str, Any]] = field(default_factory=list)
    excess: float = 1.0
    resume_s: float = 0.0


class Trainer:
    """One run, from its spec to its history. `run` may be called again after any kind of death."""

    def __init__(
        self,
        spec: RunSpec,
        backend: Backend,
        train: Split,
        test: Split,
        timing: Timing,
        snapshots: Snapshots,
        events: EventLog,
        origin: dict[str, Any],
    ) -> None:
        """origin: what computes in this process; every leg of the run is recorded with its own."""
        self._spec, self._backend, self._timing = spec, backend, timing
        self._train, self._test = train, test
        self._snapshots, self._events, self._origin = snapshots, events, origin
        self._scheme, self._training = spec["scheme"], spec["training"]
        self._steps = steps_per_epoch(len(train.labels), self._training["batch"])
        self._kind = SCHEMES[self._scheme["name"]]
        self._fixed = None if self._kind.trains is None else self._kind.trains(backend.tensors)
        self._counts = timing.counts or backend.count_parts()
        self._forward_s = timing.forward
        self._smaller = False  # the network was cut, and not measured since
        self._mask: Mask = np.zeros(len(backend.tensors), dtype=bool)
        self._compiled = False
        self._stop = Stop()
        self._last_save_s = 0.0
        self.progress = Progress()

    def run(self) -> Progress:
        """Train to the last epoch, from the newest snapshot if there is one.

        Raises SystemExit(128 + signal) after a snapshot when asked to stop, TrainingError when
        the loss is no longer a number, BudgetError when no tensor fits the budget.
        """
        if self._fixed is None:
            rho, rule, cost, resolution = (
                self._scheme[k] for k in ("rho", "budget", "cost", "resolution")
            )
            check_budget(self._timing, rho, rule, cost, resolution, self._layers())
        self._resume()
        epochs = self._training["epochs"]
        if self.progress.epoch < epochs:
            self.progress.legs.append(self._origin | {"from_epoch": self.progress.epoch + 1})
        done = self.progress.epoch * self._steps + self.progress.batch
        if self.progress.epoch < epochs:
            recorder.begin(done)
        with self._stop, ProgressBar(epochs * self._steps, done) as bar:
            self._saved_at = time.monotonic()
            while self.progress.epoch < epochs:
                self._begin_epoch()
                self._train_epoch(bar)
                self._end_epoch(bar)
        return self.progress

    # An epoch.

    def _begin_epoch(self) -> None:
        """Choose the tensors where that is due; a run resumed inside an epoch keeps its choice."""
        if self.progress.current:
            return
        self.progress.current = dict.fromkeys(
            ["loss", "correct", "timed_steps", *(f"{t}_s" for t in TIMES)], 0.0
        )
        # A snapshot cannot hold its own duration; that of the last epoch's end counts here.
        self.progress.current["snapshot_s"] = self._last_save_s
        if self._fixed is not None:
            self._prune_if_due()
            self._use(np.array(self._fixed))
        elif self.progress.epoch % self._scheme["interval"] == 0:
            recorder.mark(trace.SELECTION, self.progress.epoch + 1)
            with self._timed("selection"):
                self._use(self._select())
            if self._corrections():
                self._save()  # another measurement could choose otherwise

    def _train_epoch(self, bar: ProgressBar) -> None:
        progress, batch = self.progress, self._training["batch"]
        order = epoch_order(self._spec["seed"], progress.epoch, len(self._train.labels))
        while progress.batch < self._steps:
            with self._timed("data"):
                chosen = order[progress.batch * batch : (progress.batch + 1) * batch]
                images, labels = _gather(self._train, chosen)
            self._step(images, labels)
            progress.batch += 1
            self._save_if_due()
            bar.step()  # afterwards: where nobody reads them any more, lines may not be written

    def _step(self, images: Images, labels: Labels) -> None:
        """One step. The first one after a selection holds the compilation."""
        progress = self.progress
        start = time.perf_counter()
        step = progress.epoch * self._steps + progress.batch
        loss, correct = self._backend.train_step(images, labels, step)
        seconds = time.perf_counter() - start
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {step} (epoch {progress.epoch + 1}); "
                "lower training.optimiser.learning_rate"
            )
        progress.current["loss"] += loss
        progress.current["correct"] += correct
        if self._compiled:
            progress.current["step_s"] += seconds
            progress.current["timed_steps"] += 1
        else:
            progress.current["compile_s"] += seconds
        self._compiled = True

    def _end_epoch(self, bar: ProgressBar) -> None:
        progress = self.progress
        # Testing can take long on a board: whoever stops or dies in it begins it again from here.
        self._save()
        with self._timed("testing"):
            loss, correct = self._evaluate()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the test loss is {loss} after epoch {progress.epoch + 1}; "
                "lower training.optimiser.learning_rate"
            )
        if self._smaller:
            self._measure_pruned()  # here, where no time counts
        row = self._row(loss, correct)
        recorder.mark(trace.EPOCH, progress.epoch + 1)
        progress.rows.append(row)
        progress.epoch, progress.batch, progress.current = progress.epoch + 1, 0, {}
        self._last_save_s = self._save()
        self._events.epoch(row)
        bar.say(
            f"epoch {progress.epoch}/{self._training['epochs']}: "
            f"test accuracy {100 * row['test_accuracy']:.1f} %, loss {row['test_loss']:.3f}, "
            f"{int(row['selected_tensors'])} of {len(self._mask)} tensors, "
            f"{minutes(trained_seconds(row))} of training"
        )

    def _row(self, test_loss: float, test_correct: int) -> dict[str, float]:
        """A line of epochs.csv. The forward pass inside compiled steps is the profile's, of a
        network that was pruned since the one measured then."""
        now = self.progress.current
        seen = self._steps * self._training["batch"]
        forward = min(self._forward_s * now["timed_steps"], now["step_s"])
        sizes = np.array([t.size for t in self._backend.tensors])
        return {
            "epoch": self.progress.epoch + 1,
            "train_loss": now["loss"] / self._steps,
            "train_accuracy": now["correct"] / seen,
            "test_loss": test_loss / len(self._test.labels),
            "test_accuracy": test_correct / len(self._test.labels),
            "selected_tensors": int(self._mask.sum()),
            "selected_parameters": int(sizes[self._mask].sum()),
            "multiply_adds": self._steps * self._counts.of(self._mask),
            "data_s": now["data_s"],
            "forward_s": forward,
            "backward_update_s": now["step_s"] - forward,
            "compile_s": now["compile_s"],
            "selection_s": now["selection_s"],
            "testing_s": now["testing_s"],
            "snapshot_s": now["snapshot_s"],
        }

    def _evaluate(self) -> tuple[float, int]:
        size = self._training["test_batch"]
        total, right = 0.0, 0
        for start in range(0, len(self._test.labels), size):
            indices = np.arange(start, min(start + size, len(self._test.labels)))
            loss, correct = self._backend.evaluate(*_gather(self._test, indices))
            total, right = total + loss, right + correct
            self._leave_if_stopped()
        return total, right

    # Selection.

    def _select(self) -> Mask:
        """Importance on one probe batch, then the selector (sections 4.2 and 5 of the paper)."""
        spec, timing = self._scheme, self._timing
        importance = self._importance()
        if self._corrections():
            mask, shares = self._corrected(importance)
        else:
            budget = backward_budget(timing, spec["rho"], spec["budget"])
            mask, shares = self._choose(importance, budget), []
        self.progress.selections.append(
            {
                "epoch": self.progress.epoch + 1,
                "tensors": np.flatnonzero(mask).tolist(),
                "importance": (importance / np.abs(importance).max()).tolist(),
                "predicted_step_s": timing.predict(mask, spec["cost"]),
                "measured_shares": shares,
            }
        )
        return mask

    def _choose(self, importance: Floats, budget: float) -> Mask:
        """What is trained within a budget in seconds."""
        timing, resolution = self._timing, self._scheme["resolution"]
        t_dy = timing.t_dy(self._scheme["cost"])
        mask = select(timing.t_dw, t_dy, importance, budget, resolution, self._layers())
        if not mask.any():
            log.warning("no tensor within the budget has positive importance; training the head")
            mask = self._harmless(t_dy, budget)
        return mask

    def _corrections(self) -> int:
        """How often a selection is corrected; the released rule is kept as it is."""
        selects = self._fixed is None and self._scheme["budget"] == "measured"
        return int(self._scheme["corrections"]) if selects else 0

    def _corrected(self, importance: Floats) -> tuple[Mask, list[float]]:
        """The selection whose step comes nearest to ρ, and the shares of all that were tried, the
        one that is kept last."""
        rho, cost = self._scheme["rho"], self._scheme["cost"]
        tried = correcting.attempts(
            lambda budget: self._choose(importance, budget), self._share,
            self._timing, rho, cost, self._corrections(), self.progress.excess,
        )  # fmt: skip
        kept = correcting.nearest(tried, rho)
        self.progress.excess = kept.excess
        return kept.mask, [each.share for each in (*(t for t in tried if t is not kept), kept)]

    def _share(self, mask: Mask) -> tuple[float, float]:
        """Share of the full step that a step under a selection takes, and its error, measured
        without a trace."""
        self._use(mask)
        images, labels = _gather(self._train, np.arange(self._training["batch"]))
        steps, forwards = self._backend.time_step(images, labels, correcting.REPEATS)
        self._compiled = True
        return correcting.step_share(self._timing, steps, forwards)

    def _harmless(self, t_dy: Floats, budget: float) -> Mask:
        """What of the prediction layer fits, where every tensor that fits would raise the loss;
        without even that, the most tensors that do fit: a step trains something."""
        head = np.array(prediction_layer(self._backend.tensors), dtype=np.float64)
        resolution, layers = self._scheme["resolution"], self._layers()
        for wanted in (head, np.ones(len(head))):
            mask = select(self._timing.t_dw, t_dy, wanted, budget, resolution, layers)
            if mask.any():
                break
        return mask

    def _layers(self) -> list[str] | None:
        """The layer of each tensor, where layers are selected as one."""
        whole = self._scheme["granularity"] == "layer"
        return [t.layer for t in self._timing.tensors] if whole else None

    def _importance(self) -> Floats:
        """The scheme's importance of every tensor, averaged over the probe batches."""
        epoch, size = self.progress.epoch, self._training["batch"]
        found = np.zeros(len(self._mask))
        for number in range(self._scheme["probe_batches"]):
            chosen = probe_batch(self._spec["seed"], epoch, len(self._train.labels), size, number)
            batch = _gather(self._train, chosen)
            found += self._backend.probe(*batch, epoch * self._steps, self._kind.importance)
        if not np.isfinite(found).all():
            raise TrainingError(
                f"the importance of tensors is no finite number before epoch {epoch + 1}; "
                "lower training.optimiser.learning_rate"
            )
        return np.asarray(found / self._scheme["probe_batches"])

    # The penalty and the network that it makes smaller.

    def _prune_if_due(self) -> None:
        """Give the penalty its coefficient; cut out dead channels where that is due. Counts as
        selection: it decides what is trained."""
        if self._kind.penalty:
            with self._timed("selection"):
                self._set_penalty()
                if self._kind.penalty == "group_lasso" and self.progress.epoch:
                    self._prune()

    def _set_penalty(self) -> None:
        if self.progress.penalty == 0:
            own = self._kind.penalty == "l1"
            self.progress.penalty = self._scheme["penalty"] if own else self._lasso_coefficient()
        self._backend.set_penalty(self.progress.penalty)

    def _lasso_coefficient(self) -> float:
        """With which the penalty is its share of the loss at the first step."""
        seed, samples = self._spec["seed"], len(self._train.labels)
        chosen = probe_batch(seed, 0, samples, self._training["test_batch"])
        images, labels = _gather(self._train, chosen)
        loss = self._backend.evaluate(images, labels)[0] / len(labels)
        share = self._scheme["penalty_ratio"]
        return float(share / (1 - share) * loss / self._backend.penalty())

    def _prune(self) -> None:
        if self.progress.epoch % self._scheme["interval"]:
            return
        channels = self._backend.prune(self._scheme["threshold"], self._scheme["multiple"])
        self.progress.prunings.append(
            {
                "epoch": self.progress.epoch + 1,
                "channels": channels,
                "shapes": [list(t.shape) for t in self._backend.tensors],
            }
        )
        if channels:
            self._compiled = False
            self._smaller = True

    def _measure_pruned(self) -> None:
        """Count and time the forward pass of the network as it is now."""
        self._counts = self._backend.count_parts()
        images, labels = _gather(self._train, np.arange(self._training["batch"]))
        _, forwards = self._backend.time_step(images, labels, 3)
        self._forward_s = float(np.median(forwards))
        self._smaller = False

    def _use(self, mask: Mask) -> None:
        if not np.array_equal(mask, self._mask):
            self._compiled = False
        self._mask = mask
        self._backend.select(mask)

    # Snapshots.

    def _resume(self) -> None:
        start = time.perf_counter()
        snapshot = self._snapshots.load()
        if snapshot is None:
            return
        arrays = dict(snapshot.arrays)
        self.progress = Progress(**snapshot.progress)
        if self.progress.rows:
            self._events.epoch(self.progress.rows[-1])  # may have been lost after the snapshot
        if self.progress.epoch == self._training["epochs"]:
            return
        self._use(arrays.pop("mask").astype(bool))
        self._backend.load_state(arrays)
        if self._kind.penalty:
            self._set_penalty()
            self._smaller = any(each["channels"] for each in self.progress.prunings)
        self._warm_up()
        self.progress.resume_s += time.perf_counter() - start
        log.info(
            "going on from a snapshot: epoch %d, step %d of %d",
            self.progress.epoch + 1, self.progress.batch, self._steps,
        )  # fmt: skip

    def _warm_up(self) -> None:
        """Compile again what the run had compiled before, without a trace, so that no compilation
        counts twice as training or testing."""
        images, labels = _gather(self._train, np.arange(self._training["batch"]))
        self._backend.time_step(images, labels, 1)
        self._compiled = True
        if self._fixed is None:
            self._backend.probe(images, labels, 0, self._kind.importance)
        size = min(self._training["test_batch"], len(self._test.labels))
        self._backend.evaluate(*_gather(self._test, np.arange(size)))

    def _save_if_due(self) -> None:
        passed = time.monotonic() - self._saved_at
        if self._stop.signal is not None or passed > 60 * self._training["snapshot_minutes"]:
            self._save()
        self._leave_if_stopped()

    def _leave_if_stopped(self) -> None:
        if self._stop.signal is not None:
            log.warning("stopped; the same command goes on from here")
            raise SystemExit(128 + self._stop.signal)

    def _save(self) -> float:
        """Write a snapshot; seconds that it took."""
        start = time.perf_counter()
        arrays = self._backend.state() | {"mask": self._mask.astype(np.uint8)}
        step = self.progress.epoch * self._steps + self.progress.batch
        recorder.mark(trace.SNAPSHOT, step)
        self._snapshots.save(step, Snapshot(arrays, asdict(self.progress)))
        self._saved_at = time.monotonic()
        seconds = time.perf_counter() - start
        if self.progress.current:
            self.progress.current["snapshot_s"] += seconds
        return seconds

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.progress.current[f"{part}_s"] += time.perf_counter() - start


def steps_per_epoch(samples: int, batch: int) -> int:
    """Whole batches only; the order differs in every epoch, so no image is left out for good."""
    return samples // batch


def trained_seconds(row: dict[str, float]) -> float:
    """Training time of an epoch: everything but testing and snapshots."""
    return sum(row[part] for part in TRAINING_SECONDS)


def _gather(split: Split, indices: Any) -> tuple[Images, Labels]:
    return np.ascontiguousarray(split.images[indices]), split.labels[indices]
