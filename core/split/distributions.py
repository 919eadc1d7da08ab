"""How the weights of blocks are distributed: a few quantiles, small enough to send and to keep."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
_WEIGHTS = "weights"


def distributions(state: Mapping[str, NDArray[Any]]) -> dict[int, list[float]]:
    """Mean, standard deviation and QUANTILES of all weights of each block, running statistics
    left out. state: of a `Part`."""
    found: dict[int, list[NDArray[Any]]] = {}
    for name, array in state.items():
        index, what, *rest = name.split("/")
        own = rest[-1].rpartition(".")[2]  # weight, bias; of an LSTM weight_ih_l0 and the like
        if what == _WEIGHTS and own.startswith(("weight", "bias")):
            found.setdefault(int(index), []).append(array.ravel())
    return {index: _described(np.concatenate(arrays)) for index, arrays in sorted(found.items())}


def _described(values: NDArray[Any]) -> list[float]:
    quantiles = np.quantile(values, QUANTILES)
    return [float(x) for x in (values.mean(), values.std(), *quantiles)]
