"""The split turned round: the front in the cloud, the images on the edge. What is computed is the
same, and no image or target crosses the wire."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.data.chairs import ChairSplit
from core.errors import ConfigError, DataError, PeerError
from core.models.blocks import NETWORKS
from core.split import samples, wire
from core.split.decision import Choice
from core.split.messages import EVALUATE, FEATURES, SHOW
from tests.split.conftest import STEPS, Trained, chairs, make_batches, make_spec, make_tests
from tests.split.test_equality import Script, assert_same, delayed, unsplit

Train = Callable[..., Trained]
BLOCKS = NETWORKS["chairs"].blocks


@pytest.fixture(scope="module")
def whole() -> tuple[Any, list[float]]:
    """Unsplit training, once."""
    torch.set_num_threads(1)
    return unsplit(make_spec("chairs", cut=0))


@pytest.mark.parametrize("cut", [0, 1, 4, BLOCKS - 1])  # every one in test_equality, by moving
def test_without_staleness_a_turned_split_trains_as_the_whole_network(
    cut: int, train: Train, whole: Any
) -> None:
    trained = train(make_spec("chairs", cut=cut))
    assert_same(trained, whole[0])
    means = [np.mean(whole[1][:STEPS]), np.mean(whole[1][STEPS:])]
    assert [row["train_loss"] for row in trained.progress.rows] == pytest.approx(means, rel=1e-12)
    assert [row["test_accuracy"] for row in trained.progress.rows] == [None, None]


def test_blocks_move_between_a_cloud_in_front_and_an_edge_behind(
    train: Train, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.split.front.PROBE_SHARE", 1e9)
    cuts = {2: 1, 3: BLOCKS - 1, 4: 0, 6: 7}
    script = Script({step: Choice(cut, "none", "none") for step, cut in cuts.items()})
    trained = train(make_spec("chairs", cut=3), script)
    assert_same(trained, whole[0])
    assert [c["cut"] for c in trained.progress.choices] == [3, *cuts.values()]


def test_stale_gradients_are_applied_as_in_one_process(train: Train) -> None:
    spec = make_spec("chairs", cut=4, staleness=2)
    assert_same(train(spec), delayed(spec, 2))


def test_lossy_features_and_error_feedback_work_that_way_round(train: Train) -> None:
    changes = {"uplink": "int8", "downlink": "fp16", "feedback": "published"}
    trained = train(make_spec("chairs", cut=4, staleness=2, **changes))
    (row, *_) = csv.DictReader(trained.iterations.splitlines())
    assert (row["uplink"], row["downlink"]) == ("fp16", "int8")  # gradients go up, features down
    assert int(row["up_bytes"]) > 1.5 * int(row["down_bytes"])
    assert trained.progress.rows[-1]["train_loss"] < trained.progress.rows[0]["train_loss"]


def test_a_first_block_alone_is_bytes_up_and_down_as_they_travel(train: Train) -> None:
    """At cut 0 of a moving cut the inputs come down, 17 numbers a sample, and no gradient goes."""
    trained = train(make_spec("chairs", cut=0, uplink="int8", epochs=1), Script({}))
    (row, *_) = csv.DictReader(trained.iterations.splitlines())
    assert (int(row["up_bytes"]), int(row["down_bytes"])) == (0, 4 * 17 * 4)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every message of both sides, as it is handed to gRPC without TLS."""
    found: list[bytes] = []
    pack = wire.pack

    def note(*arguments: Any) -> bytes:
        data = pack(*arguments)
        found.append(data)
        return data

    monkeypatch.setattr(wire, "pack", note)
    return found


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> list[wire.Frame]:
    """Every frame of both sides."""
    found: list[wire.Frame] = []
    head_of = wire.head_of

    def note(frame: wire.Frame, limit: int) -> Any:
        found.append(frame)
        return head_of(frame, limit)

    monkeypatch.setattr(wire, "head_of", note)
    return found


def needles(pixels: np.ndarray) -> Iterator[bytes]:
    """Rows of images as bytes and as numbers, channels apart or together."""
    for image in pixels:
        for layout in (image, image.transpose(2, 0, 1)):
            for values in (layout, layout / np.float32(255), layout.astype(np.float32)):
                yield np.ascontiguousarray(values[0]).tobytes()[:24]


def test_no_image_and_no_target_crosses_the_wire(
    train: Train, recorded: list[bytes], frames: list[wire.Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.split.front.PROBE_SHARE", 1e9)
    spec = make_spec("chairs", cut=6, staleness=2)
    script = Script({3: Choice(0, "none", "none"), 6: Choice(BLOCKS - 1, "none", "none")})
    train(spec, script)
    everything = b"".join(recorded)
    batches, tests = make_batches(spec), make_tests(spec)
    shown = [*(batches.at(step) for step in range(2 * STEPS)), *tests]
    for batch in shown:
        assert not any(needle in everything for needle in needles(batch.wanted))
    # What may cross does, so that the search above would find it.
    assert all(batches.at(step).inputs.tobytes() in everything for step in range(3, 2 * STEPS - 2))
    sent = {name for f in frames for name in f.arrays if f.kind in (FEATURES, EVALUATE, SHOW)}
    assert sent == {"tensor/values"}
    assert not [name for f in frames for name in f.arrays if "label" in name or "sample" in name]
    assert {f.kind for f in frames} >= {FEATURES, EVALUATE, SHOW, "gradient", "moved", "scores"}


def test_the_edge_writes_what_was_generated_beside_what_was_wanted(
    train: Train, tmp_path: Path
) -> None:
    spec = make_spec("chairs", cut=4)
    trained = train(spec)
    found = samples.read(tmp_path / "run")
    split = chairs(7)
    assert split.images is not None
    assert np.array_equal(found["wanted"], split.images[samples.chosen(split)])
    assert found["generated"].shape == found["wanted"].shape
    assert found["between"].shape == (samples.BETWEEN, 16, 16, 4)
    assert found["inputs"][-samples.BETWEEN :, 0] == pytest.approx(
        found["inputs"][0, 0] + np.linspace(0, 1, samples.BETWEEN)
    )
    alone = train(make_spec("chairs", cut=0), folder=tmp_path / "alone")
    assert alone.progress.rows[-1]["test_loss"] == pytest.approx(
        trained.progress.rows[-1]["test_loss"], rel=1e-6
    )
    own = samples.read(tmp_path / "alone")
    assert all(np.array_equal(found[key], own[key]) for key in found)


def test_other_samples_on_the_other_side_are_named(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(samples: int = 84, images: bool = True) -> ChairSplit:
        split = chairs(samples, images)
        names = split.ids[::-1] if images else split.ids
        return ChairSplit(split.inputs, split.images, names, split.styles)

    monkeypatch.setattr("tests.split.conftest.chairs", other)
    with pytest.raises(DataError, match=r"the edge, step 0: the sides have other samples"):
        train(make_spec("chairs", cut=4))


def test_the_last_block_is_never_asked_of_the_edge(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.split.front.PROBE_SHARE", 1e9)
    script = Script({2: Choice(BLOCKS, "none", "none")})
    with pytest.raises(
        PeerError, match=rf"the edge, step 2: cut {BLOCKS} is not 0 to {BLOCKS - 1}"
    ):
        train(make_spec("chairs", cut=4), script)
    with pytest.raises(ConfigError, match="the loss needs the images, which do not leave the edge"):
        make_spec("chairs", cut=BLOCKS)
