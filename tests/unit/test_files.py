"""Writing a file: the old one or the new one is there, whatever happens in between."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import StorageError
from core.files import replacing, write_text

FULL_DISK = Path("/dev/full")  # every write to it fails as on a full disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with content of which nothing may be lost."""
    path = tmp_path / "result.json"
    path.write_text("old")
    return path


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_text_is_written_whole_as_utf_8(path: Path) -> None:
    write_text(path, "neu: ρ ≤ 0.5\n")
    assert path.read_bytes() == "neu: ρ ≤ 0.5\n".encode()
    assert names(path.parent) == ["result.json"]


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "new")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "new"


def test_the_old_file_is_there_until_the_new_one_is_whole(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # renaming works only within a file system
        temporary.write_text("whole")
    assert path.read_text() == "whole"


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), MemoryError()])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(
    path: Path, error: BaseException
) -> None:
    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "old"
    assert names(path.parent) == ["result.json"]


@pytest.mark.skipif(not FULL_DISK.exists(), reason="only Linux has /dev/full")
def test_a_full_disk_is_named_and_the_old_file_stays(path: Path) -> None:
    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            FULL_DISK.write_text("the other half")

    with pytest.raises(StorageError) as refused:
        write()
    assert str(refused.value) == f"the disk is full: {path} was not written; free some space"
    assert path.read_text() == "old"
    assert names(path.parent) == ["result.json"]


def test_a_disk_that_is_full_only_when_flushed_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="the disk is full"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert names(path.parent) == ["result.json"]


def test_a_folder_that_cannot_be_written_is_named(path: Path) -> None:
    inside_a_file = path / "result.json"
    with pytest.raises(StorageError) as refused:
        write_text(inside_a_file, "new")
    assert str(refused.value).startswith(f"{inside_a_file} cannot be written: ")
    assert path.read_text() == "old"


def test_a_place_that_is_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot be written: Is a directory"):
        write_text(tmp_path, "new")
    assert names(tmp_path.parent).count(tmp_path.name) == 1


def test_the_new_file_is_on_the_disk_before_it_takes_the_place_of_the_old(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    flush, rename = os.fsync, os.replace

    def flushed(handle: int) -> None:
        done.append(f"flush {Path(f'/proc/self/fd/{handle}').readlink().name}")
        flush(handle)

    def renamed(source: Path, target: Path) -> None:
        done.append(f"rename {source.name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    write_text(path, "new")
    temporary = done[0].removeprefix("flush ")
    assert temporary != path.name
    assert done == [f"flush {temporary}", f"rename {temporary}", f"flush {path.parent.name}"]


def test_a_process_killed_half_way_leaves_the_old_file(path: Path) -> None:
    script = f"""
import time
from pathlib import Path
from core.files import replacing
with replacing(Path({str(path)!r})) as temporary:
    temporary.write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half\n"
        writer.kill()
    assert writer.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_text(path, "new")  # what it left behind is in nobody's way
    assert path.read_text() == "new"
