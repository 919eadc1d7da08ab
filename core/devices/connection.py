"""One SSH connection to a board. Host keys are always checked; nothing is accepted silently."""

import contextlib
import errno
import json
import logging
import os
import shlex
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko

from core.devices import board
from core.devices.hosts import Host
from core.errors import BoardError, LoginError, UnreachableError
from core.files import digest, writing

log = logging.getLogger(__name__)
logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # what breaks is said here

CONNECT_S = 15.0
KEEPALIVE_S = 5
SILENCE_S = 20.0  # without any answer, a connection is given up
TRANSFER_S = 60.0  # the same while files move: a slow card may take long to write
ANSWER = 16 << 20  # bytes of one line
WINDOW = 16 << 20  # bytes under way: long links need room
PACKET = 1 << 17  # bytes; smaller ones take half as long again

Progress = Callable[[int], None]

# What a connection that broke raises.
BROKEN = (paramiko.SSHException, EOFError, OSError)


MADE = (".made", "conda-meta")  # of a whole environment: by envs/run, by hand


class LostError(UnreachableError):
    """The connection broke; what runs on the board goes on. Try again."""


class ChangedError(BoardError):
    """A file on the board is not what was listed: damaged, or a run wrote it meanwhile."""


class Connection:
    """An open connection. Use it in a `with`.

    Raises LoginError for host keys and logins, UnreachableError where nothing answers.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self._hop = Connection(host.jump) if host.jump else None
        try:
            self._client = _connect(host, self._hop)
        except BaseException:
            self.close()
            raise
        self._sftp: paramiko.SFTPClient | None = None
        self._program: str | None = None

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Safe to call twice."""
        with contextlib.suppress(*BROKEN):
            if hasattr(self, "_client"):
                self._client.close()
        if self._hop is not None:
            self._hop.close()

    def channel(self, address: tuple[str, int]) -> paramiko.Channel:
        """A connection from there to another host."""
        here = ("127.0.0.1", 0)
        return self._transport.open_channel("direct-tcpip", address, here, timeout=CONNECT_S)

    @property
    def here(self) -> str:
        """Address of this host, as the board sees it where nothing translates addresses."""
        sock = self._transport.sock
        assert isinstance(sock, socket.socket)  # not where a host in between stands
        return str(sock.getsockname()[0])

    # The program on the board.

    def ask(self, verb: str, seconds: float = 120.0, **question: Any) -> dict[str, Any]:
        """The answer to one question (core/devices/board.py). Raises BoardError for what the board
        cannot do, LostError."""
        answers: list[dict[str, Any]] = list(self.lines(verb, seconds, **question))
        if len(answers) != 1:
            raise LostError(f"{self.host.name} gave {len(answers)} answers to {verb!r}")
        return answers[0]

    def lines(self, verb: str, seconds: float = SILENCE_S, **question: Any) -> Iterator[Any]:
        """Every line of the answer, as it comes. LostError: after so many seconds without any."""
        python = self.host.python or "python3"
        words = [python, self._carried(), self.host.folder, verb]
        with _lost(self.host):
            stdin, stdout, stderr = self._client.exec_command(_quoted(words), timeout=seconds)
            stdin.write(json.dumps(question))
            stdin.channel.shutdown_write()
            count = 0
            while line := stdout.readline(ANSWER):
                count += 1
                yield self._answer(line)
            code = stdout.channel.recv_exit_status()
            said = stderr.read(4096).decode(errors="replace").strip()
        if code == -1:
            raise LostError(f"{self.host.name}: the connection ended")
        if code != 0 and not (verb == "follow" and count):
            raise BoardError(self._failure(code, said, python))

    def words(self, python: str, program: str) -> list[str]:
        """Lines that a short program prints. Raises BoardError where there is no such Python."""
        with _lost(self.host):
            command = f"{shlex.quote(python)} -c {shlex.quote(program)}"
            _, stdout, stderr = self._client.exec_command(command, timeout=60)
            found = stdout.read(1 << 16).decode(errors="replace").splitlines()
            code = stdout.channel.recv_exit_status()
            said = stderr.read(4096).decode(errors="replace").strip()
        if code != 0:
            raise BoardError(self._failure(code, said, python))
        return found

    def _answer(self, line: str) -> dict[str, Any]:
        try:
            answer = json.loads(line)
        except ValueError:
            raise LostError(f"{self.host.name} answered {line[:80]!r}") from None
        if "error" in answer:
            raise BoardError(self._explained(answer))
        return dict(answer)

    def _explained(self, answer: dict[str, Any]) -> str:
        what = f"{self.host.name}: {answer['path']}: {answer['error']}"
        advice: dict[int | None, str] = {
            errno.ENOSPC: "free some space there (`core devices clean`)",
            errno.EDQUOT: "free some space there (`core devices clean`)",
            errno.EACCES: f"{self.host.user} must be able to write there, or name another folder",
            errno.EROFS: "the disk is read-only; name another folder",
        }
        return (
            f"{what}; {advice.get(answer.get('errno'), 'name another folder in config/hosts.yaml')}"
        )

    def _failure(self, code: int, said: str, python: str) -> str:
        if code in (126, 127):
            return (
                f"{self.host.name} has no {python}; install Python "
                f"{'.'.join(map(str, board.OLDEST_PYTHON))} or newer there, or name another one "
                "(python in config/hosts.yaml)"
            )
        return f"{self.host.name}: {python} ended with exit code {code}: {said[-500:]}"

    def _carried(self) -> str:
        """Path of the program on the board, which is brought there once for each version of it."""
        if self._program is None:
            source = Path(board.__file__)
            name = f"board-{digest(source)[:16]}.py"
            self._program = f"{self.host.folder.rstrip('/')}/{name}"
            path = self._absolute(self._program)
            if self.size(path) != source.stat().st_size:
                self._make_folder(path.rpartition("/")[0])
                self.put(source, path)
        return self._program

    # Files.

    def put(
        self, source: Path, path: str, start: int = 0, progress: Progress | None = None
    ) -> None:
        """Send a file from this byte on. Raises LostError, BoardError for a disk that is full."""
        with source.open("rb") as file, _lost(self.host, path):
            file.seek(start)
            with self.sftp.open(path, "ab" if start else "wb") as there:
                there.set_pipelined(True)
                while block := file.read(PACKET):
                    there.write(block)
                    if progress:
                        progress(len(block))
        # Answers to writes that are not waited for tell nothing; what arrived does.
        if self.size(path) != source.stat().st_size:
            raise BoardError(_not_written(self.host, path))

    def get(self, path: str, target: Path, size: int, progress: Progress | None = None) -> None:
        """Fetch a file; what is there of it already is not fetched again. Raises LostError,
        ChangedError for a file that has gone, StorageError of the disk here."""
        have = target.stat().st_size if target.exists() else 0
        with writing(target), target.open("ab") as file:
            if have > size:
                have = 0
                file.truncate(0)
            for block in self._blocks(path, have, size):
                file.write(block)
                if progress:
                    progress(len(block))

    def _blocks(self, path: str, have: int, size: int) -> Iterator[bytes]:
        """Of a file on the board, what comes after the bytes that are here."""
        with _lost(self.host, path):
            try:
                there = self.sftp.open(path, "rb")
            except FileNotFoundError:
                raise ChangedError(f"{self.host.name}: {path} has gone") from None
            with there:
                there.seek(have)
                there.prefetch(size)
                while have < size and (block := there.read(min(PACKET, size - have))):
                    have += len(block)
                    yield block

    def size(self, path: str) -> int | None:
        """Bytes of a file; None where there is none. Raises LostError."""
        with _lost(self.host, path):
            try:
                return self.sftp.stat(path).st_size
            except FileNotFoundError:
                return None

    def stored(self, sha: str, base: str) -> str:
        """Path at which a file of this checksum comes up from a working directory."""
        return self._absolute(f"{self.host.folder.rstrip('/')}/store/{sha}.{base}.part")

    def has_environment(self, name: str) -> bool:
        """Whether an environment is there, and whole. Raises LostError."""
        folder = f"{self.host.folder.rstrip('/')}/checkout/.envs/{name}"
        return any(self.size(self._absolute(f"{folder}/{mark}")) is not None for mark in MADE)

    @property
    def _transport(self) -> paramiko.Transport:
        transport = self._client.get_transport()
        assert transport is not None  # of a client that is connected
        return transport

    @property
    def sftp(self) -> paramiko.SFTPClient:
        """For files; opened at first use."""
        if self._sftp is None:
            with _lost(self.host):
                self._sftp = paramiko.SFTPClient.from_transport(self._transport, WINDOW, PACKET)
                assert self._sftp is not None
                channel = self._sftp.get_channel()
                assert channel is not None
                channel.settimeout(TRANSFER_S)
        return self._sftp

    def _absolute(self, path: str) -> str:
        """SFTP knows no `~`; relative paths are those of the home folder."""
        return path.removeprefix("~/")

    def _make_folder(self, path: str) -> None:
        at = "/" if path.startswith("/") else ""
        for part in path.strip("/").split("/"):
            at += part
            if self.size(at) is None:
                with _lost(self.host, at):
                    self.sftp.mkdir(at)
            at += "/"


def unreachable(host: Host, error: Exception) -> str:
    """What is said where nothing answers."""
    return (
        f"{host.name} ({host.address}) cannot be reached: {error or type(error).__name__}; is it "
        "switched on and connected?"
    )


def _not_written(host: Host, path: str) -> str:
    return (
        f"{host.name}: {path} could not be written; is the disk full? (`core devices check`, "
        "`core devices clean`)"
    )


@contextlib.contextmanager
def _lost(host: Host, path: str = "") -> Iterator[None]:
    """A broken connection is LostError; errors of the board's disk are BoardError."""
    try:
        yield
    except PermissionError:
        raise BoardError(
            f"{host.name}: {path or host.folder}: permission denied; {host.user} must be able to "
            "write there, or name another folder in config/hosts.yaml"
        ) from None
    except TimeoutError:
        raise LostError(f"{host.name} has stopped answering") from None
    except BROKEN as error:
        if str(error) == "Failure":  # all that SFTP says of a full disk
            raise BoardError(_not_written(host, path)) from None
        raise LostError(f"{host.name}: {error or type(error).__name__}") from None


def _connect(host: Host, hop: Connection | None) -> paramiko.SSHClient:
    for key in host.keys:
        if not Path(key).expanduser().is_file():
            raise LoginError(f"{host.name}: there is no private key {key} (config/hosts.yaml)")
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(_Refuse(host))
    if host.known_hosts.exists():
        try:
            client.load_host_keys(str(host.known_hosts))
        except (paramiko.hostkeys.InvalidHostKey, OSError) as error:
            raise LoginError(
                f"{host.name}: known host keys cannot be read from {host.known_hosts} "
                f"({type(error).__name__}: {error}); mend or remove the line"
            ) from None
    try:
        client.connect(
            host.host,
            host.port,
            host.user,
            key_filename=list(host.keys) or None,  # type: ignore[arg-type]  # as documented
            allow_agent=not host.keys or "SSH_AUTH_SOCK" in os.environ,
            look_for_keys=not host.keys,
            timeout=CONNECT_S,
            banner_timeout=CONNECT_S,
            auth_timeout=CONNECT_S,
            sock=hop.channel((host.host, host.port)) if hop else None,
            transport_factory=_transport,
        )
    except paramiko.BadHostKeyException as error:
        raise LoginError(
            f"{host.name} ({host.address}) shows another host key than the one in "
            f"{host.known_hosts} ({fingerprint(error.key)}): it was installed anew, or something "
            "stands in between. If you know why, remove the old key "
            f"(ssh-keygen -R '[{host.host}]:{host.port}') and run `core devices trust {host.name}`"
        ) from None
    except paramiko.AuthenticationException as error:
        keys = ", ".join(host.keys) or "those of the agent and of ~/.ssh"
        raise LoginError(
            f"{host.name} ({host.address}) refuses the login: {error}; keys tried: {keys}. Copy a "
            f"public key there (ssh-copy-id -p {host.port} {host.user}@{host.host})"
        ) from None
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise UnreachableError(unreachable(host, error)) from None
    transport = client.get_transport()
    assert transport is not None
    transport.set_keepalive(KEEPALIVE_S)
    return client


def _transport(*words: Any, **options: Any) -> paramiko.Transport:
    """AES-GCM first, which authenticates by itself: half as fast again as with a hash beside it."""
    transport = paramiko.Transport(*words, **options)
    allowed = transport.get_security_options()
    allowed.ciphers = sorted(allowed.ciphers, key=lambda name: "gcm" not in name)
    return transport


class _Refuse(paramiko.MissingHostKeyPolicy):
    """An unknown host key is an error that says how to make it known."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def missing_host_key(self, client: Any, hostname: str, key: paramiko.PKey) -> None:
        raise LoginError(
            f"{self._host.name} ({self._host.address}): its host key is not known "
            f"({fingerprint(key)}); compare it with what the board says (ssh-keygen -lf "
            f"/etc/ssh/ssh_host_ed25519_key.pub) and run `core devices trust {self._host.name}`"
        )


def fingerprint(key: paramiko.PKey) -> str:
    """As ssh-keygen shows it."""
    return f"{key.get_name()} {key.fingerprint}"


def _quoted(words: list[str]) -> str:
    """For the board's shell, which has to expand `~`."""
    return " ".join(w if w.startswith("~/") and " " not in w else shlex.quote(w) for w in words)
