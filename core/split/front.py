"""The side of a run that holds the first blocks. It leads: epochs, testing, decisions, snapshots.
The other one follows (`core.split.back`). Which of them is the edge, `core.split.sides` says."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core.measure import recorder, trace
from core.split import samples
from core.split.batches import Testing, Training
from core.split.chair_batches import ChairTests
from core.split.channel import Channel, Hello, SessionLost
from core.split.costs import Costs
from core.split.data import names_digest
from core.split.decision import Choice, Engine, initial, joint_dnn
from core.split.distributions import distributions
from core.split.estimator import Estimator
from core.split.iterations import IterationLog
from core.split.messages import BEGIN, DISTRIBUTIONS, FINISH, FINISHED, READY, WEIGHTS
from core.split.part import learning_rate
from core.split.pipeline import Pipeline, Row
from core.split.replay import staleness
from core.split.sides import EDGE, turned
from core.split.wire import Frame
from core.training.progress import ProgressBar, minutes
from core.training.snapshot import Snapshot, Snapshots
from core.training.stop import Stop

log = logging.getLogger(__name__)

# Part of the time that probes of the link may take.
PROBE_SHARE = 0.02

# Seconds of an epoch by what they were spent on. Moves are a part of training.
TIMES = ("training", "moving", "testing", "snapshot")


@dataclass
class Progress:
    """Where a run stands, beside what the pipeline holds. Everything is plain JSON.

    epoch, batch: the next step to take, from 0. rows: finished epochs, as in epochs.csv. current:
    sums of the epoch under way. seconds: of training since the start. logged: rows of
    iterations.csv. choices: cut and codecs, from which step on and why. weights: distributions of
    the weights of each block, after the epochs that ask for it. legs: every process that trained a
    part of the run. engine, estimator: their states.
    """

    epoch: int = 0
    batch: int = 0
    rows: list[Row] = field(default_factory=list)
    current: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    logged: int = 0
    choices: list[dict[str, Any]] = field(default_factory=list)
    weights: list[dict[str, Any]] = field(default_factory=list)
    legs: list[dict[str, Any]] = field(default_factory=list)
    engine: dict[str, Any] | None = None
    estimator: dict[str, Any] = field(default_factory=dict)


class Front:
    """One run. `run` may be called again after any kind of death of either side."""

    def __init__(
        self,
        spec: Any,
        batches: Training,
        tests: Testing,
        costs: Costs | None,
        connect: Callable[[Hello, Estimator], Channel] | None,
        snapshots: Snapshots,
        iterations: IterationLog,
        origin: dict[str, Any],
        engine: Engine | None = None,
        out: Path | None = None,
        shared: bool = False,
    ) -> None:
        """costs: what the first choice and the engine go by; None where the cut is given.
        connect: opens a session with the other side; None where none takes part.
        origin: what computes in this process. engine: in the place of the spec's own.
        out: folder of generated images, where this side makes them. shared: the other side runs on
        this machine too."""
        self._spec, self._batches, self._tests = spec, batches, tests
        self._costs, self._connect, self._origin = costs, connect, origin
        self._snapshots, self._iterations = snapshots, iterations
        self._scheme, self._training = spec["scheme"], spec["training"]
        self._given_engine = engine
        self._out, self._shared = out, shared
        self._turned = connect is not None and turned(spec)
        self.peer: dict[str, Any] = {}  # what the other side said at the end
        self._stop = Stop()
        self._channel: Channel | None = None
        self._counted = (0, 0)
        self._began: float | None = None  # of the training time under way
        self.progress = Progress()

    def run(self) -> Progress:
        """Train to the last epoch, from the newest snapshot that both sides have.

        Raises SystemExit(128 + signal) after a snapshot when asked to stop, TrainingError when the
        loss is no longer a number, PeerError when the other side stays away or refuses.
        """
        total = self._training["epochs"] * self._batches.steps_per_epoch
        with self._stop:
            while True:
                try:
                    self._open()
                    with ProgressBar(total, self._done()) as bar:
                        self._train(bar)
                    self._show()
                    self._close()
                except SessionLost as lost:
                    log.warning("%s; going on from the last snapshot of both sides", lost)
                else:
                    return self.progress

    def _done(self) -> int:
        return self.progress.epoch * self._batches.steps_per_epoch + self.progress.batch

    # A session.

    def _open(self) -> None:
        """Meet the other side, and stand where both can go on from."""
        self._estimator = Estimator()
        self._seen, self._probe_from = self._estimator.counts, 0.0
        steps = self._snapshots.steps()
        start = max(steps, default=0)
        if self._connect is not None:
            hello = Hello(EDGE, self._spec.digest, tuple(steps))
            self._channel = self._connect(hello, self._estimator)
            start, self._counted = self._channel.start, (0, 0)
        self._pipeline = Pipeline(self._spec, self._channel, self._estimator, self._log)
        if start:
            self._resume(start)
        else:
            self._begin()
        if self.progress.epoch < self._training["epochs"]:
            leg = {"from_step": self._done(), "began_unix": time.time()}
            self.progress.legs.append(self._origin | leg)
            recorder.begin(self._done())

    def _begin(self) -> None:
        """From the first step, with the first choice of cut and codecs."""
        self.progress = Progress()
        self._snapshots.load(0)  # of an earlier attempt: not of this one's past
        self._iterations.open(0)
        choice = self._first_choice()
        self._engine = self._make_engine(choice)
        self._note_choice(choice)
        self._pipeline.start(choice)
        if self._channel is not None:
            self._say_begin(0, choice)

    def _say_begin(self, step: int, choice: Choice) -> None:
        """Tell the other side what it has to hold; then the link is idle, and its delay can be
        seen. Where it has the targets, it must mean the same samples by the same positions."""
        assert self._channel is not None
        facts = _facts(choice)
        if self._turned:
            facts["data"] = names_digest(self._batches, self._tests)
        self._channel.send(Frame(BEGIN, step, {}, facts))
        self._pipeline.expect(READY, step)
        self._pipeline.ping()

    def _resume(self, step: int) -> None:
        snapshot = self._snapshots.load(step)
        assert snapshot is not None  # it is one of those that were offered
        facts = dict(snapshot.progress)
        facts.pop("cloud", None)  # of earlier versions
        held = facts.pop("pipeline")
        self._estimator.load_state(facts["estimator"])
        if self._channel is not None:
            self._say_begin(step, Choice(*held["choice"]))  # before older frames wait their turn
        self._pipeline.load(snapshot.arrays, held, self._batches)
        self.progress = Progress(**facts)
        self._iterations.open(self.progress.logged)
        self._engine = self._make_engine(self._pipeline.choice)
        if self._engine is not None and self.progress.engine is not None:
            self._engine.load_state(self.progress.engine)
        log.info(
            "going on from a snapshot: epoch %d, step %d of %d",
            self.progress.epoch + 1, self.progress.batch, self._batches.steps_per_epoch,
        )  # fmt: skip

    def _close(self) -> None:
        if self._channel is not None:
            self.peer = self._pipeline.ask(FINISH, FINISHED, self._done()).facts
            self._channel.close()

    def _show(self) -> None:
        """Let images be generated that people can look at, where that is what was learned."""
        if isinstance(self._tests, ChairTests):
            split = self._tests.split
            outputs = self._pipeline.show(samples.inputs_of(split), self._done())
            if outputs is not None and self._out is not None:
                samples.write(self._out, split, outputs)

    # Decisions.

    def _first_choice(self) -> Choice:
        """The spec's cut, or that of the cost model on the link as it is now."""
        scheme = self._scheme
        if scheme["cut"] is not None:
            return Choice(scheme["cut"], scheme["uplink"], scheme["downlink"])
        assert self._costs is not None
        self._pipeline.probe(0)
        link = self._pipeline.link()
        assert link is not None  # that is what a probe is for
        if scheme["decision"] is None:
            return joint_dnn(self._costs, link)
        decision = scheme["decision"]
        k = staleness(scheme["staleness"], 1)
        return initial(
            self._costs, link, decision["uplink"], decision["downlink"], k, self._total()
        ).choice

    def _total(self) -> int:
        return int(self._training["epochs"] * self._batches.steps_per_epoch)

    def _make_engine(self, start: Choice) -> Engine | None:
        decision = self._scheme["decision"]
        if self._given_engine is not None or decision is None:
            return self._given_engine
        assert self._costs is not None
        return Engine(
            self._costs,
            start,
            self._total(),
            decision["uplink"],
            decision["downlink"],
            decision["interval"],
            decision["margin"],
            self._shared,
        )

    def _decide(self, k: int) -> None:
        """Let the engine look, where that is due, and do what it says."""
        step = self._done()
        if self._engine is None or not self._engine.due(step):
            return
        seen = self._estimator.counts
        if (seen.up == self._seen.up or seen.down == self._seen.down) and not self._probe(step):
            return  # nothing new to go by
        self._seen = self._estimator.counts
        move = self._engine.consider(step, self._pipeline.link(), k)
        if move is not None:
            with self._timed("moving"):
                self._pipeline.move(move.choice, step)
            self._note_choice(move.choice, asdict(move))  # from here on it holds

    def _probe(self, step: int) -> bool:
        """Measure the link where nothing that passed told of it; whether it was time for that."""
        if time.perf_counter() < self._probe_from:
            return False
        busy = self._pipeline.probe(step)
        self._probe_from = time.perf_counter() + busy / PROBE_SHARE
        return True

    def _note_choice(self, choice: Choice, why: dict[str, Any] | None = None) -> None:
        self.progress.choices.append(
            {"step": self._done(), "seconds": self._now(), **_facts(choice), "why": why}
        )
        recorder.mark(trace.CUT, f"{choice.cut} {choice.uplink} {choice.downlink}")

    # An epoch.

    def _train(self, bar: ProgressBar) -> None:
        self._saved_at = time.monotonic()
        while self.progress.epoch < self._training["epochs"]:
            k = staleness(self._scheme["staleness"], self.progress.epoch + 1)
            losses = [row["train_loss"] for row in self.progress.rows]
            rate = learning_rate(self._training["optimiser"], self.progress.epoch + 1, losses)
            self._pipeline.begin_epoch(k, rate)
            if not self.progress.current:
                self.progress.current = dict.fromkeys(
                    ["loss", "correct", "up", "down", *TIMES], 0.0
                )
            while self.progress.batch < self._batches.steps_per_epoch:
                with self._training_time():
                    self._decide(k)
                    self._pipeline.step(self._batches.at(self._done()), self._done())
                self.progress.batch += 1
                self._save_if_due()
                bar.step()  # afterwards: lines may not be written any more, where nobody reads them
            with self._training_time():
                self._pipeline.drain()
            self._end_epoch(bar)

    def _log(self, row: Row) -> None:
        """A step is done: its gradient was applied."""
        self.progress.current["loss"] += row["loss"]
        self.progress.current["correct"] += row["correct"] or 0
        if self._engine is not None:
            self._engine.observe(self._pipeline.choice, row["edge_s"], row["cloud_s"])
        own = {"epoch": self.progress.epoch + 1, "seconds": round(self._now(), 6)}
        self._iterations.append(row | own | self._loads())

    def _loads(self) -> Row:
        """How much longer than profiled the engine takes the sides to be; nothing without one."""
        if self._engine is None:
            return {}
        return {f"{name}_load": value for name, value in asdict(self._engine.load).items()}

    def _now(self) -> float:
        """Seconds of training since the start, at this moment."""
        under_way = 0.0 if self._began is None else time.perf_counter() - self._began
        return self.progress.seconds + under_way

    def _end_epoch(self, bar: ProgressBar) -> None:
        progress = self.progress
        self._pipeline.ping()
        self._keep_weights()
        with self._timed("testing"):
            loss, correct = self._pipeline.evaluate(self._tests, self._done())
        self._count_bytes()
        row = self._row(loss, correct)
        recorder.mark(trace.EPOCH, progress.epoch + 1)
        progress.rows.append(row)
        progress.epoch, progress.batch, progress.current = progress.epoch + 1, 0, {}
        row["snapshot_s"] += self._save()
        tested = row["test_accuracy"]
        bar.say(
            f"epoch {progress.epoch}/{self._training['epochs']}: loss {row['train_loss']:.3f}, "
            + (f"test accuracy {100 * tested:.1f} %, " if tested is not None else _loss_of(row))
            + f"cut {row['cut']}, {minutes(row['training_s'])} of training"
        )

    def _row(self, test_loss: float, test_correct: int) -> Row:
        """A line of epochs.csv. Tests that were not asked for are not a number, and where nothing
        is right or wrong there is no accuracy."""
        now, steps = self.progress.current, self._batches.steps_per_epoch
        tested, classifies = self._tests.samples, not isinstance(self._tests, ChairTests)
        seen = steps * self._training["batch"]
        return {
            "epoch": self.progress.epoch + 1,
            "train_loss": now["loss"] / steps,
            "train_accuracy": now["correct"] / seen if classifies else None,
            "test_loss": test_loss / tested if tested else None,
            "test_accuracy": test_correct / tested if tested and classifies else None,
            "steps": steps,
            "cut": self._pipeline.choice.cut,
            "up_bytes": int(now["up"]),
            "down_bytes": int(now["down"]),
            **{f"{name}_s": now[name] for name in TIMES},
        }

    def _keep_weights(self) -> None:
        epoch = self.progress.epoch + 1
        if epoch not in self._training["weights_after"]:
            return
        found = {str(k): v for k, v in distributions(self._pipeline.weights()).items()}
        if self._channel is not None:
            answer = self._pipeline.ask(WEIGHTS, DISTRIBUTIONS, self._done())
            found |= answer.facts["blocks"]
        self.progress.weights.append({"epoch": epoch, "blocks": found})

    def _count_bytes(self) -> None:
        """What went over the wire since this was last counted, headers and tests included."""
        if self._channel is None:
            return
        now = (self._channel.sent_bytes, self._channel.received_bytes)
        ways = ("down", "up") if self._turned else ("up", "down")
        for name, after, before in zip(ways, now, self._counted, strict=True):
            self.progress.current[name] += after - before
        self._counted = now

    # Snapshots.

    def _save_if_due(self) -> None:
        if self._stop.signal is not None:
            self._save()
            log.warning("stopped; the same command goes on from here")
            raise SystemExit(128 + self._stop.signal)
        if time.monotonic() - self._saved_at > 60 * self._training["snapshot_minutes"]:
            self._save()

    def _save(self) -> float:
        """Write a snapshot, after the other side has written its own of the same step; seconds
        taken."""
        start = time.perf_counter()
        step, progress = self._done(), self.progress
        if progress.current:
            self._count_bytes()
        arrays, facts = self._pipeline.save(step)
        progress.logged = self._iterations.flush()
        progress.engine = self._engine.state() if self._engine is not None else None
        progress.estimator = self._estimator.state()
        recorder.mark(trace.SNAPSHOT, step)
        self._snapshots.save(step, Snapshot(arrays, asdict(progress) | {"pipeline": facts}))
        self._saved_at = time.monotonic()
        seconds = time.perf_counter() - start
        if progress.current:
            progress.current["snapshot"] += seconds
        return seconds

    @contextmanager
    def _training_time(self) -> Iterator[None]:
        self._began = time.perf_counter()
        try:
            with self._timed("training"):
                yield
            self.progress.seconds = self._now()
        finally:
            self._began = None

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.progress.current[part] += time.perf_counter() - start


def _loss_of(row: Row) -> str:
    return f"test loss {row['test_loss']:.4f}, " if row["test_loss"] is not None else ""


def _facts(choice: Choice) -> dict[str, Any]:
    return {"cut": choice.cut, "uplink": choice.uplink, "downlink": choice.downlink}
