"""The network of a spec: a block for each party, in the order of the spec, then the server's."""

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.models import din
from core.split.part import Part

_WEIGHTS = 3  # tells this stream of random numbers from those of core.training.order
_drawing = Lock()  # PyTorch has one generator for all threads


def make_party(spec: Any, index: int, genres: NDArray[np.uint8]) -> Part:
    """What the party at this place of the spec holds. genres: of all movies, and of none."""
    return _part(spec, index, lambda: din.History(genres))


def make_server(spec: Any) -> Part:
    """What the server holds."""
    return _part(spec, len(spec["parties"]), din.upper)


def _part(spec: Any, index: int, make: Callable[[], nn.Module]) -> Part:
    def build(number: int) -> nn.Module:
        seed = np.random.SeedSequence([spec["seed"], _WEIGHTS, number]).generate_state(1)[0]
        with _drawing, torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(seed))
            return make()

    optimiser = spec["training"]["optimiser"]
    return Part(build, _as_it_is, range(index, index + 1), optimiser, spec["seed"])


def _as_it_is(rows: Tensor) -> Tensor:
    return rows
