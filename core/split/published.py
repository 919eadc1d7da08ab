"""Reader of the profile tables that the authors of context-aware split training published.

A runtime table has a column for each device (TX2, Cloud, Pi) and a row for each block: row i holds
the seconds of a step at batch 32 with blocks 0..i on the edge, feature replay included; its last
row is all-edge. A size table has a column for each network and MiB of float32 features at the same
batch: row i is the output of block i. It has no row for the last block, whose output is never sent,
so columns of smaller networks end in blanks.

The tables of ResNet50 and VGG19 in `published_profiles/` are the published ones, unchanged
(artifact of the IMWUT 5(4) 2021 paper). Own measurements in the same form are read alike.

What the tables do not hold:
- the cloud's time for the whole network: all-cloud is unknown (NaN) and no candidate;
- codec times: 0, as if they were part of the device's time;
- block sizes: 0 unless the caller gives them, and moving a block is free;
- the edge's time without replay, needed for serial training. Where blocks 0..n-2 are on the edge
  there is a time with replay; all-edge is the same work but for the last block, a small linear
  layer, and without replay. The ratio of these two (0.84 on TX2, 0.75 and 0.88 on Pi) is taken for
  every cut. Without it a serial scheme would be charged for a forward pass that it does not do.
"""

import csv
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from core.errors import ConfigError, DataError
from core.split.costs import (
    FLOAT32,
    MIB,
    CodecCosts,
    Costs,
    EncodedBytes,
    Floats,
    PerMib,
    wire_bytes,
)

FOLDER = Path(__file__).parent / "published_profiles"
SIZES = FOLDER / "featuresize.csv"
BATCH = 32

# Network: its runtime table, and its column in the size table, which is named otherwise.
NETWORKS = {
    "resnet50_cifar": ("runtime_resnet50.csv", "Resnet50"),
    "vgg19_bn": ("runtime_VGG19.csv", "VGG19"),
}
EDGES = ("TX2", "Pi")


def published(
    network: str,
    edge: str,
    codecs: Iterable[str] = ("none",),
    block_bytes: ArrayLike | None = None,
    input_bytes: float = math.nan,
    encoded_bytes: EncodedBytes = wire_bytes,
) -> Costs:
    """The costs of a published network; arguments as for `read`. Raises ConfigError, DataError."""
    if network not in NETWORKS:
        raise ConfigError(f"no published profile of {network!r}; there are {', '.join(NETWORKS)}")
    runtime, column = NETWORKS[network]
    return read(
        FOLDER / runtime, edge, SIZES, column, codecs, block_bytes, input_bytes, encoded_bytes
    )


def read(
    runtime: Path,
    edge: str,
    sizes: Path,
    network: str,
    codecs: Iterable[str] = ("none",),
    block_bytes: ArrayLike | None = None,
    input_bytes: float = math.nan,
    encoded_bytes: EncodedBytes = wire_bytes,
) -> Costs:
    """The costs of a network that a runtime and a size table describe.

    edge: column of the runtime table that is the edge device; the cloud is `Cloud`.
    network: column of the size table.
    block_bytes: shape (n,), what moves with a block; free if not given.
    input_bytes: raw inputs of a batch.
    encoded_bytes: (codec, shape) → bytes on the wire.
    Raises DataError that names file and column for a missing column, a number that is none, and
    tables that do not belong together.
    """
    replay, cloud = read_column(runtime, edge), read_column(runtime, "Cloud")
    mib = read_column(sizes, network)
    n = len(replay)
    if n < 2 or len(cloud) != n:
        raise DataError(
            f"{runtime}: column {edge!r} has {n} rows, Cloud has {len(cloud)}; both need one for "
            "each of at least 2 blocks"
        )
    if len(mib) != n - 1:
        raise DataError(
            f"{sizes}: column {network!r} has {len(mib)} rows, must have {n - 1}: one less than "
            f"the {n} blocks of {runtime}"
        )
    moved = np.zeros(n) if block_bytes is None else np.asarray(block_bytes, dtype=np.float64)
    if moved.shape != (n,):
        raise DataError(f"{runtime} has {n} blocks, the sizes of {len(moved)} blocks were given")
    with_replay = np.concatenate([[0.0], replay])
    without = with_replay * min(1.0, replay[-1] / replay[-2])
    without[-1] = replay[-1]
    return Costs(
        edge_s=without,
        edge_replay_s=with_replay,
        cloud_s=np.concatenate([[np.nan], cloud]),
        codecs=_codecs(codecs, np.concatenate([[0.0], mib, [0.0]]), input_bytes, encoded_bytes),
        block_bytes=moved,
    )


def read_column(path: Path, name: str) -> Floats:
    """A column of a table: not negative, blanks at its end left out. Raises DataError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    header, *rows = list(csv.reader(text.splitlines())) or [[]]
    columns = [cell.strip() for cell in header]
    if name not in columns:
        raise DataError(f"{path} has no column {name!r}; there are {', '.join(columns) or 'none'}")
    place = columns.index(name)
    cells = [row[place].strip() if place < len(row) else "" for row in rows]
    while cells and not cells[-1]:
        cells.pop()
    return np.array(
        [_number(cell, f"{path}, line {i + 2}, {name}") for i, cell in enumerate(cells)]
    )


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        raise DataError(f"{where}: {cell!r} is not a number") from None
    if not (math.isfinite(value) and value >= 0):
        raise DataError(f"{where}: {cell} must be finite and not negative")
    return value


def _codecs(
    names: Iterable[str], mib: Floats, input_bytes: float, encoded_bytes: EncodedBytes
) -> dict[str, CodecCosts]:
    """The tables know sizes but no shapes, and round them to 0.01 MiB: a codec's share of the
    bytes is that of a matrix of batch × features."""
    free = PerMib(0.0, 0.0)
    found = {}
    for name in names:
        shapes = [(BATCH, max(1, round(m * MIB / FLOAT32 / BATCH))) for m in mib]
        share = [encoded_bytes(name, s) / (s[0] * s[1] * FLOAT32) for s in shapes]
        found[name] = CodecCosts.of_features(mib * MIB * share, input_bytes, free, free, mib)
    return found
