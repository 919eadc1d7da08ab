"""The other processes of a run that has all sides on one machine: the cloud, the edge or the
parties, and the emulated links between. Each is started again when it dies, and ends with this
process, whatever that dies of."""

import json
import logging
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from core.errors import INCURABLE, PeerError
from core.split.contexts import Context
from core.split.link import Link

log = logging.getLogger(__name__)

GivenUp = Callable[[str, int], object]
Report = dict[str, Any] | None

HERE = "127.0.0.1"
START_S, STOP_S = 120.0, 30.0
RESTARTS, HEALTHY_S = 5, 60.0


class Keeper:
    """Starts a process again when it dies by itself, up to RESTARTS times in a row. One that lived
    for HEALTHY_S seconds was a good start."""

    def __init__(
        self,
        what: str,
        start: Callable[[], object],
        wait: Callable[[], int | None],
        given_up: GivenUp = lambda reason, code: None,
    ) -> None:
        """start: it again, raises PeerError. wait: until it has ended; its exit code.
        given_up: called with a reason and that code when it will not be started again."""
        self._what, self._start, self._wait = what, start, wait
        self._given_up = given_up
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=what, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """From now on its end is meant."""
        self._stopping.set()

    def _keep(self) -> None:
        failures, started = 0, time.monotonic()
        while True:
            code = self._wait()
            if self._stopping.is_set() or code is None:
                return
            if code in INCURABLE:
                self._end(f"ended with exit code {code}; its message says why", code)
                return
            failures = 1 if time.monotonic() - started > HEALTHY_S else failures + 1
            if failures > RESTARTS:
                self._end(f"died {RESTARTS} times in a row (exit code {code})", code)
                return
            log.warning("the %s died (exit code %d); starting it again", self._what, code)
            started = time.monotonic()
            try:
                self._start()
            except PeerError as error:
                log.error("%s", error)
                self._given_up(str(error), error.exit_code)
                return

    def _end(self, how: str, code: int) -> None:
        reason = f"the {self._what} {how}"
        log.error("%s", reason)
        self._given_up(reason, code)


@contextmanager
def kept_link(
    context: Context, target: int, address: tuple[str, int] = (HERE, 0)
) -> Iterator[tuple[int, Callable[[], Report]]]:
    """An emulated link in front of a port of this machine; none where nothing is emulated. Gives
    the port to call, and what ends the link and returns its report. address: to listen at."""
    link = Link(context, target, address[0])
    port = link.start(address[1])
    keeper = Keeper("emulated link", lambda: link.start(port), link.wait)

    def end() -> Report:
        keeper.stop()
        return link.stop()

    try:
        yield port, end
    finally:
        end()


@contextmanager
def kept_cloud(
    spec: Path, snapshots: Path, certificates: Path, patience: float, given_up: GivenUp
) -> Iterator[int]:
    """The cloud's side of a run whose edge is on this machine too; its port, which it keeps when it
    is started again. given_up: as of Keeper. Raises PeerError when it does not start."""
    words = [str(spec), "--snapshots", str(snapshots), "--shared"]
    words += ["--certificates", str(certificates), "--patience", str(patience)]
    process, port = _start_cloud(words, 0)

    def again() -> None:
        nonlocal process
        process, _ = _start_cloud(words, port)

    keeper = Keeper("cloud", again, lambda: process.wait() or None, given_up)
    try:
        yield port
    finally:
        keeper.stop()
        _end(process)


@contextmanager
def kept_child(what: str, words: list[str], given_up: GivenUp) -> Iterator[None]:
    """A verb of `core` as a process of its own, which ends by itself when its work is done.
    what: name in messages. words: of the verb; `--child` is added. given_up: as of Keeper."""
    process = _child(words)

    def again() -> None:
        nonlocal process
        process = _child(words)

    keeper = Keeper(what, again, lambda: process.wait() or None, given_up)
    try:
        yield
    finally:
        keeper.stop()
        _end(process)


def _child(words: list[str]) -> "subprocess.Popen[str]":
    # A group of its own: Ctrl-C is for this process, which needs the others for a last snapshot.
    return subprocess.Popen(
        [sys.executable, "-m", "core", *words, "--child"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def _start_cloud(words: list[str], port: int) -> "tuple[subprocess.Popen[str], int]":
    process = _child(["split", "cloud", *words, "--listen", f"{HERE}:{port}"])
    assert process.stdout is not None
    try:
        return process, int(json.loads(_line(process.stdout, START_S))["port"])
    except (ValueError, KeyError, TypeError):
        _end(process)
        raise PeerError(
            f"the cloud did not start (exit code {process.returncode}); its messages say why"
        ) from None


def _line(stream: IO[str], seconds: float) -> str:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return stream.readline() if selector.select(seconds) else ""


def _end(process: "subprocess.Popen[str]") -> None:
    """Closing its standard input ends a child; one that does not hear is killed."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
