"""One elastic run, or one timing profile, from its spec: parts are built, results written."""

import hashlib
import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from core import machine, results
from core.data.images import Split, open_split
from core.data.manifest import entry_of
from core.data.weights import open_weights
from core.elastic.backend import Backend
from core.elastic.measuring import closed_timing
from core.elastic.schemes import SCHEMES
from core.elastic.selector import select
from core.elastic.timing import Timing
from core.elastic.trainer import Trainer, steps_per_epoch
from core.errors import ConfigError, DataError
from core.frameworks import FRAMEWORKS
from core.measure.recorder import FILE, measured
from core.spec import RunSpec
from core.training import run_folder, threads
from core.training.alone import alone_on
from core.training.events import EventLog
from core.training.snapshot import Snapshots

log = logging.getLogger(__name__)

# Time steps of the selector whose cost a profile records.
RESOLUTIONS = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


def run(spec: RunSpec, out: Path) -> None:
    """Train and write result.json and epochs.csv into `out`; snapshots lie beside it.

    A finished run is left as it is. Raises the errors of `Trainer.run` and of its files.
    """
    with alone_on(spec["device"]["name"]):
        if run_folder.is_finished(out, lambda: identity(spec)):
            log.info("%s is finished already", out)
        else:
            _train(spec, out)


def _train(spec: RunSpec, out: Path) -> None:
    timing = Timing.load(Path(spec["profile"]))
    name = identity(spec)
    train, test = (open_split(Path(spec["data"]["folder"]), part) for part in ("train", "test"))
    backend = make_backend(spec, train)
    _check_profile(timing, spec, backend)
    snapshots = Snapshots(run_folder.snapshots(out), name, spec.digest)
    events = EventLog(out / "tensorboard")
    origin = results.origin(backend.versions())
    with measured(snapshots.folder, spec) as recorder:
        progress = Trainer(spec, backend, train, test, timing, snapshots, events, origin).run()
    recorder.save(out / FILE)
    last = progress.legs[-1]
    extra = {
        "identity": name,
        "resumed": len(progress.legs) - 1,
        "resume_s": progress.resume_s,
        "legs": progress.legs,
        **{key: last[key] for key in ("commit", "versions", "machine")},
        "threads": threads.resolve(spec["device"]["threads"]),
        "selections": progress.selections,
        "prunings": progress.prunings,
        "tensors": [t.name for t in backend.tensors],
        "step": {"full_s": timing.full, "forward_s": timing.forward},
        "profiling": {key: timing.context[key] for key in ("taken_s", "solver")},
        "measure": recorder.summary(results.seconds(progress.rows)),
    }
    results.write(out, spec, progress.rows, extra)


def profile(spec: RunSpec, out: Path, repeats: int) -> None:
    """Measure the timing profile of the spec's model on this device and write it as JSON."""
    missing = not out.exists()
    with alone_on(spec["device"]["name"]):
        if missing and out.exists():
            log.info("%s was measured by another process meanwhile", out)
        else:
            _measure(spec, out, repeats)


def _measure(spec: RunSpec, out: Path, repeats: int) -> None:
    start = time.monotonic()
    train = open_split(Path(spec["data"]["folder"]), "train")
    backend = make_backend(spec, train)
    batch = spec["training"]["batch"]
    images, labels = np.array(train.images[:batch]), train.labels[:batch]
    log.info("timing %d steps of %s and their parts", repeats, spec["model"]["name"])
    context = {
        "device": spec["device"],
        "model": spec["model"]["name"],
        "framework": spec["framework"],
        "batch": batch,
        "image_size": spec["training"]["image_size"],
        "repeats": repeats,
        "threads": threads.resolve(spec["device"]["threads"]),
        "versions": backend.versions(),
        "machine": machine.describe(),
    }
    counts = backend.count_parts()  # first: it refuses a network that it does not know
    timing = replace(closed_timing(backend, images, labels, repeats, context), counts=counts)
    timing.context["taken_s"] = round(time.monotonic() - start, 1)
    timing.context["solver"] = _solver_costs(timing)
    timing.save(out)
    log.info(
        "%s: full step %.1f ms, forward %.1f ms; parts close to %.1f %% of the backward pass",
        spec["model"]["name"], 1e3 * timing.full, 1e3 * timing.forward, 100 * timing.closure,
    )  # fmt: skip


def _solver_costs(timing: Timing) -> list[dict[str, float]]:
    """What the selector takes on this device, and what rounding times up to fewer steps loses
    (Figure 13 of the paper): equally important tensors, half of the backward pass as budget."""
    t_dy, importance = timing.t_dy("realisable"), np.ones(len(timing.t_dw))
    found = []
    for resolution in RESOLUTIONS:
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            mask = select(timing.t_dw, t_dy, importance, timing.backward / 2, resolution)
            taken.append(time.perf_counter() - start)
        found.append(
            {
                "resolution": resolution,
                "seconds": float(np.median(taken)),
                "importance": float(mask.mean()),
            }
        )
    return found


def _check_profile(timing: Timing, spec: RunSpec, backend: Backend) -> None:
    """Raises DataError for a profile of something else; warns of one of another machine."""
    training = spec["training"]
    wanted = {"batch": training["batch"], "image_size": training["image_size"]}
    differ = [key for key, value in wanted.items() if timing.context.get(key) != value]
    if differ or tuple(backend.tensors) != timing.tensors:
        raise DataError(
            f"timing profile {spec['profile']} is not of {spec['model']['name']} with batch "
            f"{wanted['batch']} at {wanted['image_size']} pixels; measure that one"
        )
    here, there = machine.describe(), timing.context["machine"]
    for key in ("processor", "cores"):
        if here[key] != there[key]:
            log.warning(
                "timing profile %s was measured on another machine (%s: %s, here %s); delete it "
                "to measure this one", spec["profile"], key, there[key], here[key],
            )  # fmt: skip


def make_backend(spec: RunSpec, train: Split) -> Backend:
    """The backend that the spec's framework names, with this run's network and optimiser."""
    count = threads.resolve(spec["device"]["threads"])
    threads.export(count)
    training = spec["training"]
    if len(train.labels) < training["batch"]:
        raise ConfigError(
            f"training.batch = {training['batch']}: {spec['data']['name']} has only "
            f"{len(train.labels)} training images"
        )
    if spec["data"]["classes"] != len(train.classes):
        raise ConfigError(
            f"data.classes = {spec['data']['classes']}: {spec['data']['name']} in "
            f"{spec['data']['folder']} has {len(train.classes)} classes; write that number"
        )
    if spec["model"]["weights"]:
        open_weights(Path(spec["model"]["weights"]))  # raises DataError where a byte has changed
    make: type[Backend] = FRAMEWORKS[spec["framework"]].load()
    return make(
        spec["model"],
        training,
        classes=spec["data"]["classes"],
        steps=training["epochs"] * steps_per_epoch(len(train.labels), training["batch"]),
        seed=spec["seed"],
        threads=count,
        penalty=SCHEMES[spec["scheme"]["name"]].penalty,
    )


def identity(spec: RunSpec) -> str:
    """What a snapshot must agree with to be used: the spec, the data, the weights and, where it
    decides what is trained, the timing profile."""
    parts = [spec.digest, *(entry_of(Path(spec[k][v])) for k, v in _FOLDERS if spec[k][v])]
    if SCHEMES[spec["scheme"]["name"]].trains is None:
        parts.append(hashlib.sha256(Path(spec["profile"]).read_bytes()).hexdigest())
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


_FOLDERS = (("data", "folder"), ("model", "weights"))
