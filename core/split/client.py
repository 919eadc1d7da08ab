"""The edge's end of a channel: it calls, and calls again when the stream breaks."""

import logging
import os
import random
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from core.errors import PeerError
from core.split import wire
from core.split.certificates import Security
from core.split.channel import (
    DEFAULT,
    METHOD,
    VERSION,
    Channel,
    Hello,
    LinkObserver,
    SessionLost,
    Stream,
)
from core.split.window import Limits
from core.split.wire_pb2 import Hello as HelloMessage
from core.split.wire_pb2 import Message, Welcome

log = logging.getLogger(__name__)

ANSWER = 30.0  # seconds for the welcome

# What the server means when it ends a stream itself.
_REFUSED = {
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
}
# How a connection ends that was taken and then dropped.
_HUNG_UP = ("Socket closed", "Connection reset")
HANG_UPS = 3  # in a row say that it is meant; a cloud that ends just now hangs up once
LOOK_S = 3.0  # for a connection that only looks

# What a handshake says that another attempt will not cure.
_DISTRUSTED = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification", "WRONG_VERSION_NUMBER")


class Backoff:
    """Waits between attempts: twice as long each time, shortened at random by up to a half.

    So that sides which lost each other at the same moment do not come back at the same moment.
    """

    def __init__(
        self,
        patience: float,
        first: float = 0.1,
        longest: float = 5.0,
        jitter: random.Random | None = None,
    ) -> None:
        self.patience, self.first, self.longest = patience, first, longest
        self.attempts = 0
        self._jitter = jitter or random.Random()

    def wait(self, elapsed: float) -> float | None:
        """Seconds to wait after an attempt that failed, `elapsed` seconds after the first one
        began; None when patience is over. The last attempt comes when it ends."""
        self.attempts += 1
        if elapsed >= self.patience:
            return None
        full = min(self.longest, self.first * 2.0 ** min(self.attempts - 1, 60))
        return min(full * self._jitter.uniform(0.5, 1.0), self.patience - elapsed)


class _Broken(Exception):  # noqa: N818
    """A stream could not be had, or is over; another attempt may do."""


def connect(
    address: str,
    security: Security | None,
    hello: Hello,
    observer: LinkObserver | None = None,
    limits: Limits = DEFAULT,
    called: str = "cloud",
    made: Callable[[Channel], object] = lambda channel: None,
) -> Channel:
    """A new session with the cloud at `address` (host:port). Waits for it to be there.

    security: None speaks plain text. called: what messages call the other side. made: gets the
    channel before it has met anybody. Raises PeerError when the cloud cannot be reached within
    `limits.patience` seconds, is not who its certificate should say, or refuses.
    """
    channel = Channel(hello, limits, observer)
    made(channel)
    caller = _Caller(address, security, channel, called)
    threading.Thread(target=caller.run, name="split-client", daemon=True).start()
    try:
        channel.wait_attached()
    except BaseException:
        channel.fail(PeerError("this side gave up"))
        raise
    return channel


class _Caller:
    """Keeps a channel connected, from a thread of its own that also reads."""

    def __init__(
        self, address: str, security: Security | None, channel: Channel, called: str
    ) -> None:
        self.address, self.security, self.channel = address, security, channel
        self.called = f"the {called} at {address}"
        self.session = os.urandom(16)
        self.known = False  # the cloud has welcomed this session

    def run(self) -> None:
        """Until the session is over, one way or the other."""
        try:
            while not self.channel.wait_over(0):
                self._connected()
        except PeerError as error:
            self.channel.fail(error)
        except Exception as error:  # whoever waits must not wait for ever
            log.exception("the connection to %s ended", self.address)
            self.channel.fail(PeerError(f"the connection to {self.address} ended: {error!r}"))

    def _connected(self) -> None:
        """One stream, from its first attempt to its end. Raises PeerError."""
        backoff, began = Backoff(self.channel.limits.patience), time.monotonic()
        streams, hang_ups = self.channel.reconnects, 0
        while self.channel.reconnects == streams:
            try:
                self._call()
            except _Broken as reason:
                if self.channel.wait_over(0):
                    return
                if self.channel.reconnects > streams:
                    log.warning("connection to %s lost (%s); calling again", self.address, reason)
                    return
                hang_ups = hang_ups + 1 if self._is_hung_up_on(reason) else 0
                if hang_ups == HANG_UPS:
                    raise PeerError(self._distrusted()) from None
                pause = backoff.wait(time.monotonic() - began)
                if pause is None:
                    raise PeerError(self._unreachable(backoff, reason)) from None
                level = logging.WARNING if backoff.attempts == 1 else logging.INFO
                log.log(level, "%s not reached (%s); again in %.1f s", self.address, reason, pause)
                if self.channel.wait_over(pause):
                    return

    def _unreachable(self, backoff: Backoff, reason: Exception) -> str:
        hint = "Look whether it runs, and at the link between"
        if "Socket closed" in str(reason):
            hint = "It answers and hangs up: perhaps only one side speaks TLS"
        return (
            f"{self.called} cannot be reached: tried {backoff.attempts} times in "
            f"{backoff.patience:g} s, at most {backoff.longest:g} s apart; the last time: {reason}"
            f". {hint}. Snapshots are safe: the same command goes on"
        )

    def _is_hung_up_on(self, reason: Exception) -> bool:
        """Whether that may be what the other side thinks of this one's certificate."""
        hung_up = any(word in str(reason) for word in _HUNG_UP)
        return hung_up and self.security is not None and hangs_up(self.address, self.security)

    def _distrusted(self) -> str:
        return (
            f"{self.called} does not trust this side's certificate: it takes a connection and ends "
            f"it when it has seen that, {HANG_UPS} times in a row. Both sides need certificates of "
            "one authority, valid by both clocks: make all of them again (`split certificates`), "
            "or set the clocks"
        )

    def _call(self) -> None:
        """Open a stream and read it until its end. Raises _Broken, PeerError."""
        with self._transport() as transport:
            stream = Stream(self.channel.limits)
            call = transport.stream_stream(METHOD)(self._outgoing(stream))
            stream.cancel = call.cancel
            timer = threading.Timer(ANSWER, call.cancel)
            timer.daemon = True
            timer.start()
            try:
                self._attach(stream, next(call))
                timer.cancel()
                for data in call:
                    self.channel.incoming(stream, data)
            except wire.WireError as error:
                raise PeerError(f"{self.called} sent nonsense: {error}") from error
            except StopIteration:
                raise _Broken("it ended the stream") from None
            except grpc.RpcError as error:
                raise self._meaning(error) from None
            finally:
                timer.cancel()
                self.channel.detach(stream)
                call.cancel()
            raise _Broken("it ended the stream")

    def _transport(self) -> grpc.Channel:
        options = [
            ("grpc.max_receive_message_length", wire.MESSAGE),
            ("grpc.max_send_message_length", wire.MESSAGE),
            ("grpc.use_local_subchannel_pool", 1),  # gRPC's own back-off must not outlive a call
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0),
            wire.full_link(self.channel.limits.patience),
        ]
        if self.security is None:
            return grpc.insecure_channel(self.address, options)
        credentials = grpc.ssl_channel_credentials(
            self.security.authority, self.security.key, self.security.certificate
        )
        return grpc.secure_channel(self.address, credentials, options)

    def _outgoing(self, stream: Stream) -> Iterator[bytes]:
        hello = self.channel.hello
        message = HelloMessage(
            version=VERSION,
            digest=hello.digest,
            party=hello.party,
            session=self.session,
            known=self.known,
            snapshots=hello.snapshots,
            acknowledged=self.channel.acknowledged,
            limits=self.channel.limits.message(),
        )
        yield wire.pack(Message(hello=message))
        yield from self.channel.outgoing(stream)

    def _attach(self, stream: Stream, data: bytes) -> None:
        message, _ = wire.unpack(data)
        if not message.HasField("welcome"):
            raise wire.WireError("its first message is no welcome")
        welcome: Welcome = message.welcome
        if not self.known:
            self.channel.start = welcome.start
        self.known = True
        self.channel.attach(stream, welcome.acknowledged, welcome.limits)
        if self.channel.reconnects:
            log.info("connected to %s again", self.address)

    def _meaning(self, error: grpc.RpcError) -> Exception:
        code, details = error.code(), error.details() or ""
        if code == grpc.StatusCode.NOT_FOUND:
            return SessionLost(f"{self.called} lost the session: {details}")
        if code in _REFUSED:
            return PeerError(f"{self.called} refused: {details}")
        if any(word in details for word in _DISTRUSTED):
            return PeerError(
                f"{self.called} is not trusted: {details}. Both sides need "
                "certificates of one authority, and the one that is called must name the host"
            )
        return _Broken(f"{code.name}: {details}")


def hangs_up(address: str, security: Security) -> bool:
    """Whether who listens there takes a TLS connection and ends it without a word. So does gRPC
    with a certificate that it does not trust: it sends no alert, which would say more. Whom it
    trusts it greets at once. Nothing is sent here."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    context = ssl.create_default_context(cadata=security.authority.decode())
    context.set_alpn_protocols(["h2"])
    with tempfile.TemporaryDirectory() as folder:  # the library reads files only
        chain = Path(folder) / "chain.pem"
        chain.touch(mode=0o600)
        chain.write_bytes(security.key + b"\n" + security.certificate)
        context.load_cert_chain(chain)
    try:
        with (
            socket.create_connection((host, int(port)), LOOK_S) as raw,
            context.wrap_socket(raw, server_hostname=host) as end,
        ):
            return end.recv(1) == b""
    except (OSError, ValueError):  # it is gone, or silent, or this side does not trust it
        return False
