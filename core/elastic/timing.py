"""What a training step costs on a device, tensor by tensor (the offline profile of MobiSys 2023,
section 4), and what it will cost under a selection."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.elastic.selector import Floats, pruned
from core.errors import DataError, DeviceError
from core.files import write_text

Cost = Literal["realisable", "paper"]
Kind = Literal["kernel", "bias", "norm", "other"]

FORMAT = 3


@dataclass(frozen=True)
class Tensor:
    """A trainable tensor, as the selector sees it."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    head: bool  # belongs to the new prediction layer
    layer: str  # tensors of one layer share it

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Counts:
    """Multiply-adds of one training step, from the graph. What is not a multiply-add
    (activations, normalisation) counts nothing, as in the paper's "FLOPs".

    t_dw, t_reach, t_through, forward: parts of a full step, as in `Parts`.
    needed: the backward pass again, by the set of tensors whose update needs a part of it. Unlike
    the parts by depth this is exact where branches run side by side.
    """

    t_dw: Floats
    t_reach: Floats
    t_through: Floats
    forward: float
    needed: Mapping[frozenset[int], float]

    def of(self, mask: NDArray[np.bool_]) -> float:
        """Multiply-adds of one step under a selection, mask of shape (N,)."""
        selected = set(np.flatnonzero(mask).tolist())
        return self.forward + sum(n for users, n in self.needed.items() if users & selected)

    def plain(self) -> dict[str, Any]:
        """The same as plain JSON."""
        arrays = {key: getattr(self, key).tolist() for key in ("t_dw", "t_reach", "t_through")}
        needed = [[sorted(users), n] for users, n in self.needed.items() if n]
        return arrays | {"forward": self.forward, "needed": needed}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Counts":
        """Back from plain JSON. Raises KeyError, TypeError or ValueError for anything else."""
        dw, reach, through = (
            np.asarray(plain[k], dtype=np.float64) for k in ("t_dw", "t_reach", "t_through")
        )
        needed = {frozenset(users): float(n) for users, n in plain["needed"]}
        return cls(dw, reach, through, float(plain["forward"]), needed)


@dataclass(frozen=True)
class Parts:
    """One measurement of a step and its parts, in seconds, as a backend takes it.

    t_dw: gradient of each tensor, its optimiser update included. Shape (N,).
    t_reach: error propagation that is needed as soon as tensor k or one nearer the input is
        selected: layers without weights, normalisation, and what the forward pass costs more
        where its intermediate results must be kept. Shape (N,).
    t_through: error propagation through the operation that uses tensor k (input gradient of a
        convolution). A framework that prunes the backward pass does it only if a tensor nearer
        the input than k is selected. Shape (N,).
    forward, full: whole steps timed without a profiler: loss only; loss, all gradients, update.
    spread: interquartile range of the full step over its median.
    """

    t_dw: Floats
    t_reach: Floats
    t_through: Floats
    forward: float
    full: float
    spread: float


@dataclass(frozen=True)
class Timing:
    """The timing profile of a model on a device, closed against the whole step.

    closure: |sum of parts − measured backward| / measured backward, before the parts were scaled
    to agree. counts: multiply-adds of the same step, where they were counted with it. Everything
    else as in `Parts`.
    """

    tensors: tuple[Tensor, ...]
    t_dw: Floats
    t_reach: Floats
    t_through: Floats
    forward: float
    full: float
    spread: float
    closure: float
    context: dict[str, Any] = field(default_factory=dict)
    counts: Counts | None = None

    @classmethod
    def from_parts(
        cls, tensors: Sequence[Tensor], parts: Parts, context: dict[str, Any]
    ) -> "Timing":
        """Scale the parts so that they add up to the measured backward pass.

        Raises DeviceError when the measurement makes no sense, as on a device kept busy.
        """
        backward = parts.full - parts.forward
        total = float(parts.t_dw.sum() + parts.t_reach.sum() + parts.t_through.sum())
        if backward <= 0 or total <= 0:
            raise DeviceError(
                f"the full step ({parts.full:.4f} s) was not slower than the forward pass alone "
                f"({parts.forward:.4f} s): something else keeps this device busy; measure again"
            )
        scale = backward / total
        return cls(
            tensors=tuple(tensors),
            t_dw=parts.t_dw * scale,
            t_reach=parts.t_reach * scale,
            t_through=parts.t_through * scale,
            forward=parts.forward,
            full=parts.full,
            spread=parts.spread,
            closure=abs(total - backward) / backward,
            context=context,
        )

    @property
    def backward(self) -> float:
        return self.full - self.forward

    def t_dy(self, cost: Cost) -> Floats:
        """Error propagation per tensor, so that depth d pays sum(t_dy[d:]). Seconds, shape (N,).

        `paper`: the deepest selected tensor's own t_dy is paid; `realisable`: it is not.
        """
        through = self.t_through if cost == "paper" else pruned(self.t_through)
        return self.t_reach + through

    def predict(self, mask: NDArray[np.bool_], cost: Cost = "realisable") -> float:
        """Seconds of one training step under a selection, mask of shape (N,)."""
        return _under(mask, self.forward, self.t_dw, self.t_dy(cost))

    def save(self, path: Path) -> None:
        """Write the profile as JSON."""
        content = asdict(replace(self, counts=None)) | {"format": FORMAT}
        for key in ("t_dw", "t_reach", "t_through"):
            content[key] = getattr(self, key).tolist()
        if self.counts:
            content["counts"] = self.counts.plain()
        write_text(path, json.dumps(content, indent=1))

    @classmethod
    def load(cls, path: Path) -> "Timing":
        """Read a profile. Raises DataError when it is missing, damaged or of another format."""
        try:
            content = json.loads(path.read_text())
            if content.pop("format") != FORMAT:
                raise ValueError(f"not a timing profile of format {FORMAT}")
            content["tensors"] = tuple(
                Tensor(**{**t, "shape": tuple(t["shape"])}) for t in content["tensors"]
            )
            for key in ("t_dw", "t_reach", "t_through"):
                content[key] = np.asarray(content[key], dtype=np.float64)
                if content[key].shape != (len(content["tensors"]),):
                    raise ValueError(f"{key} is not one number for each tensor")
            if content["counts"]:
                content["counts"] = Counts.from_plain(content["counts"])
            return cls(**content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"timing profile {path} cannot be read ({error}); "
                "delete it, and the same command measures it again"
            ) from None


def _under(mask: NDArray[np.bool_], forward: float, t_dw: Floats, t_dy: Floats) -> float:
    """Cost of a step: the forward pass, each selected tensor, the way to the deepest one."""
    if not mask.any():
        return forward
    depth = int(mask.argmax())
    return float(forward + t_dw[mask].sum() + t_dy[depth:].sum())
