"""core.training.snapshot: whole or not there, never of another run, the last two kept."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from core.errors import StorageError
from core.training.snapshot import Snapshot, Snapshots

PROGRESS = {"epoch": 2, "rows": [{"test_loss": 0.1}]}


def snapshot(value: float) -> Snapshot:
    return Snapshot({"w": np.full((3, 2), value, np.float32), "n": np.array(7)}, PROGRESS)


def value_of(loaded: Snapshot | None) -> float:
    assert loaded is not None
    return float(loaded.arrays["w"][0, 0])


@pytest.fixture
def kept(tmp_path: Path) -> Snapshots:
    """Snapshots of steps 1, 2 and 3."""
    snapshots = Snapshots(tmp_path / "s", "digest")
    for step in (1, 2, 3):
        snapshots.save(step, snapshot(step))
    return snapshots


def newest(snapshots: Snapshots) -> Path:
    return max(snapshots.folder.glob("step-*.safetensors"))


@given(
    array=st.sampled_from([np.float32, np.int64, np.uint8]).flatmap(
        lambda kind: arrays(kind, array_shapes(min_dims=0, max_dims=3, min_side=0))
    )
)
def test_what_is_saved_comes_back_with_the_same_bits(tmp_path_factory, array):
    snapshots = Snapshots(tmp_path_factory.mktemp("s"), "digest")
    snapshots.save(1, Snapshot({"a": array}, PROGRESS))
    loaded = snapshots.load()
    assert loaded is not None
    assert loaded.arrays["a"].tobytes() == array.tobytes()
    assert (loaded.arrays["a"].dtype, loaded.arrays["a"].shape) == (array.dtype, array.shape)
    assert loaded.progress == PROGRESS


def test_without_a_snapshot_there_is_none(tmp_path):
    assert Snapshots(tmp_path / "nowhere", "digest").load() is None


def test_the_newest_is_used_and_two_are_kept(kept):
    assert value_of(kept.load()) == 3
    assert len(list(kept.folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text"])
def test_a_damaged_one_is_set_aside_and_the_one_before_is_used(kept, caplog, damage):
    file = newest(kept)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    new = {"flip": bytes(content), "cut": content[:-9], "empty": b"", "text": b"no"}[damage]
    file.write_bytes(new)
    with caplog.at_level(logging.WARNING):
        assert value_of(kept.load()) == 2
    assert "is not used: it is damaged (its checksum differs); set aside as" in caplog.text
    assert not file.exists()
    assert file.with_suffix(".rejected").exists()


def test_one_of_another_run_is_set_aside(kept, caplog):
    other = Snapshots(kept.folder, "another digest")
    assert other.load() is None
    assert "it belongs to another run spec or timing profile" in caplog.text
    assert len(list(kept.folder.glob("*.rejected"))) == 2


def test_a_full_disk_is_named_and_the_last_good_ones_stay(kept, monkeypatch):
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"the disk is full: .* was not written"):
        kept.save(4, snapshot(4))
    monkeypatch.undo()
    assert value_of(kept.load()) == 3


def test_a_writer_killed_at_any_moment_leaves_the_last_good_one(tmp_path):
    """A process that writes snapshots without end is killed; the newest whole one is loaded."""
    code = (
        "import numpy as np, sys\n"
        "from core.training.snapshot import Snapshot, Snapshots\n"
        "s = Snapshots(__import__('pathlib').Path(sys.argv[1]), 'digest')\n"
        "for i in range(10**6):\n"
        "    s.save(i, Snapshot({'w': np.full((1000, 1000), i, np.float32)}, {'i': i}))\n"
        "    print(i, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(5)][-1]
    process.kill()
    process.wait()
    loaded = Snapshots(tmp_path, "digest").load()
    assert loaded is not None
    assert loaded.progress["i"] >= int(said)
    assert value_of(loaded) == loaded.progress["i"]
    assert [f for f in tmp_path.iterdir() if f.name.endswith((".tmp", ".rejected"))] == []
