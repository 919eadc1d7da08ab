"""A board behind a network of its own: two network namespaces with a cable between."""

import logging
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.devices.dispatch import carry
from core.devices.hosts import host
from tests.devices.conftest import NAME, Sshd, make_sshd
from tests.devices.test_dispatch import QUICK, after_steps, assert_as_here, job_of, result

HERE, THERE = "198.18.77.1", "198.18.77.2"  # of a range that is kept for tests of networks


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Network:
    """The namespace of a board, and the end of its cable that is here."""

    def __init__(self) -> None:
        self.name, self.cable = f"board{os.getpid()}", f"cable{os.getpid()}"[:15]

    def lay(self) -> None:
        ip("netns", "add", self.name)
        ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("address", "add", f"{HERE}/30", "dev", self.cable)
        ip("-n", self.name, "address", "add", f"{THERE}/30", "dev", "eth0")
        ip("-n", self.name, "link", "set", "eth0", "up")
        self.plug()

    def plug(self) -> None:
        ip("link", "set", self.cable, "up")

    def pull(self) -> None:
        """Nothing passes, and nobody is told."""
        ip("link", "set", self.cable, "down")

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True)


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network()
    try:
        made.lay()
    except (OSError, subprocess.CalledProcessError) as error:
        made.remove()
        pytest.skip(f"no network namespaces here: {error}")
    yield made
    made.remove()


@pytest.fixture
def far(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    within = ("ip", "netns", "exec", network.name)
    server = make_sshd(tmp_path_factory.mktemp("far"), THERE, within)
    server.start()
    yield server
    server.stop()


@pytest.mark.slow
def test_a_cable_that_is_pulled_out_for_long_costs_nothing(
    network: Network, far: Sshd, here: Path, task: Callable[..., Path], caplog
) -> None:
    spec, plugged = task(), threading.Event()

    def pull() -> None:
        after_steps(here, 2)
        network.pull()
        plugged.wait(60)
        network.plug()

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "trying again" in record.getMessage():
                plugged.set()

    watch = Watch()
    logging.getLogger("core.devices.dispatch").addHandler(watch)
    thread = threading.Thread(target=pull, daemon=True)
    thread.start()
    try:
        with caplog.at_level(logging.INFO, "core"):
            carry(host(NAME, far.hosts(here)), job_of(spec), QUICK)
    finally:
        logging.getLogger("core.devices.dispatch").removeHandler(watch)
        thread.join()
    assert any("has stopped answering; trying again" in r.getMessage() for r in caplog.records)
    assert result(here)["resumed"] == 0
    assert_as_here(here, spec)
