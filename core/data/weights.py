"""Pretrained weights in a folder: PyTorch files become safetensors, Keras files stay."""

import io
from pathlib import Path
from typing import Any

from core.data import manifest
from core.data.archive import read_member
from core.data.catalog import Download, Entry
from core.errors import DataError, MissingPackageError
from core.files import writing

FILES = ["weights.safetensors", "weights.h5"]


def prepare(entry: Entry, source: Download, path: Path, folder: Path) -> str:
    """Write the weights in the fetched file `path` into `folder`; the name of the new file.

    Raises DataError when they cannot be read, MissingPackageError for a .pth outside the main
    environment, StorageError when the disk is full.
    """
    name = source.member[-1] if source.member else source.filename
    content = read_member(path, source.member) if source.member else path.read_bytes()
    match Path(name).suffix:
        case ".h5":
            with writing(folder / "weights.h5"):
                (folder / "weights.h5").write_bytes(content)
            return "weights.h5"
        case ".pth":
            _save_safetensors(_read_pth(content, entry.name), folder / "weights.safetensors")
            return "weights.safetensors"
    raise DataError(f"{entry.name}: no way to read weights from {name}; expected .pth or .h5")


def open_weights(folder: Path) -> Path:
    """The file with the weights, checksum verified. Raises DataError that says how to refetch."""
    manifest.verify(folder, "weights")
    name: str = manifest.read(folder, "weights")["file"]
    return folder / name


def _read_pth(content: bytes, name: str) -> dict[str, Any]:
    """Tensors by their original names; nothing but tensors is unpickled."""
    try:
        import torch
    except ImportError:
        raise MissingPackageError(
            f"{name} is a PyTorch file and torch is not installed here; "
            "fetch it in the main environment"
        ) from None
    try:
        tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch reports damage and foreign objects in many ways
        raise DataError(f"{name}: the weights cannot be read ({error})") from error
    if not isinstance(tensors, dict) or not all(
        isinstance(tensor, torch.Tensor) for tensor in tensors.values()
    ):
        raise DataError(f"{name}: the file holds more than tensors by name")
    # safetensors wants each tensor in memory of its own.
    return {key: tensor.detach().clone().contiguous() for key, tensor in tensors.items()}


def _save_safetensors(tensors: dict[str, Any], path: Path) -> None:
    from safetensors.torch import save

    with writing(path):
        path.write_bytes(save(tensors))
