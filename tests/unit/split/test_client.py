"""core.split.client: calls again when the stream breaks, and says why when it gives up."""

import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from core.errors import PeerError
from core.split import certificates
from core.split.certificates import Security, make
from core.split.channel import Hello, SessionLost
from core.split.client import Backoff, connect, hangs_up
from core.split.contexts import Context
from core.split.link import Link
from core.split.server import Expected, Server
from core.split.window import Limits
from core.split.wire import Frame

HELLO = Hello("edge", "digest", (3, 7))
QUICK, PATIENT = Limits(patience=0.6), Limits(patience=40)
Listen = Callable[..., Server]


@pytest.fixture
def listen() -> Iterator[Listen]:
    servers: list[Server] = []

    def start(
        security: Security | None = None, port: int = 0, limits: Limits = QUICK, **expected: object
    ) -> Server:
        wanted = Expected("digest", **expected)  # type: ignore[arg-type]
        servers.append(Server(f"127.0.0.1:{port}", security, wanted, limits))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    for name in ("ours", "theirs"):
        make(folder / name, ("cloud", "edge", "other"))
    return folder


def outdated(folder: Path) -> Path:
    """Certificates that expired a day ago."""

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(timezone.utc) - timedelta(days=2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "datetime", Earlier)
        make(folder, days=1)
    return folder


def unchecked(folder: Path, side: str, authority: Path | None = None) -> Security:
    """What `Security.load` would refuse."""
    names = (authority or folder) / "ca.crt", folder / f"{side}.crt", folder / f"{side}.key"
    return Security(*(name.read_bytes() for name in names))


def call(server: Server, security: Security | None = None, hello: Hello = HELLO) -> None:
    connect(f"127.0.0.1:{server.port}", security, hello, limits=QUICK).close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_waits_double_up_to_the_longest_and_shorten_at_random() -> None:
    backoff = Backoff(100, first=0.1, longest=5, jitter=random.Random(0))
    waits = [backoff.wait(0.0) for _ in range(50)]
    full = [min(5, 0.1 * 2**i) for i in range(50)]
    assert all(w is not None and f / 2 <= w <= f for w, f in zip(waits, full, strict=True))
    assert len(set(waits)) == 50
    assert backoff.attempts == 50


def test_sides_that_failed_together_do_not_try_together() -> None:
    assert Backoff(100).wait(0.0) != Backoff(100).wait(0.0)


def test_the_last_attempt_comes_when_patience_ends() -> None:
    backoff = Backoff(10)
    for _ in range(10):
        backoff.wait(0.0)
    assert backoff.wait(9.5) == pytest.approx(0.5)
    assert backoff.wait(10.0) is None


def test_the_edge_may_be_there_first(listen: Listen) -> None:
    port = free_port()
    with ThreadPoolExecutor(1) as pool:
        edge = pool.submit(connect, f"127.0.0.1:{port}", None, HELLO, None, Limits(patience=10))
        time.sleep(0.3)
        server = listen(port=port)
        assert server.accept(timeout=10).hello == HELLO
        edge.result().close()


def test_the_cloud_chooses_the_step_to_go_on_from(listen: Listen) -> None:
    server = listen(start=lambda hello: max(hello.snapshots))
    edge = connect(f"127.0.0.1:{server.port}", None, HELLO, limits=QUICK)
    assert (edge.start, server.accept(timeout=5).start) == (7, 7)
    edge.close()


def test_nobody_there_is_said_with_what_was_tried_and_what_to_do() -> None:
    port = free_port()
    start = time.monotonic()
    with pytest.raises(PeerError) as caught:
        connect(f"127.0.0.1:{port}", None, HELLO, limits=QUICK)
    assert 0.6 <= time.monotonic() - start < 3
    text = str(caught.value)
    assert f"the cloud at 127.0.0.1:{port} cannot be reached: tried " in text
    assert "times in 0.6 s, at most 5 s apart; the last time: UNAVAILABLE" in text
    assert "Connection refused" in text
    assert "Snapshots are safe: the same command goes on" in text


def test_a_cloud_that_went_for_good_is_said_to_whoever_waits(listen: Listen, caplog) -> None:
    server = listen()
    edge = connect(f"127.0.0.1:{server.port}", None, HELLO, limits=QUICK)
    server.accept(timeout=5)
    with caplog.at_level(logging.WARNING):
        server._server.stop(None).wait()  # as if it had been killed
        with pytest.raises(PeerError, match=r"cannot be reached: tried \d+ times in 0.6 s"):
            edge.receive()
    assert f"connection to 127.0.0.1:{server.port} lost" in caplog.text
    with pytest.raises(PeerError, match="cannot be reached"):
        edge.send(Frame("x", 0))


def test_a_cloud_that_was_started_anew_does_not_know_the_session(listen: Listen) -> None:
    patient = Limits(patience=20)
    first = listen(limits=patient)
    edge = connect(f"127.0.0.1:{first.port}", None, HELLO, limits=patient)
    first._server.stop(None).wait()
    listen(port=first.port, limits=patient)
    with pytest.raises(SessionLost, match=r"lost the session: this session is not known here"):
        edge.receive()


def test_an_edge_that_stays_away_is_said_to_the_cloud(listen: Listen) -> None:
    server = listen()
    edge = connect(f"127.0.0.1:{server.port}", None, HELLO, limits=QUICK)
    cloud = server.accept(timeout=5)
    edge.fail(PeerError("killed"))
    start = time.monotonic()
    with pytest.raises(PeerError) as caught:
        cloud.receive()
    assert 0.5 <= time.monotonic() - start < 3
    assert "'edge' did not come back within 0.6 s" in str(caught.value)
    assert "Snapshots are safe: the same command goes on" in str(caught.value)
    assert not isinstance(caught.value, SessionLost)


def test_an_edge_that_was_started_anew_takes_the_place_of_the_old_one(listen: Listen) -> None:
    server = listen(limits=Limits(patience=60))
    edge = connect(f"127.0.0.1:{server.port}", None, HELLO)
    old = server.accept(timeout=5)
    edge.fail(PeerError("killed"))
    again = connect(f"127.0.0.1:{server.port}", None, HELLO)
    with pytest.raises(SessionLost, match="'edge' came back with a new session"):
        old.receive()
    again.send(Frame("x", 5))
    assert server.accept(timeout=5).receive(timeout=5).step == 5
    again.close()


def test_a_link_that_went_dead_without_a_word_is_noticed(listen: Listen) -> None:
    """Keep-alive: nothing comes back, no connection is closed."""
    limits = Limits(patience=1, keepalive=0.2)
    server = listen(limits=limits)
    held = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        threading.Thread(target=carry, args=(proxy, server.port, held), daemon=True).start()
        edge = connect(f"127.0.0.1:{proxy.getsockname()[1]}", None, HELLO, limits=limits)
        held.set()
        with pytest.raises(PeerError, match="cannot be reached"):
            edge.receive(timeout=30)


def carry(proxy: socket.socket, port: int, held: threading.Event) -> None:
    """One connection to the port, until it is held; later ones are refused."""
    near, _ = proxy.accept()
    far = socket.create_connection(("127.0.0.1", port))
    proxy.close()

    def one_way(a: socket.socket, b: socket.socket) -> None:
        with suppress(OSError):  # when the test is over
            while data := a.recv(65536):
                if held.is_set():
                    time.sleep(60)
                b.sendall(data)

    for a, b in ((near, far), (far, near)):
        threading.Thread(target=one_way, args=(a, b), daemon=True).start()


def test_with_certificates_of_one_authority_both_sides_meet(listen: Listen, tls: Path) -> None:
    server = listen(Security.load(tls / "ours", "cloud"))
    call(server, Security.load(tls / "ours", "edge"))


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("another authority", "is not trusted: .*CERTIFICATE_VERIFY_FAILED.*of one authority"),
        ("the cloud is no cloud", "is not trusted: .*unsupported certificate purpose"),
        ("the cloud has expired", "is not trusted: .*certificate has expired"),
        ("the cloud speaks plain text", "is not trusted: .*WRONG_VERSION_NUMBER"),
        ("the edge has expired", "does not trust this side's certificate: .* valid by both clocks"),
        ("the edge's is another's", "does not trust this side's certificate: .* of one authority"),
        ("no certificate", "It answers and hangs up: perhaps only one side speaks TLS"),
        ("the party is another", r"refused: 'edge' came with the certificate of \['other'\]"),
    ],
)
def test_who_cannot_show_a_good_certificate_is_refused(
    listen: Listen, tls: Path, tmp_path: Path, case: str, text: str
) -> None:
    ours, theirs = tls / "ours", tls / "theirs"
    cloud: Security | None = unchecked(ours, "cloud")
    edge: Security | None = unchecked(ours, "edge")
    if case == "another authority":
        edge = unchecked(theirs, "edge")
    elif case == "the cloud is no cloud":
        cloud = unchecked(ours, "other")
    elif case == "the cloud has expired":
        cloud = unchecked(outdated(tmp_path), "cloud")
        edge = unchecked(ours, "edge", authority=tmp_path)
    elif case == "the cloud speaks plain text":
        cloud = None
    elif case == "the edge has expired":
        edge = unchecked(outdated(tmp_path), "edge", authority=ours)
        cloud = unchecked(ours, "cloud", authority=tmp_path)
    elif case == "the edge's is another's":
        edge = unchecked(theirs, "edge", authority=ours)
    elif case == "no certificate":
        edge = None
    else:
        edge = unchecked(ours, "other")
    server = listen(cloud)
    limits = QUICK if case == "no certificate" else PATIENT
    start = time.monotonic()
    with pytest.raises(PeerError, match=text):
        connect(f"127.0.0.1:{server.port}", edge, HELLO, limits=limits)
    assert time.monotonic() - start < PATIENT.patience / 2  # at once, whatever the patience
    with pytest.raises(TimeoutError, match="nobody called within 0 s"):
        server.accept(timeout=0)


def test_a_cloud_that_trusts_this_side_does_not_hang_up(listen: Listen, tls: Path) -> None:
    edge, other = Security.load(tls / "ours", "edge"), unchecked(tls / "theirs", "edge")
    server = listen(Security.load(tls / "ours", "cloud"))
    address = f"127.0.0.1:{server.port}"
    assert not hangs_up(address, edge)
    assert not hangs_up(address, other)  # which does not trust the cloud itself
    assert hangs_up(address, unchecked(tls / "theirs", "edge", authority=tls / "ours"))
    assert not hangs_up(f"127.0.0.1:{free_port()}", edge)


def test_a_connection_that_is_cut_again_and_again_is_no_question_of_trust(tls: Path) -> None:
    edge = Security.load(tls / "ours", "edge")
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def cut() -> None:
            server.settimeout(0.05)
            while not stop.is_set():
                with suppress(TimeoutError):
                    server.accept()[0].close()

        thread = threading.Thread(target=cut)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(PeerError, match=r"cannot be reached: tried \d+ times in 2 s"):
            connect(address, edge, HELLO, limits=Limits(patience=2))
        stop.set()
        thread.join()


@pytest.mark.slow
def test_a_link_that_is_full_for_long_is_not_given_up(listen: Listen) -> None:
    # gRPC has the kernel end a connection whose sender could not empty its buffer for 20 s, however
    # steadily the bytes go. Here 26 s pass at 1 Mbit/s.
    server = listen(limits=Limits(patience=60))
    slow = {"rate_mbit": 1, "delay_ms": 1, "jitter_ms": 0}
    context = Context.of(
        {"name": "slow", "title": "Slow", "timing": "emulated", "up": slow, "down": slow,
         "trace": None, "outages": []}
    )  # fmt: skip
    frame = Frame("x", 0, {"bytes": np.zeros(3_250_000, np.uint8)})
    with Link(context, server.port) as link:
        address = f"127.0.0.1:{link.port}"
        edge = connect(address, None, HELLO, None, Limits(patience=60))
        server.accept(5).send(frame)
        assert edge.receive(60).arrays["bytes"].nbytes == 3_250_000
        report = link.stop()
        edge.close()
    assert report is not None
    assert report["connections"] == 1
