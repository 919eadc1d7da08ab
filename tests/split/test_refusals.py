"""What an edge with a valid certificate may get wrong: it is refused, and nothing has changed; the
next right frame is answered as if nothing had been."""

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import PeerError, TrainingError
from core.spec import RunSpec
from core.split import codec as codecs
from core.split.back import Back
from core.split.channel import Hello
from core.split.client import connect
from core.split.messages import BEGIN, FEATURES, MOVE, REFUSED, SAVE, with_tensor
from core.split.wire import Frame
from tests.split.conftest import LIMITS, CloudThread, Trained, make_edge, make_spec

Ask = Callable[[Frame], Frame]
CUT, BATCH = 14, 4
BEGUN = {"cut": CUT, "uplink": "none", "downlink": "none"}


@pytest.fixture
def spec() -> RunSpec:
    return make_spec("mobilenet_v3_large", cut=CUT)


@pytest.fixture
def cloud(spec: RunSpec, tmp_path: Path) -> CloudThread:
    return CloudThread(spec, tmp_path / "cloud")


@pytest.fixture
def ask(cloud: CloudThread, spec: RunSpec) -> Iterator[Ask]:
    """Say a frame to the cloud; its answer."""
    hello = Hello("edge", spec.digest)
    channel = connect(f"127.0.0.1:{cloud.server.port}", None, hello, None, LIMITS)

    def call(frame: Frame) -> Frame:
        channel.send(frame)
        return channel.receive(timeout=30)

    yield call
    channel.close()


def features(step: int = 0, **changes: Any) -> Frame:
    """A right frame of features, but for the changes."""
    random = np.random.default_rng(step)
    array = changes.pop("array", random.normal(size=(BATCH, 160, 2, 2)).astype(np.float32))
    arrays = {"labels": np.arange(BATCH) % 3, "samples": np.arange(BATCH)}
    arrays |= {k: changes.pop(k) for k in ("labels", "samples") if k in changes}
    codec = codecs.make(changes.pop("codec", "none"))
    encoded = codec.encode(array, step, np.arange(len(array)))
    at = changes.pop("at", step)
    return with_tensor(FEATURES, at, encoded, arrays, **({"learning_rate": 0.01} | changes))


WRONG = {
    "another shape": features(array=np.zeros((BATCH, 3, 2, 2), np.float32)),
    "another type": features(array=np.zeros((BATCH, 160, 2, 2), np.int64)),
    "too many samples": features(
        array=np.zeros((40, 160, 2, 2), np.float32),
        labels=np.zeros(40, np.int64),
        samples=np.zeros(40, np.int64),
    ),
    "fewer labels": features(labels=np.zeros(2, np.int64), samples=np.zeros(2, np.int64)),
    "a label outside": features(labels=np.array([0, 1, 2, 3])),
    "labels that are no integers": features(labels=np.zeros(BATCH, np.float32)),
    "no rate": features(learning_rate=None),
    "a rate that is text": features(learning_rate="x"),
    "a rate below zero": features(learning_rate=-1.0),
    "no tensor": Frame(FEATURES, 0, {}, {"learning_rate": 0.1}),
    "an unknown kind": Frame("hello", 0),
    "a cut that is none": Frame(MOVE, 0, {}, BEGUN | {"cut": 99}),
    "a cut that is true": Frame(MOVE, 0, {}, BEGUN | {"cut": True}),
    "a codec that is a list": Frame(MOVE, 0, {}, BEGUN | {"uplink": []}),
    "a codec of another run": Frame(MOVE, 0, {}, BEGUN | {"uplink": "int4"}),
    "blocks that are missing": Frame(MOVE, 0, {}, BEGUN | {"cut": CUT - 1}),
    "a block that was not asked": Frame(
        MOVE, 0, {"99/weights/x": np.zeros(1, np.float32)}, BEGUN | {"cut": CUT - 1}
    ),
    "a name without a block": Frame(
        MOVE, 0, {"x": np.zeros(1, np.float32)}, BEGUN | {"cut": CUT - 1}
    ),
    "a step before the first": features(step=0, at=-1),
    "a second beginning": Frame(BEGIN, 0, {}, BEGUN),
    "a snapshot of a step too large": Frame(SAVE, 10**9),
    "a long reason": Frame(MOVE, 0, {}, BEGUN | {"cut": "é" * 20_000}),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_frame_is_refused_and_changes_nothing(
    wrong: str, ask: Ask, cloud: CloudThread, caplog: pytest.LogCaptureFixture
) -> None:
    ask(Frame(BEGIN, 0, {}, BEGUN))
    before = cloud.cloud._part.state()
    with caplog.at_level(logging.WARNING):
        answer = ask(WRONG[wrong])
    assert answer.kind == REFUSED
    assert 0 < len(answer.facts["reason"]) <= 500
    assert "refused" in caplog.text
    after = cloud.cloud._part.state()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert ask(features()).kind == "gradient"  # it goes on


def test_a_frame_before_the_beginning_is_refused(ask: Ask) -> None:
    answer = ask(features())
    assert (answer.kind, answer.facts["reason"]) == (REFUSED, "'features' before 'begin'")


def test_an_older_snapshot_does_not_push_newer_ones_out(ask: Ask) -> None:
    ask(Frame(BEGIN, 0, {}, BEGUN))
    assert ask(Frame(SAVE, 5)).kind == "saved"
    assert ask(Frame(SAVE, 4)).facts["reason"] == "a snapshot of step 4 after that of 5"


def test_features_that_are_no_numbers_are_refused(ask: Ask) -> None:
    ask(Frame(BEGIN, 0, {}, BEGUN))
    frame = features()
    frame.arrays["tensor/values"].reshape(-1)[0] = np.nan
    assert ask(frame).kind == REFUSED
    assert ask(features()).kind == "gradient"


def test_refused_features_are_not_remembered_by_delta_coding(tmp_path: Path) -> None:
    spec = make_spec(cut=CUT, uplink="delta+int8")
    cloud = CloudThread(spec, tmp_path / "cloud")
    hello = Hello("edge", spec.digest)
    channel = connect(f"127.0.0.1:{cloud.server.port}", None, hello, None, LIMITS)

    def ask(frame: Frame) -> Frame:
        channel.send(frame)
        return channel.receive(timeout=30)

    ask(Frame(BEGIN, 0, {}, BEGUN | {"uplink": "delta+int8"}))
    wrong = features(codec="delta+int8", array=np.zeros((BATCH, 3, 2, 2), np.float32))
    assert "at cut 14 the input is float32 [4, 160, 2, 2], not" in ask(wrong).facts["reason"]
    assert ask(features(codec="delta+int8")).kind == "gradient"
    channel.close()
    cloud.server.stop()


def test_random_frames_do_not_end_a_session(ask: Ask) -> None:
    ask(Frame(BEGIN, 0, {}, BEGUN))
    random = np.random.default_rng(0)
    kinds = [FEATURES, MOVE, BEGIN, "evaluate", "weights", "other"]
    words = [None, -1, 1e300, "x", [], {"a": 1}, True, CUT]
    for step in range(200):
        facts = {
            key: words[random.integers(len(words))]
            for key in ("cut", "uplink", "downlink", "learning_rate", "encoded")
        }
        arrays = {
            name: random.integers(0, 3, random.integers(0, 6)).astype(np.int64)
            for name in ("labels", "samples", "tensor/values", "0/weights/0.weight")
            if random.random() < 0.5
        }
        ask(Frame(str(random.choice(kinds)), step, arrays, facts))
    assert ask(features()).kind == "gradient"


def lacking(key: str) -> Callable[[Frame], Frame]:
    def change(frame: Frame) -> Frame:
        facts = {name: value for name, value in frame.facts.items() if name != key}
        return Frame(frame.kind, frame.step, frame.arrays, facts)

    return change


def saying(**facts: Any) -> Callable[[Frame], Frame]:
    return lambda frame: Frame(frame.kind, frame.step, frame.arrays, frame.facts | facts)


def of_another_shape(frame: Frame) -> Frame:
    encoded = codecs.make("none").encode(np.zeros((1, 2), np.float32), frame.step, np.arange(1))
    facts = {k: v for k, v in frame.facts.items() if k != "encoded"}
    return with_tensor(frame.kind, frame.step, encoded, **facts)


NONSENSE = {
    "no loss": lacking("loss"),
    "no seconds": lacking("seconds"),
    "no gradient": lacking("encoded"),
    "a loss that is a list": saying(loss=[1.0]),
    "seconds that are text": saying(seconds="soon"),
    "a count that is a mapping": saying(correct={}),
    "a gradient of another codec": saying(encoded={"codec": "int4"}),
    "a gradient of another shape": of_another_shape,
}


@pytest.mark.parametrize("what", NONSENSE)
def test_an_answer_that_does_not_fit_ends_the_front_as_the_others_fault(
    what: str, spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Back._train
    monkeypatch.setattr(Back, "_train", lambda back, frame: NONSENSE[what](train(back, frame)))
    cloud = CloudThread(spec, tmp_path / "cloud")
    edge = make_edge(spec, tmp_path, cloud.server.port)
    with pytest.raises(PeerError, match="the cloud sent nonsense at step 0: "):
        edge.run()
    cloud.server.stop()


def test_answers_that_nobody_asked_for_end_the_front_before_they_fill_its_memory(
    spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Back._train

    def generous(back: Back, frame: Frame) -> Frame:
        answer = train(back, frame)
        for _ in range(5):
            back._channel.send(answer)
        return answer

    monkeypatch.setattr(Back, "_train", generous)
    cloud = CloudThread(spec, tmp_path / "cloud")
    edge = make_edge(spec, tmp_path, cloud.server.port)
    with pytest.raises(PeerError, match="the cloud sent more answers than were asked for"):
        edge.run()
    cloud.server.stop()


def test_a_loss_that_is_no_number_ends_the_run_as_training_error(tmp_path: Path) -> None:
    optimiser = make_spec("vgg19_bn")["training"]["optimiser"] | {"learning_rate": 1e30}
    spec = make_spec("vgg19_bn", cut=3, optimiser=optimiser)
    cloud = CloudThread(spec, tmp_path / "cloud")
    edge = make_edge(spec, tmp_path, cloud.server.port)
    with pytest.raises(TrainingError, match=r"lower training\.optimiser\.learning_rate"):
        edge.run()
    cloud.server.stop()


def test_snapshots_of_an_earlier_attempt_are_not_mixed_with_those_of_a_new_one(
    train: Callable[..., Trained], tmp_path: Path
) -> None:
    spec = make_spec("bilstm", cut=2)
    train(spec)
    for file in (tmp_path / "run" / "edge").iterdir():
        file.unlink()
    train(spec)
    sides = [
        {f.name[:14] for f in (tmp_path / "run" / s).glob("step-*")} for s in ("edge", "cloud")
    ]
    assert sides[0] == sides[1]


@pytest.mark.parametrize("model", ["resnet50_cifar", "bilstm"])
def test_a_run_goes_on_in_a_new_session(model: str, tmp_path: Path) -> None:
    """The edge is gone for good after its first epoch; another one goes on where both stood, with
    blocks that have no weights as well."""
    spec = make_spec(model, cut=2)
    cloud = CloudThread(spec, tmp_path / "cloud")
    edge = make_edge(spec, tmp_path, cloud.server.port)
    edge._end_epoch = _ending(edge._end_epoch, edge)  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        edge.run()
    assert edge._channel is not None
    threading.Thread(target=edge._channel.close, args=(1.0,)).start()
    again = make_edge(spec, tmp_path, cloud.server.port)
    progress = again.run()
    assert [row["epoch"] for row in progress.rows] == [1, 2]
    assert len(progress.legs) == 2
    cloud.stop()


def _ending(end: Callable[[Any], None], edge: Any) -> Callable[[Any], None]:
    def call(bar: Any) -> None:
        end(bar)
        raise SystemExit(137)

    return call
