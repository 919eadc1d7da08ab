"""What each side holds: a party its columns of the users' histories, the server the labels.

A silo is a folder with one file. Rows are named by user and number of the rating; each side puts
its rows into an order that only the run spec decides, whatever order they came in, and the sides
compare keyed digests of that order. Which rows there are has to be agreed on before.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from core.data.histories import NONE, Histories
from core.data.parts import PARTS
from core.errors import DataError
from core.files import replacing

Arrays = dict[str, NDArray[Any]]

SERVER = "server"
FILE = "silo.safetensors"
FORMAT = "1"


@dataclass(frozen=True)
class Silo:
    """A side's own data, aligned. N training and M test samples.

    rows: of a party, by part: N x (1 + columns), int32: the candidate, then its columns of the
    history. labels: of the server, by part: N, int64. genres: of a party, as in Histories.
    order: digest of the names of the samples in their order; of each side the same.
    shared: digest of the candidates in that order; of each party the same.
    """

    rows: Mapping[str, NDArray[np.int32]]
    labels: Mapping[str, NDArray[np.int64]]
    genres: NDArray[np.uint8] | None
    sizes: Mapping[str, int]
    order: str
    shared: str


def divide(histories: Histories, spec: Any, folder: Path) -> None:
    """Write `folder`/NAME for each side of the spec. Raises StorageError."""
    both = dict(zip(PARTS, (histories.train, histories.test), strict=True))
    for party in spec["parties"]:
        places = [column - 1 for column in party["columns"]]
        arrays: Arrays = {"genres": histories.genres}
        for part, rows in both.items():
            arrays[f"{part}/history"] = rows.history[:, places]
            arrays[f"{part}/candidates"] = rows.candidates
            arrays[f"{part}/samples"] = rows.samples
        _save(folder / party["party"], arrays)
    labels = {f"{part}/labels": rows.labels for part, rows in both.items()}
    names = {f"{part}/samples": rows.samples for part, rows in both.items()}
    _save(folder / SERVER, labels | names)


def _save(folder: Path, arrays: Arrays) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = save({k: np.asarray(v, order="C") for k, v in arrays.items()}, {"format": FORMAT})
    with replacing(folder / FILE) as temporary:
        temporary.write_bytes(content)


def open_server(folder: Path, spec: Any) -> Silo:
    """The server's silo. Raises DataError for one that is none."""
    path, arrays = folder / FILE, _load(folder)
    found: Arrays = {}
    labels: Arrays = {}
    for part in PARTS:
        order = _order(path, arrays, part, order_key(spec))
        values = _array(path, arrays, f"{part}/labels", np.int64, (len(order),))[order]
        if values.min() < 0 or values.max() > 1:
            raise DataError(f"{path}: {part}/labels: a label is neither 0 nor 1")
        labels[part], found[part] = values, arrays[f"{part}/samples"][order]
    return Silo({}, labels, None, _sizes(found), _digest(spec.digest, found), "")


def open_party(folder: Path, spec: Any, columns: int) -> Silo:
    """A party's silo with that many columns. Raises DataError for one that is none, and for movies
    that its table of genres does not have."""
    path, arrays = folder / FILE, _load(folder)
    genres = arrays.get("genres")
    if genres is None or genres.dtype != np.uint8 or genres.ndim != 2 or len(genres) < 2:
        raise DataError(f"{path} has no table of the genres of movies; divide the data again")
    found: Arrays = {}
    rows: Arrays = {}
    candidates: Arrays = {}
    for part in PARTS:
        order = _order(path, arrays, part, order_key(spec))
        history = _array(path, arrays, f"{part}/history", np.int32, (len(order), columns))[order]
        own = _array(path, arrays, f"{part}/candidates", np.int32, (len(order),))[order]
        for what, array, lowest in (("history", history, NONE), ("candidates", own, 1)):
            if array.min() < lowest or array.max() >= len(genres):
                raise DataError(
                    f"{path}: {part}/{what}: a movie is outside the vocabulary, {lowest} to "
                    f"{len(genres) - 1}; prepare and divide the data again"
                )
        rows[part] = np.concatenate([own[:, None], history], axis=1)
        candidates[part], found[part] = own, arrays[f"{part}/samples"][order]
    digests = _digest(spec.digest, found), _digest(spec.digest, candidates)
    return Silo(rows, {}, genres, _sizes(found), *digests)


def order_key(spec: Any) -> str:
    """What decides the order of samples: seed and data, so that the schemes of a comparison see
    the same batches."""
    return f"{spec['seed']} {spec['data']['name']} {spec['data']['history']}"


def aligned(samples: NDArray[np.int64], key: str) -> NDArray[np.int64]:
    """Positions of the samples in the order that the key decides: by a keyed hash of their names,
    which says nothing about users and ratings."""
    secret = key.encode()
    ranks = [
        hmac.digest(secret, row.tobytes(), "sha256") for row in np.ascontiguousarray(samples, "<i8")
    ]
    return np.array(sorted(range(len(ranks)), key=ranks.__getitem__), np.int64)


def _load(folder: Path) -> Arrays:
    path = folder / FILE
    try:
        with safe_open(path, "numpy") as content:
            if (content.metadata() or {}).get("format") != FORMAT:
                raise DataError(f"{path} has another format; divide the data again")
            return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist; make it with `python -m core federated divide`, and give each "
            "side its own folder"
        ) from None
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged ({error}); divide the data again") from None


def _order(path: Path, arrays: Arrays, part: str, key: str) -> NDArray[np.int64]:
    samples = _array(path, arrays, f"{part}/samples", np.int64, (None, 2))
    if not len(samples):
        raise DataError(f"{path}: {part}/samples: there are none")
    if len(np.unique(samples, axis=0)) < len(samples):
        raise DataError(f"{path}: {part}/samples: two rows are of the same rating")
    return aligned(samples, key)


def _array(
    path: Path, arrays: Arrays, name: str, dtype: Any, shape: tuple[int | None, ...]
) -> NDArray[Any]:
    """An array of this type and shape. Raises DataError."""
    array = arrays.get(name)
    if array is None:
        raise DataError(f"{path} has no {name}: it is the silo of another side")
    fits = len(shape) == array.ndim and all(
        wanted in (None, length) for wanted, length in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        wanted = " x ".join("any" if n is None else str(n) for n in shape)
        raise DataError(
            f"{path}: {name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {wanted}"
        )
    return array


def _sizes(samples: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    return {part: len(rows) for part, rows in samples.items()}


def _digest(key: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    """Keyed, of both parts with their lengths."""
    seal = hmac.new(key.encode(), digestmod=hashlib.sha256)
    for part, array in arrays.items():
        seal.update(f"{part} {array.shape} ".encode())
        seal.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return seal.hexdigest()
