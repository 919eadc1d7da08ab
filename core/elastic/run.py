"""One elastic run, or one timing profile, from its spec: parts are built, results written."""

import hashlib
import json
import logging
import time
from pathlib import Path
from typing import Any

from core import machine, results
from core.data.images import Split, open_split
from core.elastic.backend import Backend, Images, Labels
from core.elastic.timing import Timing
from core.elastic.trainer import Trainer, steps_per_epoch
from core.errors import ConfigError
from core.files import exclusive
from core.spec import RunSpec
from core.training import threads
from core.training.events import EventLog
from core.training.snapshot import Snapshots

log = logging.getLogger(__name__)

# A profile is measured again when its parts miss the measured backward pass by more than this.
CLOSES, ATTEMPTS = 0.1, 3


def run(spec: RunSpec, out: Path) -> None:
    """Train and write result.json and epochs.csv into `out`; snapshots lie beside it.

    A finished run is left as it is. Raises the errors of `Trainer.run` and of its files.
    """
    with exclusive(snapshot_folder(out) / ".lock"):  # an orphan of a killed Snakemake trains on
        if _finished(spec, out):
            log.info("%s is finished already", out)
        else:
            _train(spec, out)


def _train(spec: RunSpec, out: Path) -> None:
    timing = Timing.load(Path(spec["profile"]))
    _warn_of_another_machine(timing, spec["profile"])
    train, test = (open_split(Path(spec["data"]["folder"]), part) for part in ("train", "test"))
    backend = make_backend(spec, train)
    snapshots = Snapshots(snapshot_folder(out), identity(spec))
    events = EventLog(out / "tensorboard")
    progress = Trainer(spec, backend, train, test, timing, snapshots, events).run()
    extra = {
        "identity": identity(spec),
        "resumed": progress.resumed,
        "resume_s": progress.resume_s,
        "selections": progress.selections,
        "tensors": [t.name for t in backend.tensors],
        "threads": threads.resolve(spec["device"]["threads"]),
        "versions": backend.versions(),
    }
    results.write(out, spec, progress.rows, extra)


def profile(spec: RunSpec, out: Path, repeats: int) -> None:
    """Measure the timing profile of the spec's model on this device and write it as JSON."""
    start = time.monotonic()
    train = open_split(Path(spec["data"]["folder"]), "train")
    backend = make_backend(spec, train)
    batch = spec["training"]["batch"]
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
    timing = _closed_timing(backend, train.images[:batch], train.labels[:batch], context)
    timing.context["taken_s"] = round(time.monotonic() - start, 1)
    timing.save(out)
    log.info(
        "%s: full step %.1f ms, forward %.1f ms; parts close to %.1f %% of the backward pass",
        spec["model"]["name"], 1e3 * timing.full, 1e3 * timing.forward, 100 * timing.closure,
    )  # fmt: skip


def _closed_timing(
    backend: Backend, images: Images, labels: Labels, context: dict[str, Any]
) -> Timing:
    """Measure until the parts agree with the whole; of what a busy machine gives, the best."""
    timings: list[Timing] = []
    for _ in range(ATTEMPTS):
        parts = backend.time_parts(images, labels, context["repeats"])
        timings.append(Timing.from_parts(backend.tensors, parts, context))
        if timings[-1].closure <= CLOSES:
            return timings[-1]
        log.info("parts miss the backward pass by %.1f %%", 100 * timings[-1].closure)
    best = min(timings, key=lambda timing: timing.closure)
    log.warning(
        "the timing profile does not close within %.0f %%: something else keeps this device busy; "
        "delete the profile and measure again when it is quiet", 100 * CLOSES,
    )  # fmt: skip
    return best


def _warn_of_another_machine(timing: Timing, path: str) -> None:
    here, there = machine.describe(), timing.context.get("machine", {})
    differ = [key for key in ("processor", "cores") if key in there and here[key] != there[key]]
    if differ:
        log.warning(
            "%s was measured on another machine (%s); delete it to measure this one",
            path, ", ".join(f"{key}: {there[key]}, here {here[key]}" for key in differ),
        )  # fmt: skip


def make_backend(spec: RunSpec, train: Split) -> Backend:
    """The backend that the spec's framework names, with this run's network and optimiser."""
    count = threads.resolve(spec["device"]["threads"])
    threads.export(count)
    from core.elastic.tf_backend import TensorFlowBackend

    training = spec["training"]
    if len(train.labels) < training["batch"]:
        raise ConfigError(
            f"training.batch = {training['batch']}: {spec['data']['name']} has only "
            f"{len(train.labels)} training images"
        )
    return TensorFlowBackend(
        spec["model"],
        training,
        classes=spec["data"]["classes"],
        steps=training["epochs"] * steps_per_epoch(len(train.labels), training["batch"]),
        seed=spec["seed"],
        threads=count,
    )


def identity(spec: RunSpec) -> str:
    """What a snapshot must agree with to be used: the spec and, where it decides what is
    trained, the timing profile."""
    if spec["scheme"]["name"] != "elastic":
        return spec.digest
    profile = hashlib.sha256(Path(spec["profile"]).read_bytes()).hexdigest()
    return hashlib.sha256(f"{spec.digest} {profile}".encode()).hexdigest()


def snapshot_folder(out: Path) -> Path:
    """Beside the run's folder, where no rule writes."""
    return out.with_name(out.name + ".snapshots")


def _finished(spec: RunSpec, out: Path) -> bool:
    try:
        result: dict[str, Any] = json.loads((out / "result.json").read_text())
        return bool(result["identity"] == identity(spec))
    except (OSError, ValueError, KeyError):
        return False
