"""The manifest of a fetched folder: what is in it, where it came from, how to tell damage."""

import json
import platform
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import core
from core import machine
from core.errors import DataError
from core.files import digest, write_text

NAME = "manifest.json"
FORMAT = 1
# Key of the size that was asked for, by kind.
SIZES = {
    "images": "image_size",
    "text": "words",
    "chairs": "image_size",
    "ratings": "history",
}
_LIBRARIES = ("numpy", "pillow", "safetensors", "tensorflow-datasets", "torch", "torchvision")


def write(folder: Path, content: dict[str, Any], files: list[str]) -> None:
    """Write the manifest, last of all, with size and sha256 of `files`. Raises StorageError."""
    recorded = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": digest(folder / name)}
        for name in files
    }
    complete = {"format": FORMAT, **content, "files": recorded, "versions": _versions()}
    write_text(folder / NAME, json.dumps(complete, indent=1, ensure_ascii=False) + "\n")


def read(folder: Path, *kinds: str, without: Collection[str] = ()) -> dict[str, Any]:
    """The manifest, with the sizes of its files checked. without: files that need not be there.

    Raises DataError that says how to fetch again when it is missing, damaged, of none of these
    kinds or of another format, or when a file is missing or has another size.
    """
    path = folder / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{folder}: no {NAME}, so nothing was fetched to here") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {refetch(folder)}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{path}: not of format {FORMAT}; {refetch(folder)}")
    if content.get("kind") not in kinds:
        raise DataError(f"{folder} holds {content.get('kind')}, not {' or '.join(kinds)}")
    try:
        files = {k: v for k, v in content["files"].items() if k not in without}
        expected = {folder / name: recorded["bytes"] for name, recorded in files.items()}
    except (AttributeError, KeyError, TypeError):
        raise DataError(f"{path}: lists no files; {refetch(folder, content)}") from None
    for file, size in expected.items():
        if not file.is_file():
            raise DataError(f"{file} is missing; {refetch(folder, content)}")
        if file.stat().st_size != size:
            raise DataError(
                f"{file} has {file.stat().st_size} bytes, its manifest says {size}; "
                f"{refetch(folder, content)}"
            )
    return content


def entry_of(folder: Path) -> str:
    """Digest of the catalog entry that a folder was fetched by. Raises DataError."""
    try:
        return str(json.loads((folder / NAME).read_text())["entry"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{folder} was not fetched, or is damaged ({error}); fetch it") from None


def verify(folder: Path, kind: str) -> None:
    """Compare the checksum of every file, which reads all of it. Raises DataError."""
    content = read(folder, kind)
    for name, recorded in content["files"].items():
        found = digest(folder / name)
        if found != recorded["sha256"]:
            raise DataError(
                f"{folder / name} has sha256 {found}, its manifest says {recorded['sha256']}; "
                f"{refetch(folder, content)}"
            )


def refetch(folder: Path, content: Mapping[str, Any] | None = None) -> str:
    """What to do about a damaged folder with that manifest, as the end of a message."""
    content = content or {}
    size = next((f" --size {content[key]}" for key in SIZES.values() if key in content), "")
    command = f"python -m core fetch {content.get('name', 'NAME')} --out {folder}{size}"
    return f"delete {folder} and fetch it again: {command}"


def _versions() -> dict[str, str]:
    own = {"core": core.__version__, "python": platform.python_version()}
    return own | machine.versions(*_LIBRARIES)
