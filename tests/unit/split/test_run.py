"""core.split.run: what one side does when the other one is not there."""

import threading
import time
from pathlib import Path

import pytest

from core.errors import PeerError
from core.split.certificates import make
from core.split.channel import Hello
from core.split.estimator import Estimator
from core.split.run import Other, Place, accepting, caller, run_cloud
from core.split.server import Expected, Server
from tests.split.conftest import make_spec


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make(folder)
    return folder


def test_a_cloud_that_nobody_calls_ends_when_its_patience_does(tls: Path, tmp_path: Path) -> None:
    spec, place = make_spec(cut=3), Place(tls, patience=0.6)
    with pytest.raises(PeerError, match=r"the edge did not call within 0\.6 s"):
        run_cloud(spec, tmp_path / "cloud", None, "127.0.0.1:0", place)


def test_a_cloud_that_was_given_up_is_not_waited_for(tls: Path) -> None:
    cloud, spec = Other(), make_spec(cut=3)
    call = caller(spec, "127.0.0.1:9", Place(tls, patience=60), cloud)
    threading.Timer(0.3, cloud.give_up, ("the cloud is lost", 3)).start()
    began = time.monotonic()
    for _ in range(2):  # whoever waits, and whoever would
        with pytest.raises(PeerError, match=r"^the cloud is lost$") as error:
            call(Hello("edge", spec.digest), Estimator())
        assert error.value.exit_code == 3
    assert time.monotonic() - began < 30


def test_an_edge_that_was_given_up_is_not_waited_for() -> None:
    edge = Other()
    with Server("127.0.0.1:0", None, Expected("digest")) as server:
        threading.Timer(0.3, edge.give_up, ("the edge is lost", 1)).start()
        with pytest.raises(PeerError, match=r"^the edge is lost$") as error:
            accepting(server, 60, edge)(Hello("edge", "digest"), Estimator())
    assert error.value.exit_code == PeerError.exit_code
