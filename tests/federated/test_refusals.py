"""What a side may get wrong: it is refused with an error that says so, where somebody can act."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from core.errors import ConfigError, DataError, PeerError, TrainingError
from core.federated.party import Party
from core.federated.run import names_of
from core.federated.silos import FILE, SERVER
from core.spec import RunSpec
from core.split import certificates
from core.split.certificates import Security
from core.split.channel import Hello
from core.split.client import connect
from core.split.codec import make as make_codec
from core.split.messages import FEATURES, READY, REFUSED, with_tensor
from core.split.wire import Frame
from tests.federated.conftest import LIMITS, Run, assert_same, make_spec
from tests.federated.test_silos import changed

Make = Callable[..., Run]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Certificates of a run, and of one whom its spec does not name."""
    certificates.make(tmp_path / "own", [*names_of(make_spec()), "c"])
    return tmp_path / "own"


def call(run: Run, folder: Path, said: str, certificate: str) -> None:
    """Call the server as a party, with a certificate."""
    security = Security.load(folder, certificate)
    hello = Hello(said, run.spec.digest)
    connect(f"127.0.0.1:{run.door.port}", security, hello, None, LIMITS, "server").close()


def test_each_party_has_a_certificate_and_the_run_goes_through(own: Path, make_run: Make) -> None:
    plain = make_run(make_spec(), "plain").train()
    assert_same(make_run(make_spec(), "secured", own).train().state, plain.state)


def test_a_party_with_the_certificate_of_another_is_refused(own: Path, make_run: Make) -> None:
    run = make_run(make_spec(), certificates=own)
    with pytest.raises(PeerError, match=r"the server at .* refused: 'b' came with the certificate"):
        call(run, own, "b", "a")


def test_a_party_that_nobody_named_is_refused(own: Path, make_run: Make) -> None:
    run = make_run(make_spec(), certificates=own)
    with pytest.raises(PeerError, match="party 'c' is not expected, only a, b"):
        call(run, own, "c", "c")


def test_a_certificate_of_another_authority_is_refused(
    own: Path, make_run: Make, tmp_path: Path
) -> None:
    certificates.make(tmp_path / "foreign", names_of(make_spec()))
    run = make_run(make_spec(), certificates=own)
    with pytest.raises(PeerError, match=r"the server at .* is not trusted"):
        call(run, tmp_path / "foreign", "b", "b")


def test_the_same_party_twice_is_refused(own: Path, make_run: Make) -> None:
    run = make_run(make_spec(), certificates=own)
    first = run.call("a")(Hello("a", run.spec.digest))
    with pytest.raises(PeerError, match="'a' is already connected; stop it"):
        call(run, own, "a", "a")
    first.close()


def test_another_spec_is_refused(make_run: Make) -> None:
    run = make_run(make_spec())
    with pytest.raises(PeerError, match="give both sides the same spec"):
        run.call("a")(Hello("a", make_spec(staleness=3).digest))


def fails(run: Run) -> Any:
    """The error that the server ends with, once each party has ended."""
    server = run.make_server()
    threads = [run.start(name) for name in names_of(run.spec)[1:]]
    with pytest.raises((PeerError, DataError, TrainingError)) as caught:
        server.run()
    for thread in threads:
        thread.join(0.1 if run.errors else 20)
    return caught.value


def test_histories_of_another_length_are_named_to_their_owner(make_run: Make) -> None:
    run = make_run(make_spec())
    old = load_file(run.silos / "b" / FILE)
    changed(
        run.silos / "b", **{k.replace("/", "__"): v[:-1] for k, v in old.items() if "train" in k}
    )
    error = fails(run)
    assert isinstance(run.errors["b"], DataError)
    assert "its histories are of another length: it holds {'train': 59, 'test': 40}" in str(
        run.errors["b"]
    )
    assert error.exit_code == DataError.exit_code  # the server does not wait for it any more


def test_other_samples_are_named_to_their_owner(make_run: Make) -> None:
    run = make_run(make_spec())
    names = load_file(run.silos / "b" / FILE)["test/samples"]
    names[0] = 99_999, 0
    changed(run.silos / "b", test__samples=names)
    fails(run)
    assert isinstance(run.errors["b"], DataError)
    assert "it holds other samples than the server" in str(run.errors["b"])


def test_rows_in_another_order_than_their_names_are_named_to_all(make_run: Make) -> None:
    run = make_run(make_spec())
    own = load_file(run.silos / "b" / FILE)
    rolled = {f"train__{what}": np.roll(own[f"train/{what}"], 1, axis=0)
              for what in ("history", "candidates")}  # fmt: skip
    changed(run.silos / "b", **rolled)
    error = fails(run)
    assert isinstance(error, DataError)
    assert "parties a and b hold other candidates for the same samples" in str(error)
    deadline = time.monotonic() + 10
    while len(run.errors) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [type(each) for each in run.errors.values()] == [DataError, DataError]


def test_a_party_that_is_about_to_send_when_the_session_ends_still_hears_why(
    make_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    sends = Party._send_features

    def once_it_is_over(party: Party) -> None:
        assert party._channel.wait_over(20)
        sends(party)

    monkeypatch.setattr(Party, "_send_features", once_it_is_over)
    run = make_run(make_spec())
    server = run.make_server()
    monkeypatch.setattr(run.members, "features", refuses)
    threads = [run.start(name) for name in names_of(run.spec)[1:]]
    with pytest.raises(DataError, match="two rows contradict each other"):
        server.run()
    for thread in threads:
        thread.join(20)
    reason = "the server refused party {}: two rows contradict each other"
    assert {name: str(error) for name, error in run.errors.items()} == {
        name: reason.format(name) for name in ("a", "b")
    }


def refuses(*_: Any) -> Any:
    raise DataError("two rows contradict each other")


def test_a_party_that_does_not_come_is_named(make_run: Make) -> None:
    run = make_run(make_spec())
    server = run.make_server(patience=1.0)
    run.start("a")
    with pytest.raises(PeerError, match="b did not come within 1 s"):
        server.run()


def test_a_loss_that_is_no_number_ends_all_sides(make_run: Make) -> None:
    optimiser = make_spec()["training"]["optimiser"] | {"learning_rate": 1e30}
    run = make_run(make_spec(optimiser=optimiser))
    error = fails(run)
    assert error.exit_code == TrainingError.exit_code  # of the server's, or of the party's
    assert "lower training.optimiser.learning_rate" in str(error)


def test_lost_snapshots_of_a_party_are_named(make_run: Make) -> None:
    run = make_run(make_spec())
    run.train()
    for file in (run.folder / "b").iterdir():
        file.unlink()
    assert "there is no step of which all have a snapshot" in str(fails(run))


def features(step: int, array: np.ndarray) -> Frame:
    encoded = make_codec("none").encode(array, step, np.arange(len(array)))
    return with_tensor(FEATURES, step, encoded)


WRONG = {
    "another shape": features(0, np.zeros((8, 3), np.float32)),
    "fewer samples": features(0, np.zeros((7, 48), np.float32)),
    "another type": features(0, np.zeros((8, 48), np.int64)),
    "no tensor": Frame(FEATURES, 0),
    "another step": features(1, np.zeros((8, 48), np.float32)),
    "another codec": Frame(FEATURES, 0, {}, {"encoded": {"codec": "int8"}}),
    "another kind": Frame("labels", 0),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_party_that_sends_nonsense_is_told_and_a_right_one_takes_its_place(
    wrong: str, make_run: Make, caplog: pytest.LogCaptureFixture
) -> None:
    unbroken = make_run(make_spec(), "unbroken").train()
    run = make_run(make_spec(), "wrong")
    right = run.party("b")
    said: list[Frame] = []

    def nonsense() -> None:
        channel = run.call("b")(Hello("b", run.spec.digest))
        channel.receive()
        silo = right._silo
        facts = {"order": silo.order, "shared": silo.shared, "sizes": silo.sizes}
        channel.send(Frame(READY, 0, {}, facts))
        channel.send(WRONG[wrong])
        while not said or said[-1].kind != REFUSED:
            said.append(channel.receive(timeout=20))
        channel.close()
        right.run()

    right_run, right.run = right.run, nonsense  # type: ignore[method-assign]

    def then() -> None:
        right.run = right_run  # type: ignore[method-assign]
        nonsense()

    right.run = then  # type: ignore[method-assign]
    server = run.make_server()
    threads = [run.start("a"), run.start("b", right)]
    with caplog.at_level(logging.WARNING):
        server.run()
    for thread in threads:
        thread.join(20)
    assert run.errors == {}
    assert said[-1].kind == REFUSED
    assert "party b is refused" in caplog.text
    assert_same(run.state(), unbroken.state)


SPECS = {
    "belongs to a and to b": {"a": [1, 2, 3, 4], "b": [4, 5, 6, 7, 8, 9, 10]},
    "nobody has column 10": {"a": [1, 2, 3, 4], "b": [5, 6, 7, 8, 9]},
    "b has column 11": {"a": [1, 2, 3, 4], "b": [5, 6, 7, 8, 9, 10, 11]},
}


@pytest.mark.parametrize("text", SPECS)
def test_columns_that_are_not_shared_out_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make_spec(SPECS[text])


@pytest.mark.parametrize("name", ["server", "ca", "A", "a/b"])
def test_names_that_no_party_may_have(name: str) -> None:
    content = make_spec().content
    content["parties"][0]["party"] = name
    with pytest.raises(ConfigError, match="party"):
        RunSpec.checked(content, Path("spec.yaml"))


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"scheme\.name = 'splitt': unknown"):
        make_spec(name="splitt")


def test_sides_have_folders_of_their_own(make_run: Make) -> None:
    run = make_run(make_spec())
    assert sorted(f.name for f in run.silos.iterdir()) == ["a", "b", SERVER]
