"""Runs of federated training in one process: the server in the test, each party in a thread,
between them real connections. Tiny data that no file holds but those that the sides are given."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core import RECIPE
from core.data.histories import Histories, Rows
from core.errors import CoreError, PeerError
from core.federated.members import OnePlace, Parties
from core.federated.party import Party
from core.federated.run import names_of
from core.federated.server import FederatedServer, Progress
from core.federated.silos import SERVER, divide, open_party, open_server
from core.spec import RunSpec
from core.split.certificates import Security
from core.split.channel import Hello
from core.split.client import connect
from core.split.part import State
from core.split.server import Expected, Server
from core.split.window import Limits
from core.training.snapshot import Snapshots

MOVIES, GENRES, HISTORY, BATCH, STEPS = 30, 4, 10, 8, 6
COLUMNS = {"a": [1, 2, 3, 4], "b": [5, 6, 7, 8, 9, 10]}
THREE = {"a": [1, 2, 3], "b": [10, 4, 5], "c": [6, 7, 8, 9]}
LIMITS = Limits(patience=20.0)
ORIGIN: dict[str, Any] = {"commit": None, "versions": {}, "machine": {}}


def histories() -> Histories:
    """Random histories; who has seen much of a movie's neighbours likes it."""
    random = np.random.default_rng(5)
    genres = (random.random((MOVIES + 1, GENRES)) < 0.4).astype(np.uint8)
    genres[0] = 0
    parts = []
    for first, number in ((0, 60), (1000, 40)):
        history = random.integers(1, MOVIES + 1, (number, HISTORY), dtype=np.int32)
        lengths = random.integers(1, HISTORY + 1, number)
        history[np.arange(HISTORY) >= lengths[:, None]] = 0
        candidates = random.integers(1, MOVIES + 1, number, dtype=np.int32)
        labels = (candidates > history.max(axis=1) // 2).astype(np.int64)
        samples = np.stack([np.arange(first, first + number), np.arange(number) % 7], axis=1)
        parts.append(Rows(history, candidates, labels, samples.astype(np.int64)))
    return Histories(parts[0], parts[1], genres)


def make_spec(columns: dict[str, list[int]] = COLUMNS, **changes: Any) -> RunSpec:
    """Two epochs of six steps, K = 0, features as they are. changes: keys of scheme, training."""
    side = {"name": "tests", "title": "this host", "slowdown": 1}
    side["threads"] = {"intra_op": 1, "inter_op": 1}
    optimiser = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.5, "nesterov": False}
    optimiser |= {"weight_decay": 0, "milestones": [2], "factor": 0.1}
    training = {"batch": BATCH, "test_batch": 16, "epochs": 2, "steps": STEPS}
    training |= {"optimiser": optimiser, "snapshot_minutes": 60}
    scheme = {"name": "replay", "staleness": 0, "uplink": "none", "downlink": "none"}
    scheme |= {"feedback": "none", "delta_mib": 1}
    context = {"name": "loopback", "title": "Loopback", "timing": "measured"}
    context |= {"up": None, "down": None, "trace": None, "outages": []}
    content = {
        "recipe": RECIPE,
        "kind": "federated",
        "scale": "tiny",
        "timing": "measured",
        "seed": 7,
        "server": side,
        "parties": [{"party": n, "columns": own, **side} for n, own in columns.items()],
        "context": context,
        "model": {"name": "din"},
        "data": {"name": "none", "folder": "none", "history": HISTORY},
        "training": training | {k: v for k, v in changes.items() if k in training},
        "scheme": scheme | {k: v for k, v in changes.items() if k in scheme},
    }
    return RunSpec.checked(content, Path("spec.yaml"))


@dataclass
class Trained:
    """What a run ended with. state: weights and optimisers of all sides, by block."""

    state: State
    progress: Progress

    @property
    def losses(self) -> list[float]:
        return [row["train_loss"] for row in self.progress.rows]


class Run:
    """The sides of a run, with silos and snapshots in a folder."""

    def __init__(self, spec: RunSpec, folder: Path, certificates: Path | None = None) -> None:
        self.spec, self.folder, self._certificates = spec, folder, certificates
        self.silos = folder / "silos"
        if not self.silos.exists():
            divide(histories(), spec, self.silos)
        expected = Expected(spec.digest, tuple(names_of(spec)[1:]))
        security = Security.load(certificates, SERVER) if certificates else None
        self.door = Server("127.0.0.1:0", security, expected, LIMITS)
        self.errors: dict[str, CoreError] = {}
        self.parties: dict[str, Party] = {}
        self.members: Parties
        self.server: FederatedServer

    def party(self, name: str) -> Party:
        """A party, as new."""
        columns = next(p["columns"] for p in self.spec["parties"] if p["party"] == name)
        silo = open_party(self.silos / name, self.spec, len(columns))
        snapshots = Snapshots(self.folder / name, self.spec.digest)
        return Party(self.spec, name, silo, self.call(name), snapshots)

    def call(self, name: str) -> Callable[[Hello], Any]:
        security = Security.load(self._certificates, name) if self._certificates else None
        address = f"127.0.0.1:{self.door.port}"
        return lambda hello: connect(address, security, hello, None, LIMITS, "server")

    def start(self, name: str, party: Party | None = None) -> threading.Thread:
        """A party in a thread; what it ends with is in `errors`."""
        self.parties[name] = party or self.party(name)

        def run() -> None:
            try:
                self.parties[name].run()
            except CoreError as error:
                self.errors[name] = error
                if error.exit_code != PeerError.exit_code:  # it would come again
                    self.members.give_up(f"party {name}: {error}", error.exit_code)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def make_server(self, patience: float = 20.0) -> FederatedServer:
        silo = open_server(self.silos / SERVER, self.spec)
        self.members = Parties(self.spec, silo, self.door, patience)
        snapshots = Snapshots(self.folder / SERVER, self.spec.digest)
        self.server = FederatedServer(self.spec, silo.labels, self.members, snapshots, ORIGIN)
        return self.server

    def train(self) -> Trained:
        """All sides from here to the end."""
        server = self.make_server()
        threads = [self.start(name) for name in names_of(self.spec)[1:]]
        progress = server.run()
        for thread in threads:
            thread.join(20)
        assert self.errors == {}
        return Trained(self.state(), progress)

    def state(self) -> State:
        state = dict(self.server._part.state())
        for party in self.parties.values():
            state |= party._part.state()
        return state

    def stop(self) -> None:
        self.door.stop()


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Runs of a test; all end with it."""
    torch.set_num_threads(1)
    made: list[Run] = []

    def make(spec: RunSpec, name: str = "run", certificates: Path | None = None) -> Run:
        made.append(Run(spec, tmp_path / name, certificates))
        return made[-1]

    yield make
    for run in made:
        run.stop()


def centralised(spec: RunSpec, folder: Path) -> Trained:
    """The scheme `centralised`, of what `divide` made in `folder`."""
    names = [p["party"] for p in spec["parties"]]
    own = [
        open_party(folder / name, spec, len(party["columns"]))
        for name, party in zip(names, spec["parties"], strict=True)
    ]
    assert own[0].genres is not None
    members = OnePlace(spec, [silo.rows for silo in own], own[0].genres)
    labels = open_server(folder / SERVER, spec).labels
    snapshots = Snapshots(folder.parent / "centralised", spec.digest)
    server = FederatedServer(spec, labels, members, snapshots, ORIGIN)
    progress = server.run()
    state = dict(server._part.state())
    return Trained(state | members.state(), progress)


def assert_same(one: State, other: State) -> None:
    """Every array has the same bits."""
    assert one.keys() == other.keys()
    assert [name for name in one if not np.array_equal(one[name], other[name])] == []
