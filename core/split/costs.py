"""What a step of split training costs at every cut, on both sides and on the wire.

The decision engine and the simulator know nothing of networks or devices: all they are told
stands here, made from two device profiles (`Costs.from_profiles`) or from the published tables
(`core.split.published`).
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import DataError
from core.split.sides import CLOUD, EDGE, Side

Floats = NDArray[np.float64]
EncodedBytes = Callable[[str, tuple[int, ...]], int]  # codec.encoded_bytes

MIB = 1 << 20
FLOAT32 = 4  # bytes


def wire_bytes(codec: str, shape: tuple[int, ...]) -> int:
    """Bytes of an encoded tensor."""
    from core.split.codec import encoded_bytes  # late: tables and formulas need no codec

    return encoded_bytes(codec, shape)


@dataclass(frozen=True)
class CodecCosts:
    """One codec at every cut: arrays of shape (n+1,), bytes and seconds per step.

    The gradient has the shape of the features, so a codec sends as much down as up. Nothing is
    encoded at either end: at cut 0 the raw inputs go the way of the features and no gradient comes
    back, at cut n nothing is sent.
    """

    uplink_bytes: Floats
    downlink_bytes: Floats
    edge_encode_s: Floats
    edge_decode_s: Floats
    cloud_encode_s: Floats
    cloud_decode_s: Floats

    @classmethod
    def of_features(
        cls,
        nbytes: ArrayLike,
        input_bytes: float,
        edge: "PerMib",
        cloud: "PerMib",
        mib: ArrayLike,
        frozen: int = 0,
        front: Side = EDGE,
        corrects: bool = False,
    ) -> "CodecCosts":
        """nbytes: encoded features at each cut, shape (n+1,); the two ends are not looked at.
        input_bytes: the raw inputs of a batch; NaN where unknown.
        mib: MiB of the float32 features at each cut, which the seconds per MiB refer to.
        frozen: first blocks that are not trained; no gradient comes back to a cut among them.
        front: the side that sends the features. corrects: it decodes them too, to correct the
            gradient that comes back.
        """
        size, encoded = (np.array(a, dtype=np.float64) for a in (mib, nbytes))
        size[[0, -1]] = encoded[[0, -1]] = 0.0
        returned, back = size.copy(), encoded.copy()
        returned[: frozen + 1] = back[: frozen + 1] = 0.0
        forth = encoded.copy()
        forth[0] = input_bytes
        here = front == EDGE
        own, others = (edge, cloud) if here else (cloud, edge)
        sends = size * own.encode_s + (returned * own.decode_s if corrects else 0.0)
        times = (sends, returned * own.decode_s, returned * others.encode_s, size * others.decode_s)
        edge_times, cloud_times = (times[:2], times[2:]) if here else (times[2:], times[:2])
        up, down = (forth, back) if here else (back, forth)
        return cls(up, down, *edge_times, *cloud_times)


@dataclass(frozen=True)
class PerMib:
    """Seconds that a side takes to encode, and to decode, a MiB of float32."""

    encode_s: float
    decode_s: float


@dataclass(frozen=True)
class Load:
    """How many times as long as its profile says each side takes by itself (edge, cloud), and how
    many times as long as that where both compute (mutual, at least 1): two sides on one machine
    slow each other down."""

    edge: float = 1.0
    cloud: float = 1.0
    mutual: float = 1.0

    def of(self, side: Side) -> float:
        """By itself."""
        return self.edge if side == EDGE else self.cloud

    def by_cut(self, side: Side, blocks: int) -> Floats:
        """Of a side at every cut, shape (n+1,). At both ends one side computes alone."""
        own = self.of(side)
        return np.array([own, *[own * self.mutual] * (blocks - 1), own])


@dataclass(frozen=True)
class Costs:
    """A network of n blocks on two devices, by cut: blocks [0, c) on the edge, [c, n) in the cloud;
    the other way round where the front is in the cloud.

    Seconds per step without the codec; NaN where nobody measured: such a cut is no candidate.

    edge_s: shape (n+1,), forward, backward and update.
    edge_replay_s: shape (n+1,), the same with the second forward of feature replay. All-edge and
        all-cloud replay nothing.
    cloud_s: shape (n+1,), forward, backward and update.
    codecs: by name.
    block_bytes: shape (n,), what moves with a block: parameters and optimiser state.
    cloud_replay_s: shape (n+1,), of a front in the cloud, which replays in the place of the edge;
        None where the front is on the edge.
    """

    edge_s: Floats
    edge_replay_s: Floats
    cloud_s: Floats
    codecs: dict[str, CodecCosts]
    block_bytes: Floats
    cloud_replay_s: Floats | None = None

    def __post_init__(self) -> None:
        cuts = (len(self.block_bytes) + 1,)
        arrays = {"edge_s": self.edge_s, "edge_replay_s": self.edge_replay_s}
        arrays["cloud_s"] = self.cloud_s
        if self.cloud_replay_s is not None:
            arrays["cloud_replay_s"] = self.cloud_replay_s
        for name, codec in self.codecs.items():
            arrays |= {f"{name}.{f.name}": getattr(codec, f.name) for f in fields(codec)}
        for name, array in arrays.items():
            if array.shape != cuts:
                raise ValueError(f"{name} has the shape {array.shape}, the cuts are {cuts}")
            if (array < 0).any():  # NaN passes: it means unknown
                raise ValueError(f"{name} must not be negative")

    @property
    def blocks(self) -> int:
        """How many there are, n."""
        return len(self.block_bytes)

    @property
    def front(self) -> Side:
        """The side that holds the first blocks."""
        return EDGE if self.cloud_replay_s is None else CLOUD

    def codec(self, name: str) -> CodecCosts:
        """Raises ValueError for a codec whose costs are not known."""
        try:
            return self.codecs[name]
        except KeyError:
            known = ", ".join(self.codecs)
            raise ValueError(f"no costs of codec {name!r}; known: {known}") from None

    def loaded(self, load: Load) -> "Costs":
        """The same with the seconds of each side multiplied by its load."""
        ours, theirs = (load.by_cut(side, self.blocks) for side in (EDGE, CLOUD))
        codecs = {
            name: replace(
                codec,
                edge_encode_s=codec.edge_encode_s * ours,
                edge_decode_s=codec.edge_decode_s * ours,
                cloud_encode_s=codec.cloud_encode_s * theirs,
                cloud_decode_s=codec.cloud_decode_s * theirs,
            )
            for name, codec in self.codecs.items()
        }
        return replace(
            self,
            edge_s=self.edge_s * ours,
            edge_replay_s=self.edge_replay_s * ours,
            cloud_s=self.cloud_s * theirs,
            codecs=codecs,
            cloud_replay_s=None if self.cloud_replay_s is None else self.cloud_replay_s * theirs,
        )

    def without(self, cuts: Sequence[int]) -> "Costs":
        """The same with these cuts unknown, so that they are no candidates. An end stays as it is:
        nothing is sent at n, and raw inputs at 0."""
        edge = self.edge_s.copy()
        edge[[cut for cut in cuts if 0 < cut < self.blocks]] = np.nan
        return replace(self, edge_s=edge)

    def moved_bytes(self, before: int, after: int) -> float:
        """Bytes of the blocks that change sides between two cuts."""
        return float(self.block_bytes[min(before, after) : max(before, after)].sum())

    @classmethod
    def from_profiles(
        cls,
        edge: dict[str, Any],
        cloud: dict[str, Any],
        codecs: Iterable[str],
        input_bytes: float,
        encoded_bytes: EncodedBytes = wire_bytes,
        decoded: Collection[str] = (),
        front: Side = EDGE,
        carries: bool = False,
    ) -> "Costs":
        """Costs from the profiles of two devices, as `core.split.profile` writes them.

        Every time of a side is multiplied by its `slowdown`.

        codecs: names; both profiles must have timed them.
        input_bytes: the raw inputs of a batch as they are uploaded (uint8 images, int tokens).
        encoded_bytes: (codec, shape) → bytes on the wire.
        decoded: codecs whose tensors their sender decodes too, as error feedback needs: carries:
            both sides, to add what was lost to the next ones; else the front alone, for the
            gradient that comes back.
        front: the side with the first blocks.
        Raises DataError for profiles that lack something, or are not of the same network.
        """
        shapes = _same_network(edge, cloud)
        frozen = int(_entry(edge, "frozen", "edge"))
        mib = [np.prod(s) * FLOAT32 / MIB for s in shapes]
        costs = {}
        for name in codecs:
            nbytes = [encoded_bytes(name, s) for s in shapes]
            sides = {EDGE: _per_mib(edge, name, EDGE), CLOUD: _per_mib(cloud, name, CLOUD)}
            if name in decoded and carries:
                sides = {k: PerMib(v.encode_s + v.decode_s, v.decode_s) for k, v in sides.items()}
            corrects = name in decoded and not carries
            costs[name] = CodecCosts.of_features(
                nbytes, input_bytes, sides[EDGE], sides[CLOUD], mib, frozen, front, corrects
            )
        moved = _numbers(edge, "parameter_bytes", "edge")
        moved = moved + _numbers(edge, "optimiser_bytes", "edge")
        if front == EDGE:
            first, replay = _first(edge, EDGE), _replay(edge, EDGE, frozen)
            return cls(first, first + replay, _last(cloud, CLOUD), costs, moved)
        first, replay, last = _first(cloud, CLOUD), _replay(cloud, CLOUD, frozen), _last(edge, EDGE)
        first[-1] = np.nan  # the loss is where the targets are: at cut n the edge could not have it
        return cls(last, last, first, costs, moved, cloud_replay_s=first + replay)


def _first(profile: dict[str, Any], side: Side) -> Floats:
    """Seconds of the blocks before each cut."""
    return _up_to(_seconds(profile, "forward_s", side) + _seconds(profile, "backward_s", side))


def _replay(profile: dict[str, Any], side: Side, frozen: int) -> Floats:
    """Of their second forward."""
    replay = _up_to(_seconds(profile, "forward_s", side))
    replay[-1] = 0.0  # all blocks on one side: nothing waits for a gradient
    replay[: frozen + 1] = 0.0  # nothing to train: nothing is replayed
    return replay


def _last(profile: dict[str, Any], side: Side) -> Floats:
    """Seconds of the blocks behind each cut."""
    each = _seconds(profile, "forward_s", side) + _seconds(profile, "backward_s", side)
    return _up_to(each[::-1])[::-1]


def _up_to(parts: Floats) -> Floats:
    """Sums of the first 0, 1, …, n parts."""
    return np.concatenate([[0.0], np.cumsum(parts)])


def _same_network(edge: dict[str, Any], cloud: dict[str, Any]) -> list[tuple[int, ...]]:
    """The feature shapes, which both profiles must share."""
    for key in ("blocks", "batch", "feature_shapes", "frozen"):
        if _entry(edge, key, "edge") != _entry(cloud, key, "cloud"):
            raise DataError(
                f"the profiles of edge and cloud differ in {key}: they are not of the same network "
                "and batch; profile both devices again"
            )
    if len(edge["feature_shapes"]) != edge["blocks"] + 1:
        raise DataError(
            f"the profile of the edge: feature_shapes has {len(edge['feature_shapes'])} entries, "
            f"must have {edge['blocks'] + 1} (the input, then the output of every block)"
        )
    return [tuple(shape) for shape in edge["feature_shapes"]]


def _entry(profile: dict[str, Any], key: str, side: str) -> Any:
    if key not in profile:
        raise DataError(f"the profile of the {side} has no {key}; profile the device again")
    return profile[key]


def _numbers(profile: dict[str, Any], key: str, side: str) -> Floats:
    """One number for each block."""
    values = np.asarray(_entry(profile, key, side), dtype=np.float64)
    if values.shape != (profile["blocks"],):
        raise DataError(
            f"the profile of the {side}: {key} has the shape {values.shape}, must have one number "
            f"for each of {profile['blocks']} blocks"
        )
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise DataError(f"the profile of the {side}: {key} must be finite and not negative")
    return values


def _seconds(profile: dict[str, Any], key: str, side: str) -> Floats:
    return _numbers(profile, key, side) * float(_entry(profile, "slowdown", side))


def _per_mib(profile: dict[str, Any], codec: str, side: str) -> PerMib:
    timed = _entry(profile, "codecs", side)
    if codec not in timed:
        known = ", ".join(timed) or "none"
        raise DataError(
            f"the profile of the {side} has no times of codec {codec!r} (timed: {known}); "
            "profile the device with it"
        )
    slowdown = float(profile["slowdown"])
    keys = ("encode_s_per_mib", "decode_s_per_mib")
    return PerMib(*(slowdown * float(timed[codec][key]) for key in keys))
