"""Snapshots of a run: everything that changes in training, so that a run can be stopped at any
moment and goes on with the same bits."""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from core.files import replacing

log = logging.getLogger(__name__)

KEPT = 2
FORMAT = "1"


@dataclass(frozen=True)
class Snapshot:
    """arrays: weights, optimiser and whatever else is numbers. progress: the rest, as JSON."""

    arrays: dict[str, NDArray[Any]]
    progress: dict[str, Any]


class Snapshots:
    """The snapshots of one run, in a folder of their own that Snakemake knows nothing about.

    A file is named after the steps it holds and its own checksum, is a plain safetensors file
    (no pickle), and is whole or not there. The last two are kept.
    """

    def __init__(self, folder: Path, digest: str, spec: str | None = None) -> None:
        """digest: of the run spec and of what else a run depends on; a snapshot with another one is
        never used. spec: digest of the spec alone, for who has only that; None where it is all.
        """
        self.folder = folder
        self.digest = digest
        self.spec = spec or digest

    def save(self, step: int, snapshot: Snapshot) -> None:
        """Write a snapshot and drop the oldest. Raises StorageError; the last good ones stay."""
        metadata = {
            "format": FORMAT,
            "digest": self.digest,
            "spec": self.spec,
            "progress": json.dumps(snapshot.progress),
        }
        content = save({k: np.asarray(v, order="C") for k, v in snapshot.arrays.items()}, metadata)
        name = f"step-{step:09d}-{_checksum(content)}.safetensors"
        with replacing(self.folder / name) as temporary:
            temporary.write_bytes(content)
        for old in self._files()[KEPT:]:
            old.unlink(missing_ok=True)

    def load(self, step: int | None = None) -> Snapshot | None:
        """The newest usable snapshot, or None; that of `step` where it is given. Files that cannot
        be used are set aside with a message; those of later steps are dropped then, since the
        run goes on without them."""
        for leftover in self.folder.glob(".*.tmp"):  # of a run that was killed while writing
            leftover.unlink(missing_ok=True)
        for file in self._usable():
            if step is None or _step(file) == step:
                return self._read(file)
            if _step(file) > step:
                file.unlink()
        return None

    def steps(self) -> list[int]:
        """Steps of the usable snapshots, newest first."""
        return list(dict.fromkeys(_step(file) for file in self._usable()))

    def _usable(self) -> Iterator[Path]:
        for file in self._files():
            problem = self._problem(file)
            if problem is None:
                yield file
                continue
            aside = file.with_suffix(".rejected")
            file.replace(aside)
            log.warning("snapshot %s is not used: %s; set aside as %s", file, problem, aside.name)

    def _files(self) -> list[Path]:
        """Newest first; of the same step, the one written last."""
        files = self.folder.glob("step-*.safetensors")
        return sorted(files, key=lambda f: (f.name[:14], f.stat().st_mtime_ns), reverse=True)

    def _problem(self, file: Path) -> str | None:
        """Why a file cannot be used; None when it can."""
        if _checksum(file.read_bytes()) not in file.name:
            return "it is damaged (its checksum differs)"
        try:
            with safe_open(file, "numpy") as content:
                metadata = content.metadata() or {}
        except SafetensorError as error:
            return f"it is not a snapshot ({error})"
        if metadata.get("format") != FORMAT:
            return f"its format is {metadata.get('format')}, not {FORMAT}"
        if metadata.get("digest") != self.digest:
            return "it belongs to another run spec or timing profile"
        return None

    def _read(self, file: Path) -> Snapshot:
        with safe_open(file, "numpy") as content:
            arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            return Snapshot(arrays, json.loads(content.metadata()["progress"]))


def _step(file: Path) -> int:
    return int(file.name[5:14])


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
