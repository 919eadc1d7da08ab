"""A run of split training in one process: the front in the test, the back in a thread, between them
a real connection. Tiny data that no file holds."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import RECIPE
from core.data.arrays import Arrays
from core.data.chair_transforms import Changes
from core.data.chairs import ChairSplit, row_of
from core.errors import PeerError
from core.models.blocks import NETWORKS
from core.spec import RunSpec
from core.split.back import Back
from core.split.batches import Batches, Testing, Tests, Training
from core.split.chair_batches import ChairBatches, ChairTests
from core.split.channel import Hello, SessionLost
from core.split.client import connect
from core.split.front import Front, Progress
from core.split.iterations import IterationLog
from core.split.part import State
from core.split.run import accepting, common_step
from core.split.server import Expected, Server
from core.split.sides import edge_cut, turned
from core.split.window import Limits
from core.training.snapshot import Snapshots

CLASSES, SAMPLES, BATCH, STEPS = 3, 84, 4, 4
SIZES = {"vgg19_bn": 32, "resnet50_imagenet": 32, "resnet50_imagenet_frozen": 32, "bilstm": 6}
LIMITS = Limits(patience=20.0)


def arrays(model: str, samples: int = SAMPLES) -> Arrays:
    """Random samples of the right kind, labelled by what is in them."""
    random, size = np.random.default_rng(5), SIZES.get(model, 16)
    labels = random.integers(0, CLASSES, samples)
    if NETWORKS[model].kind == "text":
        inputs = random.integers(1, 50, (samples, size), dtype=np.int32)
    else:
        inputs = random.integers(0, 200, (samples, size, size, 3), dtype=np.uint8)
        inputs += (20 * labels[:, None, None, None]).astype(np.uint8)
    names = tuple(map(str, range(samples)))
    return Arrays(inputs, labels.astype(np.int64), names, ("a", "b", "c"))


def chairs(samples: int = SAMPLES, images: bool = True) -> ChairSplit:
    """Random images of three styles, each pixel another."""
    random, size = np.random.default_rng(5), 16
    rows = [row_of(i % CLASSES, 10 * i, 20) for i in range(samples)]
    pixels = random.integers(0, 256, (samples, size, size, 4), dtype=np.uint8)
    names = tuple(f"{i % CLASSES}/{i}" for i in range(samples))
    found = pixels if images else None
    return ChairSplit(np.array(rows, np.float32), found, names, ("a", "b", "c"))


def make_spec(model: str = "mobilenet_v3_large", **changes: Any) -> RunSpec:
    """Two epochs of four steps, features as they are. changes: keys of scheme and training."""
    side = {"name": "tests", "title": "this host", "slowdown": 1}
    side["threads"] = {"intra_op": 1, "inter_op": 1}
    optimiser = {"name": "sgd", "learning_rate": 0.01, "momentum": 0.9, "nesterov": True}
    optimiser |= {"weight_decay": 1e-4, "milestones": [2], "factor": 0.5}
    scheme = {
        "name": "replay",
        "cut": 3,
        "staleness": [{"from_epoch": 1, "steps": 0}],
        "mode": "deterministic",
        "uplink": "none",
        "downlink": "none",
        "feedback": "none",
        "delta_mib": 1,
        "decision": None,
    }
    training = {
        "batch": BATCH,
        "test_batch": 3,
        "epochs": 2,
        "steps": STEPS,
        "test_samples": None,
        "augmentation": {"flip": True, "crop": 1},
        "optimiser": optimiser,
        "weights_after": [2],
        "snapshot_minutes": 60,
    }
    if "staleness" in changes:
        changes["staleness"] = [{"from_epoch": 1, "steps": changes["staleness"]}]
    context = {"name": "loopback", "title": "Loopback", "timing": "measured"}
    context |= {"up": None, "down": None, "trace": None, "outages": []}
    content = {
        "recipe": RECIPE,
        "kind": "split",
        "scale": "tiny",
        "timing": "measured",
        "seed": 7,
        "edge": side,
        "cloud": dict(side),
        "context": context,
        "model": {"name": model, "weights": None},
        "data": {"name": "none", "folder": "none", "size": SIZES.get(model, 16), "classes": 3},
        "training": training | {k: v for k, v in changes.items() if k in training},
        "scheme": scheme | {k: v for k, v in changes.items() if k in scheme},
        "profile": {"edge": "none", "cloud": "none"},
    }
    return RunSpec.checked(content, Path("spec.yaml"))


def make_batches(spec: RunSpec, images: bool = True) -> Training:
    training = spec["training"]
    augmentation = training["augmentation"]
    if turned(spec):
        changes = Changes(augmentation["flip"], augmentation["crop"], 0.5, 16)
        own = (training["batch"], spec["seed"], changes, training["steps"])
        return ChairBatches(chairs(images=images), *own)
    return Batches(
        arrays(spec["model"]["name"]),
        training["batch"],
        spec["seed"],
        augmentation["flip"],
        augmentation["crop"],
        training["steps"],
    )


def make_tests(spec: RunSpec, images: bool = True) -> Testing:
    batch = spec["training"]["test_batch"]
    if turned(spec):
        return ChairTests(chairs(7, images), batch, None)
    return Tests(arrays(spec["model"]["name"], 7), batch, None)


@dataclass
class Trained:
    """What a run ended with."""

    state: State  # weights, statistics and optimisers of all blocks
    progress: Progress
    iterations: str


class CloudThread:
    """Serves one session after the other until an edge has finished."""

    def __init__(self, spec: RunSpec, folder: Path) -> None:
        own = Snapshots(folder, spec.digest)
        expected = Expected(spec.digest, ("edge",), lambda hello: common_step(own, hello))
        self.server = Server("127.0.0.1:0", None, expected, LIMITS)
        self._spec, self._folder = spec, folder
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            channel = self.server.accept()
            self.cloud = Back(self._spec, channel, self._folder)
            try:
                self.cloud.serve()
            except SessionLost:
                continue
            except PeerError:  # the test is over
                pass
            return

    def stop(self) -> None:
        self._thread.join(30)
        self.server.stop()


class EdgeThread:
    """The back of a turned split: calls a server of the test's until the run has finished."""

    def __init__(self, spec: RunSpec, folder: Path, port: int, out: Path) -> None:
        self._spec, self._own, self._out = spec, Snapshots(folder, spec.digest), out
        self._port = port
        self.data = make_batches(spec), make_tests(spec)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            hello = Hello("edge", self._spec.digest, tuple(self._own.steps()))
            try:
                channel = connect(f"127.0.0.1:{self._port}", None, hello, None, LIMITS)
                self.back = Back(self._spec, channel, self._own.folder, self.data, self._out)
                self.back.serve()
            except SessionLost:
                continue
            except PeerError:  # the test is over
                pass
            channel.close()
            return

    def stop(self) -> None:
        self._thread.join(30)


def train_turned(spec: RunSpec, engine: Any, folder: Path) -> Trained:
    """The front in the cloud, where no image is, listens; the edge calls."""
    own = Snapshots(folder / "cloud", spec.digest)
    start = lambda hello: common_step(own, hello, leads=True)  # noqa: E731
    with Server("127.0.0.1:0", None, Expected(spec.digest, ("edge",), start), LIMITS) as server:
        folder.mkdir(parents=True, exist_ok=True)
        edge = EdgeThread(spec, folder / "edge", server.port, folder)
        front = Front(
            spec,
            make_batches(spec, images=False),
            make_tests(spec, images=False),
            None,
            accepting(server, LIMITS.patience),
            own,
            IterationLog(folder / "iterations.csv"),
            {"commit": None, "versions": {}, "machine": {}},
            engine,
        )
        progress = front.run()
        edge.stop()
        state = front._pipeline.weights() | edge.back._part.state()
    return Trained(state, progress, (folder / "iterations.csv").read_text())


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Trained]:
    """Train a spec, both sides in this process; snapshots in a folder of the test's."""

    def run(spec: RunSpec, engine: Any = None, folder: Path = tmp_path / "run") -> Trained:
        alone = spec["scheme"]["cut"] == edge_cut(spec["model"]["name"]) and engine is None
        if turned(spec) and not alone:
            return train_turned(spec, engine, folder)
        cloud = None if alone else CloudThread(spec, folder / "cloud")
        edge = make_edge(spec, folder, cloud and cloud.server.port, engine)
        try:
            progress = edge.run()
        finally:
            if cloud is not None:
                cloud.stop()
        state = edge._pipeline.weights()
        if cloud is not None:
            state = state | cloud.cloud._part.state()
        return Trained(state, progress, (folder / "iterations.csv").read_text())

    return run


def make_edge(spec: RunSpec, folder: Path, port: int | None, engine: Any = None) -> Front:
    def call(hello: Hello, observer: Any) -> Any:
        return connect(f"127.0.0.1:{port}", None, hello, observer, LIMITS)

    folder.mkdir(parents=True, exist_ok=True)
    return Front(
        spec,
        make_batches(spec),
        make_tests(spec),
        None,
        call if port else None,
        Snapshots(folder / "edge", spec.digest),
        IterationLog(folder / "iterations.csv"),
        {"commit": None, "versions": {}, "machine": {}},
        engine,
        folder,
    )
