"""A real HTTP server on loopback that can be as awkward as the test wants."""

import hashlib
import io
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from core.data.catalog import Package, Url
from core.data.download import Backoff


@dataclass
class Served:
    """One file, and how the server misbehaves with it."""

    content: bytes
    etag: str | None = '"one"'
    ranges: bool = True
    cut_first: list[int] = field(default_factory=list)  # bytes sent before the line drops
    statuses: list[int] = field(default_factory=list)  # answered first, one by one
    announced: int | None = None  # Content-Length that is not true
    pause: float = 0.0  # seconds before the body
    headers: dict[str, str] = field(default_factory=dict)


class Server(ThreadingHTTPServer):
    """Serves `files` by path and remembers what it was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, str | None]] = []  # path, Range

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range")))
        self.close_connection = True
        served = self.server.files.get(self.path)
        if served is None:
            self._reply(404, 0, {})
        elif served.statuses:
            self._reply(served.statuses.pop(0), 0, served.headers)
        else:
            self._send(served)

    def _send(self, served: Served) -> None:
        start, status, headers = 0, 200, dict(served.headers)
        if served.etag:
            headers["ETag"] = served.etag
        wanted = self.headers.get("Range")
        if wanted and served.ranges and self.headers.get("If-Range") == served.etag:
            start, status = int(wanted[len("bytes=") : -1]), 206
            size = len(served.content)
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        body = served.content[start:]
        length = len(body) if served.announced is None else served.announced
        self._reply(status, length, headers)
        time.sleep(served.pause)
        if served.cut_first:
            body = body[: served.cut_first.pop(0)]
        self.wfile.write(body)

    def _reply(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {
            "Connection": "close",
            "Content-Length": str(length),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


@contextmanager
def running() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def other_server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def redirected() -> Callable[[str], Served]:
    """redirected(address) -> what a server sends on to that address."""
    return lambda address: Served(b"", statuses=[302], headers={"Location": address})


@pytest.fixture(autouse=True)
def clean_environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mirror, index or proxy of this machine gets into a test that makes its own."""
    if request.node.get_closest_marker("slow"):
        return
    for name in ("DATA_MIRROR", "PIP_INDEX_URL", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def hurried() -> Backoff:
    """Three tries without much of a pause."""
    return Backoff(tries=3, first=0.01, factor=1.0)


@pytest.fixture
def serve(server: Server) -> Any:
    """serve(content, **quirks) -> the Url of a file `thing.bin` on the server."""

    def serve(content: bytes, **quirks: Any) -> Url:
        server.files["/thing.bin"] = Served(content, **quirks)
        checksum = hashlib.sha256(content).hexdigest()
        return Url("thing.bin", "sha256", checksum, None, (), f"{server.base}/thing.bin")

    return serve


@pytest.fixture
def package_index(server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """package_index(filename, content) -> the Package of a file on an index on the server."""

    def publish(filename: str, content: bytes, listed: str | None = None, **more: Any) -> Package:
        checksum = hashlib.sha256(content).hexdigest()
        link = f'<a href="/files/{filename}#sha256={listed or checksum}">{filename}</a>'
        page = f"<!DOCTYPE html><html><body>{link}</body></html>".encode()
        server.files["/simple/thing/"] = Served(page, headers={"Content-Type": "text/html"})
        server.files[f"/files/{filename}"] = Served(content)
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.base}/simple/")
        member = more.get("member", ())
        return Package(filename, "sha256", checksum, len(content), member, "thing", "1.0")

    return publish


ELPV = [
    (label, kind) for kind in ("mono", "poly") for label in (0, 0, 0, 0, 1, 1, 1, 1, 2, 3, 2, 3)
]


@pytest.fixture
def elpv_wheel() -> bytes:
    """A wheel of the layout of ELPV: 24 cells, image number n all of grey level 10 n."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        rows = []
        for number, (thirds, kind) in enumerate(ELPV):
            rows.append(f"images/cell{number:04d}.png  {thirds / 3}   {kind}")
            image = io.BytesIO()
            Image.new("L", (300, 300), 10 * number).save(image, "png")
            wheel.writestr(f"elpv_dataset/data/images/cell{number:04d}.png", image.getvalue())
        wheel.writestr("elpv_dataset/data/labels.csv", "\n".join(rows) + "\n")
    return buffer.getvalue()
