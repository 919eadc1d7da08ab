"""Pretrained weights in a folder: PyTorch files become safetensors, Keras and NumPy files stay."""

import io
import shutil
from pathlib import Path
from typing import IO, Any

import numpy as np

from core.data import manifest
from core.data.archive import read_member
from core.data.catalog import Download, Entry
from core.errors import DataError, MissingPackageError, StorageError
from core.files import CHUNK, writing

FILES = ["weights.safetensors", "weights.h5", "weights.npz"]


def prepare(entry: Entry, source: Download, path: Path, folder: Path) -> str:
    """Write the weights in the fetched file `path` into `folder`; the name of the new file.

    Raises DataError when they cannot be read, MissingPackageError for a .pth outside the main
    environment, StorageError when the disk is full.
    """
    name = source.member[-1] if source.member else source.filename
    suffix = Path(name).suffix
    with _opened(path, source.member) as file:
        match suffix:
            case ".h5" | ".npz":
                target = folder / f"weights{suffix}"
                with writing(target), target.open("wb") as copy:
                    shutil.copyfileobj(file, copy, CHUNK)
                if suffix == ".npz":
                    _check_npz(target, entry.name)
            case ".pth":
                target = folder / "weights.safetensors"
                _save_safetensors(_read_pth(file, entry.name), target)
            case _:
                raise DataError(
                    f"{entry.name}: no way to read weights from {name}; expected .pth, .h5 or .npz"
                )
    return target.name


def open_weights(folder: Path) -> Path:
    """The file with the weights, checksum verified. Raises DataError that says how to refetch."""
    manifest.verify(folder, "weights")
    name: str = manifest.read(folder, "weights")["file"]
    return folder / name


def _opened(path: Path, member: tuple[str, ...]) -> IO[bytes]:
    return io.BytesIO(read_member(path, member)) if member else path.open("rb")


def _check_npz(path: Path, name: str) -> None:
    """Read every array, one after the other. Raises DataError for one that is damaged, or that
    only unpickling, which can run code, would bring back."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                arrays[key]
    except Exception as error:  # NumPy passes on what zipfile and zlib report
        raise DataError(f"{name}: the weights cannot be read ({error})") from error


def _read_pth(file: IO[bytes], name: str) -> dict[str, Any]:
    """Tensors by their original names; nothing but tensors is unpickled."""
    try:
        import torch
    except ImportError:
        raise MissingPackageError(
            f"{name} is a PyTorch file and torch is not installed here; "
            "fetch it in the main environment"
        ) from None
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch reports damage and foreign objects in many ways
        raise DataError(f"{name}: the weights cannot be read ({error})") from error
    if not isinstance(tensors, dict) or not all(
        isinstance(tensor, torch.Tensor) for tensor in tensors.values()
    ):
        raise DataError(f"{name}: the file holds more than tensors by name")
    return _separate(tensors)


def _separate(tensors: dict[str, Any]) -> dict[str, Any]:
    """Each tensor in memory of its own, as safetensors wants it: copied only where two share."""
    found, taken = {}, set()
    for key, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        place = tensor.untyped_storage().data_ptr()
        found[key] = tensor.clone() if place in taken else tensor
        taken.add(place)
    return found


def _save_safetensors(tensors: dict[str, Any], path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path)  # straight from memory: no second copy
    except SafetensorError as error:
        raise StorageError(f"{path} cannot be written: {error}") from error
