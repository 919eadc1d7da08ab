"""One file over HTTP: resumed, retried, verified, locked against a second fetcher.

It is looked for in this order: in the downloads folder, in the mirror (`DATA_MIRROR`), at its
origin (package index or address).
"""

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple

from core.data.catalog import Download, Package, Url
from core.data.progress import bytes_bar
from core.errors import DataError
from core.files import CHUNK, digest, exclusive, flush, require_room, write_text, writing

log = logging.getLogger("core.data")

MIRROR = "DATA_MIRROR"
TIMEOUT = (10.0, 60.0)  # seconds to connect, seconds of silence
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Backoff:
    """Pauses between tries: `first` seconds, then `factor` times longer, at most `limit`."""

    tries: int = 5
    first: float = 0.5
    factor: float = 2.0
    limit: float = 30.0

    def pauses(self) -> Iterator[float]:
        """One pause after every try but the last, in seconds."""
        for count in range(self.tries - 1):
            yield min(self.limit, self.first * self.factor**count)


PATIENCE = Backoff()


@dataclass(frozen=True)
class _Place:
    """Where a file may be; `locate` gives its address and may ask the package index for it."""

    label: str
    locate: Callable[[requests.Session], str]


class _Session(requests.Session):
    """Trusts the bundle of certificates that PIP_CERT names, as pip does.

    Setting `verify` would not do: requests lets its own REQUESTS_CA_BUNDLE win over that.
    """

    def merge_environment_settings(
        self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
    ) -> Any:
        """Called by requests for every request."""
        bundle = os.environ.get("PIP_CERT") or verify
        return super().merge_environment_settings(url, proxies, stream, bundle, cert)


class _UnavailableError(Exception):
    """This place does not have the file, for the reason given."""


class _InterruptedError(Exception):
    """The transfer broke off; trying again may help."""


def download(source: Download, folder: Path, backoff: Backoff = PATIENCE) -> Path:
    """Bring the file of `source` into the downloads folder `folder`; its path there.

    A file already there is used when its checksum is right. A `.part` file is continued when the
    server confirms that it is still the same file. A file with a wrong checksum is set aside as
    `<name>.rejected`. Where none is published, the size must be right, only an address with TLS
    will do, and what an earlier process began is not continued. Raises DataError that says what
    to do by hand when no place has the file, StorageError when the disk is full or the folder
    cannot be written.
    """
    target = (folder / source.filename).resolve()
    with exclusive(_beside(target, ".lock")):
        part = _beside(target, ".part")
        problems: list[str] = []
        if target.exists():
            try:
                return _settle(target, target, source)
            except _UnavailableError as problem:
                log.warning("%s: %s", source.filename, problem)
                problems.append(f"downloads folder: {problem}")
        if not source.checksum:
            part.unlink(missing_ok=True)  # nothing could tell whether it has a hole in it
        elif _length(part) == source.size and source.matches(digest(part, source.algorithm)):
            return _settle(part, target, source)  # killed just before its renaming
        for bring in _places(source):
            try:
                bring(part, backoff)
                return _settle(part, target, source)
            except _UnavailableError as problem:
                log.warning("%s: %s", source.filename, problem)
                problems.append(str(problem))
        raise DataError(_by_hand(source, target, problems))


def mirror_folder() -> Path | None:
    """The folder that DATA_MIRROR names; None when it is not set or an address."""
    mirror = os.environ.get(MIRROR, "")
    return Path(mirror).expanduser() if mirror and not _is_address(mirror) else None


def _places(source: Download) -> Iterator[Callable[[Path, Backoff], None]]:
    mirror = os.environ.get(MIRROR, "")
    if folder := mirror_folder():
        yield lambda part, _: _copy(source, folder / source.filename, part)
    elif mirror:
        address = f"{mirror.rstrip('/')}/{source.filename}"
        place = _Place(f"mirror {_shown(address)}", lambda _: address)
        yield lambda part, backoff: _fetch(source, place, part, backoff)
    origin = _origin(source)
    yield lambda part, backoff: _fetch(source, origin, part, backoff)


def _origin(source: Download) -> _Place:
    match source:
        case Package():
            index = os.environ.get("PIP_INDEX_URL") or PYPI_SIMPLE_ENDPOINT
            label = f"package index {_shown(index)}"
            return _Place(label, lambda session: _ask_index(source, index, session))
        case Url():
            return _Place(_shown(source.url), lambda _: source.url)
    raise TypeError(f"no way to fetch a {type(source).__name__}")


def _ask_index(source: Package, index: str, session: requests.Session) -> str:
    """The address of the one pinned file."""
    try:
        page = PyPISimple(index, session=session).get_project_page(source.project, timeout=TIMEOUT)
    except NoSuchProjectError:
        raise _UnavailableError(f"has no project {source.project}") from None
    for package in page.packages:
        if package.filename == source.filename:
            listed = package.digests.get(source.algorithm, source.checksum)
            if listed != source.checksum:
                raise _UnavailableError(
                    f"lists {source.algorithm} {listed}, the catalog expects {source.checksum}"
                )
            return package.url
    raise _UnavailableError(f"has no file {source.filename}")


def _copy(source: Download, original: Path, part: Path) -> None:
    """Copy from a mirror folder; the original is left as it is, whatever its checksum."""
    try:
        file = original.open("rb")
    except OSError as error:
        raise _UnavailableError(f"mirror {original}: {error.strerror}") from None
    log.info("%s: copied from %s", source.filename, original)
    with file, writing(part), part.open("wb") as copy:
        shutil.copyfileobj(file, copy, CHUNK)


def _fetch(source: Download, place: _Place, part: Path, backoff: Backoff) -> None:
    """Bring the .part file to its full length. Raises _UnavailableError."""
    log.info("%s: from %s", source.filename, place.label)
    with _Session() as session:
        try:
            resumed = _persist(source, place, part, session, backoff)
            if resumed and not source.matches(digest(part, source.algorithm)):
                # A power cut can leave a .part file with a hole in it.
                log.warning("%s: what was there already is damaged; starting over", part.name)
                part.unlink()
                _persist(source, place, part, session, backoff)
        except _UnavailableError as problem:
            raise _UnavailableError(f"{place.label}: {problem}") from None


def _persist(
    source: Download, place: _Place, part: Path, session: requests.Session, backoff: Backoff
) -> bool:
    """Try until the transfer is complete; whether bytes of an earlier session were kept."""
    pauses, furthest = backoff.pauses(), _length(part)
    kept = furthest > 0
    while True:
        try:
            started_at = _transfer(source, place, part, session)
            return kept and started_at > 0
        except _InterruptedError as problem:
            if _length(part) > furthest:  # it goes on: patience starts again
                pauses, furthest = backoff.pauses(), _length(part)
            pause = next(pauses, None)
            if pause is None:
                raise _UnavailableError(str(problem)) from None
            log.warning("%s: %s; next try in %.1f s", place.label, problem, pause)
            time.sleep(pause)


def _transfer(source: Download, place: _Place, part: Path, session: requests.Session) -> int:
    """One request to the end of the file; the byte it started at (0: from the beginning)."""
    try:
        address = place.locate(session)
        headers = {"Accept-Encoding": "identity", **_resume_headers(part, address)}
        with session.get(address, headers=headers, stream=True, timeout=TIMEOUT) as reply:
            _require_tls(source, reply)
            start = _accept(reply, part, _asked_start(headers))
            total = _total(source, reply, start)
            require_room(part.parent, (total or 0) - start, source.filename)
            if start == 0:
                _begin(part, reply, address)
            _receive(source, reply, part, total)
            return start
    except requests.exceptions.SSLError as error:
        raise _UnavailableError(
            f"its TLS certificate is not trusted here ({error}); PIP_CERT can name a bundle"
        ) from None
    except requests.exceptions.Timeout:
        raise _InterruptedError("no answer in time") from None
    except (requests.exceptions.ConnectionError, urllib3.exceptions.HTTPError) as error:
        raise _InterruptedError(f"no connection, or it broke off ({_cause(error)})") from None
    except requests.exceptions.HTTPError as error:  # from the package index
        raise _refusal(error.response.status_code if error.response is not None else 0) from None
    except (requests.RequestException, ValueError) as error:
        raise _UnavailableError(f"cannot be asked: {error}") from None


def _require_tls(source: Download, reply: requests.Response) -> None:
    """Raises where no checksum vouches for the file and no certificate for the server."""
    way = [answer.url for answer in (*reply.history, reply)]
    if not source.checksum and not all(url.startswith("https:") for url in way):
        raise _UnavailableError("no checksum is published, so only https will do")


def _accept(reply: requests.Response, part: Path, asked: int) -> int:
    """The byte that the body starts at. Raises when the reply is of no use."""
    if reply.status_code == 200:
        return 0
    if reply.status_code == 206:
        found = re.match(r"bytes (\d+)-", reply.headers.get("Content-Range", ""))
        same = _validator(reply) in (None, _read_state(part).get("validator"))
        if found and int(found[1]) == asked and same:
            return asked
    if reply.status_code in (206, 416):
        part.unlink(missing_ok=True)
        raise _InterruptedError("the server cannot continue the file; starting over")
    raise _refusal(reply.status_code)


def _refusal(status: int) -> Exception:
    message = f"HTTP status {status}"
    return _InterruptedError(message) if status in _TRY_AGAIN else _UnavailableError(message)


def _begin(part: Path, reply: requests.Response, address: str) -> None:
    """An empty .part file, and beside it what a later request needs to continue it."""
    with writing(part):
        part.open("wb").close()
    state = {"address": _shown(address), "validator": _validator(reply)}
    write_text(_state(part), json.dumps(state))


def _receive(source: Download, reply: requests.Response, part: Path, total: int | None) -> None:
    """Append the body to the .part file, never beyond the size that was announced."""
    received = _length(part)
    with (
        bytes_bar(source.filename, total, received) as bar,
        writing(part),
        part.open("ab") as file,
    ):
        # As it was sent: some servers call a .tgz gzip-encoded, and requests would unpack it.
        for block in reply.raw.stream(CHUNK, decode_content=False):
            received += len(block)
            if total is not None and received > total:
                raise _UnavailableError(f"sends more than the {total} bytes expected")
            file.write(block)
            bar.update(len(block))
    if total is not None and received < total:
        raise _InterruptedError(f"broke off after {received} of {total} bytes")


def _total(source: Download, reply: requests.Response, start: int) -> int | None:
    """Bytes of the whole file. Raises when the server offers another size than the catalog's."""
    length = reply.headers.get("Content-Length", "")
    offered = start + int(length) if length.isdigit() else source.size
    if source.size not in (None, offered):
        raise _UnavailableError(f"offers {offered} bytes, the catalog expects {source.size}")
    return offered


def _resume_headers(part: Path, address: str) -> dict[str, str]:
    """Ask for the rest only where the server can tell whether the file is still the same."""
    state = _read_state(part)
    if _length(part) and state.get("address") == _shown(address) and state.get("validator"):
        return {"Range": f"bytes={_length(part)}-", "If-Range": state["validator"]}
    return {}


def _asked_start(headers: dict[str, str]) -> int:
    return int(headers.get("Range", "bytes=0-")[len("bytes=") : -1])


def _validator(reply: requests.Response) -> str | None:
    """What If-Range may hold: a strong ETag or a date (RFC 9110, 13.1.5)."""
    etag = reply.headers.get("ETag", "")
    strong = etag if etag.startswith('"') else None
    return strong or reply.headers.get("Last-Modified")


def _read_state(part: Path) -> dict[str, str]:
    try:
        state = json.loads(_state(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _settle(file: Path, target: Path, source: Download) -> Path:
    """Put a complete file in its place, or set it aside when it is not the one expected."""
    found, size = digest(file, source.algorithm), _length(file)
    with writing(target):
        # A right checksum says more than a size; without one, the size is all there is, or not even
        # that: then the reader sees what is missing.
        if source.matches(found) and (source.checksum or source.size in (None, size)):
            if file != target:
                flush(file)
                os.replace(file, target)
                flush(target.parent)
            _state(_beside(target, ".part")).unlink(missing_ok=True)
            _log_checksum(source, found)
            return target
        rejected = _beside(target, ".rejected")
        os.replace(file, rejected)
    if source.checksum:
        problem = f"its {source.algorithm} is {found}, the catalog expects {source.digits}"
    else:
        problem = f"it has {size} bytes, the catalog expects {source.size}"
    raise _UnavailableError(f"{problem}; set aside as {rejected}")


def _log_checksum(source: Download, found: str) -> None:
    if source.checksum:
        log.info("%s: %s %s is right", source.filename, source.algorithm, found)
    else:
        log.warning(
            "%s: no checksum is published, so nothing but the way it came vouches for it; "
            "its %s is %s", source.filename, source.algorithm, found,
        )  # fmt: skip


def _by_hand(source: Download, target: Path, problems: list[str]) -> str:
    reasons = "".join(f"\n  - {problem}" for problem in problems)
    return (
        f"{source.filename} could not be fetched:{reasons}\n"
        f"Put the file by hand at\n  {target}\n"
        f"({source.expected}), or set {MIRROR} to a folder or an "
        f"http(s) address that holds {source.filename}; then run the same command again."
    )


def _is_address(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


def _shown(address: str) -> str:
    """The address without user name and password, which an index may need."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _cause(error: BaseException) -> str:
    """The innermost reason; requests wraps it several times."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return str(reason or error)


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _state(part: Path) -> Path:
    return _beside(part, ".json")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
