"""Channels of a convolutional network that live and die together, and what PruneTrain (Lym et
al., SC 2019) makes of them: a group lasso, and a smaller network.

A channel is what one convolution puts out and all its readers take in: a slice of the kernel that
makes it, of the depthwise kernels on its way and of every kernel that reads it, with its
entries of biases and normalisation. Where branches are added up, channel c of each branch is one
and the same. A framework translates its graph to that with `Wiring`; everything else works on
arrays by name.

The penalty is Σ_groups Σ_channels ‖kernel slices of the channel‖₂, with one global coefficient and
no factor for the size of a group. So does the original program; the factor √size of Yuan and Lin
(2006) would press the layers with many weights more, while PruneTrain wants those gone that
compute much. Two things differ from the original. It takes one norm over the slice that makes a
channel and another over each slice that reads it, cuts a channel where all of them happen
to be dead, and leaves depthwise kernels out; here all of these are one norm, so that they die at
the same time, which is what can be cut. And it follows the gradient of the penalty, which at
the small learning rates of fine-tuning leaves weights hovering about zero at the size of a step;
here the proximal step follows each update: all weights of a channel times

    max(0, 1 − step · coefficient / norm),

group after group (the incremental proximal method of Bertsekas 2011, since a kernel belongs to the
groups on both its sides). That reaches zero, and stays there unless the data pulls harder. A
gradient moves a weight by learning_rate / (1 − momentum) in the end, so that is the step, which
leaves the minimum of loss plus penalty where it is; under Adam, whose own steps have no such
scale, it is the learning rate.

So over a run a norm falls by the sum of all steps times the coefficient at most. Where that is
little, as in a few epochs of fine-tuning at a small learning rate, channels that were dead in the
published weights are all that is cut.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.elastic.selector import Floats
from core.errors import ConfigError

Arrays = Mapping[str, NDArray[Any]]
Kept = dict[str, NDArray[np.int64]]  # by group, indices of channels in rising order


@dataclass(frozen=True)
class Slice:
    """Where a group's channels lie in an array. weighs: a kernel, which the penalty is on and
    which decides over life; otherwise a vector that follows (bias, normalisation)."""

    array: str
    axis: int
    weighs: bool


@dataclass(frozen=True)
class Group:
    """Channels of one width that live and die together, channel by channel.

    name: of the layer that makes them first. channels: how many there are in the whole network.
    """

    name: str
    channels: int
    slices: tuple[Slice, ...]

    @property
    def kernels(self) -> list[Slice]:
        return [s for s in self.slices if s.weighs]


class Wiring:
    """Collects which arrays the channels of a network run through, in any order. What it hands
    out are numbers of sets of channels; sets that are added up become one."""

    def __init__(self) -> None:
        self._same: list[int] = []  # a set that this one is the same as, itself at last
        self._made: list[tuple[str, int, bool]] = []  # name, channels, may be cut
        self._slices: dict[int, list[Slice]] = defaultdict(list)

    def new(self, name: str, channels: int, cut: bool = True) -> int:
        """A set of channels that layer `name` makes. cut: whether it may lose any."""
        self._same.append(len(self._same))
        self._made.append((name, channels, cut))
        return len(self._same) - 1

    def join(self, name: str, sets: Sequence[int]) -> int:
        """Channel by channel the sum of these, in layer `name`. Raises ConfigError where they
        are not equally many."""
        widths = {self._made[i][1] for i in sets}
        if len(widths) > 1:
            raise ConfigError(
                f"layer {name} adds up {' and '.join(map(str, sorted(widths)))} channels: "
                "PruneTrain cuts channels, and cannot tell which of these belong together; "
                "take another model or scheme"
            )
        first, *others = sorted({self._find(i) for i in sets})
        for other in others:
            self._same[other] = first
        return first

    def weigh(self, channels: int, array: str, axis: int) -> None:
        """A kernel that makes, filters or reads these channels along `axis`."""
        self._slices[channels].append(Slice(array, axis, weighs=True))

    def follow(self, channels: int, *vectors: str) -> None:
        """Vectors with one entry for each of these channels."""
        self._slices[channels] += [Slice(vector, 0, weighs=False) for vector in vectors]

    def groups(self) -> tuple[Group, ...]:
        """Every group that may lose channels, in the order in which they were made."""
        members = defaultdict(list)
        for i in range(len(self._same)):
            members[self._find(i)].append(i)
        return tuple(
            Group(*self._made[first][:2], tuple(s for i in sets for s in self._slices[i]))
            for first, sets in members.items()
            if all(self._made[i][2] for i in sets)
        )

    def _find(self, i: int) -> int:
        while self._same[i] != i:
            i = self._same[i]
        return i


def unknown(layer: str, kind: str, file: str) -> ConfigError:
    """The error for a layer of which it is not known what it does to channels.

    file: the one in which such layers are listed.
    """
    return ConfigError(
        f"scheme prunetrain: layer {layer} of the network is of type {kind}. PruneTrain cuts "
        "channels of convolutional networks, and what this type does to channels is not known; "
        f"say it in {file}, or take another model or scheme (prunetrain_l1 trains any network)"
    )


def norms(group: Group, arrays: Arrays) -> Floats:
    """Euclidean norm of each channel over all its kernel slices, shape (channels,)."""
    return np.asarray(
        np.sqrt(sum(_over_channels(s, np.square, np.sum, arrays) for s in group.kernels))
    )


def penalty(groups: Iterable[Group], arrays: Arrays) -> float:
    """The group lasso, without its coefficient."""
    return float(sum(norms(group, arrays).sum() for group in groups))


def alive(groups: Iterable[Group], arrays: Arrays, threshold: float, multiple: int = 1) -> Kept:
    """The channels with any kernel weight of at least `threshold` in absolute value, and the
    strongest of the others as far as a group's number of channels must be a multiple of
    `multiple`; at least one, since a network needs one."""
    kept = {}
    for group in groups:
        largest = [_over_channels(s, np.abs, np.max, arrays) for s in group.kernels]
        lives = np.max(largest, axis=0) >= threshold
        number = min(-(-max(int(lives.sum()), 1) // multiple) * multiple, group.channels)
        order = np.lexsort((-norms(group, arrays), ~lives))  # the living first, then by strength
        kept[group.name] = np.sort(order[:number])
    return kept


def everything(groups: Iterable[Group]) -> Kept:
    """All channels of the whole network."""
    return {group.name: np.arange(group.channels) for group in groups}


def cut(groups: Iterable[Group], kept: Kept, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The arrays with the kept channels alone. Arrays may be missing, as optimiser slots are of
    what was never trained."""
    found = dict(arrays)
    for group in groups:
        for s in group.slices:
            if s.array in found:
                found[s.array] = np.take(found[s.array], kept[group.name], axis=s.axis)
    return found


def places(wanted: Arrays, kept: Kept) -> Kept:
    """Where the wanted channels lie among the kept ones, both counted in the whole network.

    Raises ValueError when these are other groups, or channels that were cut.
    """
    if set(wanted) != set(kept):
        raise ValueError(f"groups of channels differ: {sorted(set(wanted) ^ set(kept))[:5]}")
    for name, channels in wanted.items():
        if not np.isin(channels, kept[name]).all():
            raise ValueError(f"channels of {name} were cut out here that the state has")
    return {name: np.searchsorted(kept[name], wanted[name]) for name in wanted}


def count(kept: Kept) -> int:
    """Channels in all groups together."""
    return sum(len(channels) for channels in kept.values())


def _over_channels(s: Slice, each: Any, together: Any, arrays: Arrays) -> Floats:
    """A value for each channel from all the weights of its slice."""
    values = each(arrays[s.array].astype(np.float64))
    others = tuple(axis for axis in range(values.ndim) if axis != s.axis)
    return np.asarray(together(values, axis=others))
