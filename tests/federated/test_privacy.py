"""What crosses the wire: every frame of a run is recorded and looked through."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from core.split import wire
from core.split.channel import Channel
from core.split.wire import Frame
from tests.federated.conftest import COLUMNS, MOVIES, Run, histories, make_spec

TYPES = ("int8", "uint8", "int16", "int32", "int64", "float32", "float64")


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> list[Frame]:
    """Every frame that any side has sent."""
    found: list[Frame] = []
    send = Channel.send

    def recorded(self: Channel, frame: Frame) -> None:
        found.append(frame)
        send(self, frame)

    monkeypatch.setattr(Channel, "send", recorded)
    return found


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every message as it was handed to gRPC."""
    found: list[bytes] = []
    pack = wire.pack

    def recorded(*given: Any) -> bytes:
        found.append(pack(*given))
        return found[-1]

    monkeypatch.setattr(wire, "pack", recorded)
    return found


def secrets() -> dict[str, np.ndarray]:
    """Rows and columns that nobody but their owner may see, long enough not to come by chance."""
    data, found = histories(), {}
    for part, rows in (("train", data.train), ("test", data.test)):
        for start in range(len(rows.labels) - 8):
            found[f"{part} candidates {start}"] = rows.candidates[start : start + 8]
            found[f"{part} users {start}"] = rows.samples[start : start + 8, 0]
            labels = rows.labels[start : start + 8]
            if 0 < labels.sum() < 8:
                found[f"{part} labels {start}"] = labels
        for number, history in enumerate(rows.history):
            if history[7]:
                for name, columns in COLUMNS.items():
                    found[f"{part} history {name} {number}"] = history[np.array(columns) - 1][:4]
    return found


@pytest.mark.parametrize("codec", ["none", "int8", "delta+int8"])
def test_no_movie_history_user_or_label_crosses_the_wire(
    codec: str, make_run: Callable[..., Run], frames: list[Frame], messages: list[bytes]
) -> None:
    run = make_run(make_spec(uplink=codec, staleness=2, snapshot_minutes=1e-9))
    run.train()
    kinds = {frame.kind for frame in frames}
    assert kinds == {
        "begin", "ready", "features", "gradient", "drained", "evaluate", "scores", "save", "saved",
        "finish", "finished",
    }  # fmt: skip
    for frame in frames:
        said = {"begin": set(), "ready": {"order", "shared", "sizes"}, "drained": {"seconds",
                "peak_mib"}, "features": {"encoded"}, "gradient": {"encoded"}}  # fmt: skip
        allowed = said.get(frame.kind, set()) | ({"encoded"} if frame.arrays else set())
        assert set(frame.facts) <= allowed, frame.kind
        assert all(name.startswith("tensor/") for name in frame.arrays), frame.kind
    sent = b"\0".join(messages)
    for what, values in secrets().items():
        for dtype in TYPES:
            if dtype in ("int8", "uint8") and values.max() < 2:
                continue  # eight small numbers in a row come by chance among 8-bit features
            assert np.ascontiguousarray(values, dtype).tobytes() not in sent, f"{what}, {dtype}"


def test_the_search_finds_what_is_there() -> None:
    """The same search, where a history does cross."""
    values = next(v for name, v in secrets().items() if "history" in name)
    leaked = histories().train.history.tobytes()
    assert np.ascontiguousarray(values, "int32").tobytes() in leaked
    assert values.max() <= MOVIES
