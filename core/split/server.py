"""The cloud's end: one port, one session per party."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

import grpc

from core.errors import PeerError
from core.split import wire
from core.split.certificates import Security
from core.split.channel import DEFAULT, METHOD, VERSION, Channel, Hello, SessionLost, Stream
from core.split.window import Limits
from core.split.wire_pb2 import Hello as HelloMessage
from core.split.wire_pb2 import Message, Welcome

log = logging.getLogger("core.split.channel")

CALLS = 16  # streams at the same time at most, beside those of the parties
GREETING = 15.0  # seconds until a stream has said who it is, and is welcome
ALIVE = 5.0  # seconds for a sign of life of a party that seems to call twice

Code = grpc.StatusCode


def from_the_start(hello: Hello) -> int:
    """Step 0, whatever snapshots the edge has."""
    return 0


@dataclass(frozen=True)
class Expected:
    """digest: of the run spec. parties: names that may call. start: from the edge's hello to the
    step that both go on from; called in a thread of the server for every new session, and may
    raise PeerError to refuse."""

    digest: str
    parties: tuple[str, ...] = ("edge",)
    start: Callable[[Hello], int] = from_the_start


class _Refusal(Exception):  # noqa: N818
    """Why a stream ends; the other side gets both."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Session:
    """A channel, and the clock that runs while its edge is away."""

    def __init__(self, number: bytes, channel: Channel) -> None:
        self.number, self.channel = number, channel
        self._timer: threading.Timer | None = None

    def enter(self, stream: Stream, hello: HelloMessage) -> bytes:
        """Go on over this stream; the welcome to send first. Raises WireError, _Refusal."""
        stream.cancel = lambda: self.leave(stream)
        try:
            self.channel.attach(stream, hello.acknowledged, hello.limits)
        except PeerError as error:
            raise _Refusal(Code.NOT_FOUND, str(error)) from error
        self.stop_clock()
        if self.channel.reconnects:
            log.info("%r is back", self.channel.hello.party)
        welcome = Welcome(
            start=self.channel.start,
            acknowledged=self.channel.acknowledged,
            limits=self.channel.limits.message(),
        )
        return wire.pack(Message(welcome=welcome))

    def leave(self, stream: Stream) -> None:
        """The stream is over; the session too, if the edge does not come back in time."""
        if self.channel.detach(stream):
            log.warning("%r is gone; waiting for it", self.channel.hello.party)
            self._timer = threading.Timer(self.channel.limits.patience, self._expire)
            self._timer.daemon = True
            self._timer.start()

    def stop_clock(self) -> None:
        """The edge is there, or nobody waits for it."""
        if self._timer:
            self._timer.cancel()

    def _expire(self) -> None:
        if not self.channel.alive:
            self.channel.fail(
                PeerError(
                    f"{self.channel.hello.party!r} did not come back within "
                    f"{self.channel.limits.patience:g} s. Look whether it runs, and at the link "
                    "between. Snapshots are safe: the same command goes on"
                )
            )


class _Call:
    """One call of an edge: two threads, the one that reads and the one that writes, meet here."""

    def __init__(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> None:
        self.requests, self.peer = requests, context.peer()
        auth = context.auth_context()
        names = auth.get("x509_common_name", []), auth.get("x509_subject_alternative_name", [])
        self.names = {name.decode(errors="replace") for some in names for name in some}
        self.refusal: _Refusal | None = None
        self._entered: queue.SimpleQueue[tuple[_Session, Stream, bytes] | None]
        self._entered = queue.SimpleQueue()

    def enter(self, session: _Session, stream: Stream, welcome: bytes) -> None:
        """The reader says: welcome."""
        self._entered.put((session, stream, welcome))

    def end(self, refusal: _Refusal | None = None) -> None:
        """The reader says: it went, or it has to go, welcome or not."""
        self.refusal = refusal
        self._entered.put(None)

    def entered(self) -> tuple[_Session, Stream, bytes] | None:
        """The writer waits for the reader's word. Raises _Refusal."""
        try:
            entered = self._entered.get(timeout=GREETING)
        except queue.Empty:
            raise _Refusal(Code.DEADLINE_EXCEEDED, "it did not say hello") from None
        return entered


class _Threads(Executor):
    """A thread for each call; unlike those of a pool they do not keep the process from ending."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it now."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, name="split-write", daemon=True).start()
        return future


class Server:
    """Listens at once. A new session of a party whose old one has no living connection replaces
    it: the old channel raises SessionLost. Writes no file; a refusal is one line in the log.
    As a context manager it stops at the end.
    """

    def __init__(
        self,
        address: str,
        security: Security | None,
        expected: Expected,
        limits: Limits = DEFAULT,
    ) -> None:
        """address: host:port to listen on; port 0 takes a free one (`port` says which).
        security: None speaks plain text, and believes who anybody says he is.
        Raises PeerError when it cannot listen there."""
        self.expected, self.limits, self.security = expected, limits, security
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}
        self._new: queue.SimpleQueue[Channel] = queue.SimpleQueue()
        calls = CALLS + 2 * len(expected.parties)  # of each, its own and one that takes over
        options = [
            ("grpc.so_reuseport", 0),  # a port in use is an error
            ("grpc.max_receive_message_length", wire.MESSAGE),
            ("grpc.max_send_message_length", wire.MESSAGE),
            ("grpc.max_concurrent_streams", calls),
            ("grpc.server_handshake_timeout_ms", int(1000 * GREETING)),
            wire.full_link(limits.patience),
        ]
        self._server = grpc.server(
            _Threads(),
            options=options,
            maximum_concurrent_rpcs=calls,
        )
        service, method = METHOD.strip("/").split("/")
        handlers = {method: grpc.stream_stream_rpc_method_handler(self._serve)}
        generic = grpc.method_handlers_generic_handler(service, handlers)
        self._server.add_generic_rpc_handlers((generic,))
        self.port = self._listen(address)
        self._server.start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def accept(self, timeout: float | None = None) -> Channel:
        """The next new session. Raises TimeoutError when none came within `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                channel = self._new.get(timeout=left)
            except queue.Empty:
                raise TimeoutError(f"nobody called within {timeout} s") from None
            if channel.failure is None:  # not replaced in the meantime
                return channel

    def stop(self) -> None:
        """End every session in good order, free the port."""
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            session.channel.close(timeout=2.0)
            session.stop_clock()
        self._server.stop(grace=1.0).wait()

    def _listen(self, address: str) -> int:
        try:
            if self.security is None:
                return int(self._server.add_insecure_port(address))
            credentials = grpc.ssl_server_credentials(
                [(self.security.key, self.security.certificate)],
                root_certificates=self.security.authority,
                require_client_auth=True,
            )
            return int(self._server.add_secure_port(address, credentials))
        except RuntimeError as error:
            raise PeerError(
                f"cannot listen on {address}: {error}; name another address or port, or stop "
                "what uses it"
            ) from error

    def _serve(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """One call: yields what goes down. A thread of its own reads what comes up."""
        call = _Call(requests, context)
        threading.Thread(target=self._read, args=(call,), name="split-read", daemon=True).start()
        try:
            if entered := call.entered():
                session, stream, welcome = entered
                if context.add_callback(lambda: session.leave(stream)):
                    yield welcome
                    yield from session.channel.outgoing(stream)
                session.leave(stream)
            if call.refusal:
                raise call.refusal
        except _Refusal as refusal:
            log.warning("refused %s: %s", call.peer, refusal)
            context.abort(refusal.code, str(refusal))

    def _read(self, call: _Call) -> None:
        """Greet, then take in what comes, until the stream ends."""
        stream = Stream(self.limits)
        session = None
        try:
            hello = _hello(next(call.requests))
            session = self._session(hello, call.names)
            welcome = session.enter(stream, hello)
            self._register(session)
            call.enter(session, stream, welcome)
            for data in call.requests:
                session.channel.incoming(stream, data)
        except _Refusal as refusal:
            call.end(refusal)
        except wire.WireError as error:
            call.end(_Refusal(Code.INVALID_ARGUMENT, str(error)))
        except (StopIteration, grpc.RpcError):
            call.end()
        except Exception as error:
            log.exception("the stream of %s ended", call.peer)
            call.end(_Refusal(Code.INTERNAL, repr(error)))
        finally:
            if session:
                session.leave(stream)

    def _session(self, hello: HelloMessage, names: set[str]) -> _Session:
        """The one that the edge means, or a new one. Raises _Refusal."""
        self._check(hello, names)
        with self._lock:
            current = self._sessions.get(hello.party)
        if current and current.channel.failure:
            current = None
        if current and current.number == hello.session:
            return current
        if hello.known:
            raise _Refusal(Code.NOT_FOUND, "this session is not known here; open another one")
        if current and _answers(current.channel):
            raise _Refusal(Code.ALREADY_EXISTS, f"{hello.party!r} is already connected; stop it")
        return self._new_session(hello)

    def _check(self, hello: HelloMessage, names: set[str]) -> None:
        if hello.version != VERSION:
            text = f"it speaks protocol version {hello.version}, here is version {VERSION}"
            raise _Refusal(Code.FAILED_PRECONDITION, f"{text}; install the same on both sides")
        if hello.party not in self.expected.parties:
            text = f"party {hello.party[:64]!r} is not expected, only "
            raise _Refusal(Code.PERMISSION_DENIED, text + ", ".join(self.expected.parties))
        if self.security and hello.party not in names:
            text = f"{hello.party!r} came with the certificate of {sorted(names)}"
            raise _Refusal(Code.PERMISSION_DENIED, text)
        if hello.digest != self.expected.digest:
            text = f"its spec has the digest {hello.digest[:64]!r}, here {self.expected.digest!r}"
            raise _Refusal(Code.FAILED_PRECONDITION, f"{text}; give both sides the same spec")

    def _new_session(self, hello: HelloMessage) -> _Session:
        said = Hello(hello.party, hello.digest, tuple(hello.snapshots))
        try:
            start = self.expected.start(said)
        except PeerError as error:
            raise _Refusal(Code.FAILED_PRECONDITION, str(error)) from error
        return _Session(hello.session, Channel(said, self.limits, start=start))

    def _register(self, session: _Session) -> None:
        """A new session takes the place of the party's old one."""
        party = session.channel.hello.party
        with self._lock:
            old = self._sessions.get(party)
            self._sessions[party] = session
        if old is session:
            return
        if old:
            old.stop_clock()
            old.channel.fail(SessionLost(f"{party!r} came back with a new session"))
        self._new.put(session.channel)


def _hello(data: bytes) -> HelloMessage:
    message, _ = wire.unpack(data)
    if not message.HasField("hello"):
        raise wire.WireError("the first message is no hello")
    if len(message.hello.session) != 16:
        raise wire.WireError("the session has no number of 16 bytes")
    return message.hello


def _answers(channel: Channel) -> bool:
    """Whether the other end is there now; what looks connected may be a dead link."""
    asked = time.monotonic()
    channel.ping(urgent=True)
    while channel.alive and channel.heard < asked and time.monotonic() < asked + ALIVE:
        time.sleep(0.02)
    return channel.alive and channel.heard >= asked
