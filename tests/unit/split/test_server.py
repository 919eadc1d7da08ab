"""core.split.server: whoever sends nonsense is refused, and the session goes on."""

import logging
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest

from core.errors import PeerError
from core.split import channel as channel_module
from core.split import server as server_module
from core.split import wire
from core.split.certificates import Security, make
from core.split.channel import METHOD, VERSION, Channel, Hello, SessionLost
from core.split.client import connect
from core.split.server import Expected, Server
from core.split.window import Limits
from core.split.wire import Frame
from core.split.wire_pb2 import Ack, Array, Chunk, Dispersion, DType, Head, Message, Welcome
from core.split.wire_pb2 import Hello as HelloMessage

LIMITS = Limits(window=4, window_bytes=1 << 20, frame_bytes=1 << 20, patience=20)
OURS = Hello("edge", "digest")
SESSION = bytes(16)


class Served:
    """A server over TLS that takes the parties `edge` and `guest`; the edge has a session."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        expected = Expected("digest", ("edge", "guest"), self.start)
        self.server = Server("127.0.0.1:0", Security.load(folder, "cloud"), expected, LIMITS)
        self.address = f"127.0.0.1:{self.server.port}"
        self.edge = connect(self.address, Security.load(folder, "edge"), OURS, limits=LIMITS)
        self.cloud = self.server.accept(timeout=5)

    @staticmethod
    def start(hello: Hello) -> int:
        if hello.snapshots == (13,):
            raise PeerError("nobody has a snapshot of step 13")
        return 0

    def goes_on(self) -> bool:
        """Whether the edge's session still carries frames both ways."""
        self.edge.send(Frame("x", 1, {"a": np.ones(9)}))
        self.cloud.send(self.cloud.receive(timeout=5))
        return self.edge.receive(timeout=5).step == 1

    def transport(self, side: str = "guest") -> grpc.Channel:
        """A client of gRPC with good TLS."""
        security = Security.load(self.folder, side)
        credentials = grpc.ssl_channel_credentials(
            security.authority, security.key, security.certificate
        )
        return grpc.secure_channel(self.address, credentials)

    def raw(
        self, *messages: bytes, side: str = "guest"
    ) -> tuple[grpc.StatusCode, str, list[bytes]]:
        """What the server answers to these messages."""
        answers = []
        with self.transport(side) as transport:
            call = transport.stream_stream(METHOD)(iter(messages), timeout=20)
            with suppress(grpc.RpcError):
                answers.extend(call)
            return call.code(), call.details(), answers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tls")
    make(made, ("cloud", "edge", "guest", "stranger"))
    return made


@pytest.fixture
def served(folder: Path) -> Iterator[Served]:
    one = Served(folder)
    yield one
    one.edge.close()
    one.server.stop()


def hello(**changes: object) -> bytes:
    said = {"version": VERSION, "digest": "digest", "party": "guest", "session": SESSION}
    said |= {"limits": LIMITS.message()}
    return wire.pack(Message(hello=HelloMessage(**(said | changes))))  # type: ignore[arg-type]


def chunk(sequence: int, nbytes: int, body: int, announced: bool = True) -> bytes:
    array = Array(name="a", dtype=DType.UINT8, shape=[nbytes])
    head = Head(kind="x", arrays=[array], facts="{}") if announced else None
    made = Chunk(sequence=sequence, head=head)
    return wire.pack(Message(chunk=made), [np.zeros(body, np.uint8)])


@pytest.mark.parametrize(
    ("said", "code", "text"),
    [
        (
            {"version": 2},
            "FAILED_PRECONDITION",
            "it speaks protocol version 2, here is version 1; ",
        ),
        ({"digest": "else"}, "FAILED_PRECONDITION", "its spec has the digest 'else', here 'digest"),
        ({"party": "stranger"}, "PERMISSION_DENIED", "party 'stranger' is not expected, only edge"),
        ({"party": "edge"}, "PERMISSION_DENIED", "'edge' came with the certificate of ['guest']"),
        ({"known": True}, "NOT_FOUND", "this session is not known here; open another one"),
        ({"session": b"short"}, "INVALID_ARGUMENT", "the session has no number of 16 bytes"),
        ({"acknowledged": 5}, "INVALID_ARGUMENT", "frame 5 is acknowledged before it was sent"),
        ({"limits": None}, "INVALID_ARGUMENT", "the other side takes no frames at all"),
        ({"snapshots": [13]}, "FAILED_PRECONDITION", "nobody has a snapshot of step 13"),
    ],
)
def test_a_hello_that_does_not_fit_is_refused_with_a_line_in_the_log(
    served: Served, caplog, said: dict[str, object], code: str, text: str
) -> None:
    with caplog.at_level(logging.WARNING):
        found = served.raw(hello(**said))
    assert found[0] == grpc.StatusCode[code]
    assert text in found[1]
    assert found[2] == []
    lines = [r for r in caplog.records if r.name == "core.split.channel"]
    assert len(lines) == 1
    assert lines[0].message.startswith("refused ipv4:127.0.0.1:")
    assert text in lines[0].message
    with pytest.raises(TimeoutError):
        served.server.accept(timeout=0)
    assert served.goes_on()


def test_an_edge_is_told_why_it_is_refused(served: Served) -> None:
    security = Security.load(served.folder, "guest")
    for said, text in (
        (Hello("guest", "else"), r"refused: its spec has the digest 'else', .* the same spec"),
        (Hello("stranger", "digest"), "refused: party 'stranger' is not expected"),
        (Hello("guest", "digest", (13,)), "refused: nobody has a snapshot of step 13"),
    ):
        with pytest.raises(PeerError, match=text):
            connect(served.address, security, said, limits=LIMITS)


def test_another_protocol_version_is_refused(served: Served, monkeypatch) -> None:
    from core.split import client

    monkeypatch.setattr(client, "VERSION", VERSION + 1)
    with pytest.raises(PeerError, match="refused: it speaks protocol version 2, here is version 1"):
        connect(served.address, Security.load(served.folder, "guest"), Hello("guest", "digest"))


GARBAGE = [
    ("nothing", b"", "a message of 0 bytes"),
    ("short", b"\0\0", "a message of 2 bytes"),
    ("a long header", b"\xff" * 100, "announces a header of 4294967295"),
    ("no protobuf", b"\0\0\0\4\xff\xff\xff\xff", "the header of a message cannot be read"),
    ("no first chunk", chunk(1, 9, 9, announced=False), "without the first one"),
    ("too large", chunk(1, LIMITS.frame_bytes + 1, 9), "has the shape (1048577,)"),
    ("huge", chunk(1, 2**63, 9), "has the shape (9223372036854775808,)"),
    ("longer than announced", chunk(1, 9, 10), "is longer than it announced"),
    ("a gap", chunk(2, 9, 9), "frame 2 comes after frame 0"),
    ("a second hello", hello(), "a message hello inside a session"),
    ("a welcome", wire.pack(Message(welcome=Welcome())), "a message welcome inside a session"),
    ("no word", wire.pack(Message()), "a message of an unknown kind inside a session"),
    ("an early ack", wire.pack(Message(ack=Ack(acknowledged=1))), "acknowledged before it was"),
    (
        "a false arrival",
        wire.pack(Message(ack=Ack(dispersions=[Dispersion(bytes=9, seconds=float("nan"))]))),
        "9 bytes came in nan s",
    ),
]


@pytest.mark.parametrize(("data", "text"), [c[1:] for c in GARBAGE], ids=[c[0] for c in GARBAGE])
def test_nonsense_inside_a_session_ends_that_stream_only(
    served: Served, caplog, data: bytes, text: str
) -> None:
    with caplog.at_level(logging.WARNING):
        code, details, _ = served.raw(hello(), data)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert text in details
    assert "refused ipv4:127.0.0.1:" in caplog.text
    assert text in caplog.text
    assert served.goes_on()


@pytest.mark.parametrize("data", [wire.pack(Message(ping=1)), b"x" * 100])
def test_a_stream_must_begin_with_hello(served: Served, data: bytes) -> None:
    assert served.raw(data)[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert served.goes_on()


def test_a_message_over_the_limit_is_refused_by_grpc(served: Served) -> None:
    code, details, _ = served.raw(hello(), bytes(wire.MESSAGE + 1))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in details
    assert served.goes_on()


def test_an_unknown_method_is_refused(served: Served) -> None:
    with served.transport() as transport:
        method = transport.unary_unary("/core.split.Split/Run")
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            method(b"", timeout=5)
    assert served.goes_on()


def test_a_stream_that_says_nothing_is_ended(served: Served, monkeypatch) -> None:
    monkeypatch.setattr(server_module, "GREETING", 0.2)

    def silent() -> Iterator[bytes]:
        time.sleep(3)
        yield b""

    with served.transport() as transport:
        call = transport.stream_stream(METHOD)(silent())
        with pytest.raises(grpc.RpcError, match="it did not say hello"):
            next(call)
    assert served.goes_on()


def test_frames_beyond_the_window_are_refused_and_what_is_kept_is_bounded(served: Served) -> None:
    frames = [chunk(i, 300_000, 300_000) for i in range(1, 100)]
    code, details, _ = served.raw(hello(), *frames)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "are not acknowledged" in details
    guest = served.server.accept(timeout=1)
    kept = 0
    with suppress(TimeoutError, PeerError):
        while True:
            guest.receive(timeout=0)
            kept += 300_000
    assert kept <= 2 * LIMITS.window_bytes + LIMITS.frame_bytes
    assert served.goes_on()


def test_a_party_that_is_there_is_not_replaced_by_a_second_one(served: Served) -> None:
    security = Security.load(served.folder, "edge")
    with pytest.raises(PeerError, match="refused: 'edge' is already connected; stop it"):
        connect(served.address, security, OURS, limits=LIMITS)
    assert served.goes_on()


def test_a_party_whose_connection_is_dead_is_replaced(served: Served, monkeypatch) -> None:
    monkeypatch.setattr(server_module, "ALIVE", 0.2)
    monkeypatch.setattr(Channel, "incoming", lambda *_: None)  # the old edge's ears are shut
    security = Security.load(served.folder, "edge")
    again = connect(served.address, security, OURS, limits=LIMITS)
    monkeypatch.undo()
    with pytest.raises(PeerError, match="'edge' came back with a new session"):
        served.cloud.receive(timeout=5)
    served.cloud = served.server.accept(timeout=5)
    served.edge = again
    assert served.goes_on()


def test_two_parties_have_a_session_each(served: Served) -> None:
    security = Security.load(served.folder, "guest")
    said = Hello("guest", "digest")
    with connect(served.address, security, said, limits=LIMITS) as guest:
        other = served.server.accept(timeout=5)
        guest.send(Frame("x", 5))
        assert other.receive(timeout=5).step == 5
        assert served.goes_on()
    with pytest.raises(SessionLost):
        other.receive(timeout=5)
    assert served.goes_on()


def test_a_port_in_use_is_said(served: Served) -> None:
    with pytest.raises(PeerError, match=r"cannot listen on 127.0.0.1:\d+: .*name another address"):
        Server(served.address, None, Expected("digest"))


def test_ten_thousand_random_messages_end_their_streams_and_nothing_else(
    served: Served, tmp_path: Path, monkeypatch, caplog
) -> None:
    """From a client with good TLS: alone, and after a good hello, in streams of one connection."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.ERROR, logger="core.split.channel")
    draw = random.Random(0)
    good = chunk(1, 2000, 2000)

    def nonsense(many: int) -> Iterator[bytes]:
        for _ in range(many):
            data = bytearray(good[: draw.randrange(len(good))])
            for place in draw.sample(range(len(data)), min(9, len(data))):
                data[place] = draw.randrange(256)
            yield bytes(data) if draw.random() < 0.5 else draw.randbytes(draw.randrange(500))

    def stream(*messages: bytes) -> grpc.StatusCode:
        call = stub(iter(messages), timeout=20)
        with pytest.raises(grpc.RpcError):
            list(call)
        return call.code()

    with served.transport() as transport:
        stub = transport.stream_stream(METHOD)
        stream(b"warm")
        before = psutil.Process().memory_info().rss
        codes = [stream(*nonsense(20)) for _ in range(300)]
        codes += [stream(hello(session=os.urandom(16)), *nonsense(20)) for _ in range(200)]
    # Or gRPC itself refuses, while too many of the streams before are not cleared away.
    invalid, refused = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE
    assert set(codes) <= {invalid, refused}
    assert codes.count(invalid) > 250
    assert psutil.Process().memory_info().rss - before < 64 << 20
    assert list(tmp_path.iterdir()) == []
    assert served.goes_on()


def test_random_bytes_on_the_port_are_dropped(served: Served, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = random.Random(1)
    before = psutil.Process().memory_info().rss
    for i in range(200):
        with socket.create_connection(("127.0.0.1", served.server.port), timeout=10) as raw:
            start = [
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"\x16\x03\x01\x02\x00",
                b"GET / HTTP/1.1\r\n",
            ]
            raw.sendall((start[i % 3] if i % 4 else b"") + draw.randbytes(draw.randrange(3000)))
    assert psutil.Process().memory_info().rss - before < 64 << 20
    assert list(tmp_path.iterdir()) == []
    assert served.goes_on()


def test_a_process_that_forgets_to_stop_ends_all_the_same() -> None:
    code = (
        "from core.split.channel import Hello\n"
        "from core.split.client import connect\n"
        "from core.split.server import Expected, Server\n"
        "server = Server('127.0.0.1:0', None, Expected('d'))\n"
        "edge = connect(f'127.0.0.1:{server.port}', None, Hello('edge', 'd'))\n"
        "server.accept()\n"
        "raise SystemExit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 9


def test_the_log_of_refusals_has_the_name_that_the_documents_give() -> None:
    assert server_module.log.name == channel_module.log.name == "core.split.channel"


def test_every_party_that_is_expected_can_call_however_many_they_are() -> None:
    names = tuple(f"party{number}" for number in range(24))
    with Server("127.0.0.1:0", None, Expected("digest", names), LIMITS) as server:
        address = f"127.0.0.1:{server.port}"
        channels = [connect(address, None, Hello(n, "digest"), limits=LIMITS) for n in names]
        there = [server.accept(timeout=5) for _ in names]
        assert {channel.hello.party for channel in there} == set(names)
        for channel in channels:
            channel.close(timeout=1)
