"""Which tensors to train within a time budget: an exact nested knapsack.

The paper's dynamic program (MobiSys 2023, section 5) is O(N²·T) and not always optimal.
Here every depth d (the selected tensor nearest the input) leaves one plain knapsack:
propagating the error down to d costs sum(t_dy[d:]), what is left of the budget goes to the
tensors d..N-1. Going from the output to the input, those knapsacks are nested, so a single
table serves all depths: O(N·T), one vector operation per tensor.
"""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


def select(
    t_dw: ArrayLike,
    t_dy: ArrayLike,
    importance: ArrayLike,
    budget: float,
    resolution: int = 10_000,
    layers: Sequence[str] | None = None,
) -> Mask:
    """The mask that maximises the importance of the trained tensors within the budget.

    Tensors are ordered from the input to the output; all three arrays have shape (N,).
    A mask m with nearest-to-input tensor d costs sum(t_dw[m]) + sum(t_dy[d:]).

    t_dw: seconds for the gradient of each tensor, with its update.
    t_dy: seconds that each tensor adds to propagating the error; which of the two published
        readings these are is decided by `Timing.t_dy`.
    importance: any unit; tensors with importance <= 0 are never selected.
    budget: seconds for gradients and error propagation.
    resolution: time steps that the budget is divided into. Times are rounded up to whole
        steps, so the real budget always holds.
    layers: the layer of each tensor, where all tensors of a layer are selected together or not
        at all.

    Returns a mask of shape (N,), all False when nothing fits.
    Raises ValueError for arrays that differ in shape or hold negative or non-finite times, and
    for a budget that is not a finite number.
    """
    dw, dy, gain = (np.asarray(a, dtype=np.float64) for a in (t_dw, t_dy, importance))
    _check(dw, dy, gain, budget)
    if layers is not None:
        _, first, member = np.unique(list(layers), return_index=True, return_inverse=True)
        place = np.argsort(np.argsort(first))[member]  # of each tensor's layer, in order of use
        dw, gain = (np.bincount(place, weights=a).astype(np.float64) for a in (dw, gain))
        # From its first tensor to the next layer's: what lies between is paid by who goes deeper.
        dy = np.add.reduceat(dy, np.sort(first)) if len(dy) else dy
        return np.asarray(select(dw, dy, gain, budget, resolution)[place])
    if budget <= 0 or not len(dw):
        return np.zeros(len(dw), dtype=bool)
    own, reach = _whole_steps(dw, dy, budget, resolution)
    return _best_mask(own, reach, gain, resolution)


def pruned(t_dy: ArrayLike) -> Floats:
    """t_dy as a framework pays it that prunes the backward pass: sum(t_dy[d + 1:]) for depth d.

    Nothing below the deepest selected tensor needs the error, so it is not propagated through
    that tensor. Shifting by one place turns this reading into the one that `select` solves.
    """
    return np.append(np.asarray(t_dy, dtype=np.float64), 0.0)[1:]


def _check(dw: Floats, dy: Floats, gain: Floats, budget: float) -> None:
    if not dw.shape == dy.shape == gain.shape or dw.ndim != 1:
        raise ValueError(f"shapes differ: t_dw {dw.shape}, t_dy {dy.shape}, I {gain.shape}")
    if not (np.isfinite(dw).all() and np.isfinite(dy).all() and np.isfinite(gain).all()):
        raise ValueError("times and importance must be finite numbers")
    if not np.isfinite(budget):
        raise ValueError(f"the budget must be a finite number, not {budget}")
    if (dw < 0).any() or (dy < 0).any():
        raise ValueError("times must not be negative")


def _whole_steps(
    dw: Floats, dy: Floats, budget: float, resolution: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """t_dw, and the error time down to each tensor, in steps of budget / resolution, rounded up.

    Counted in whole numbers of the smallest binary fraction among the times: the budget holds to
    the last bit, and a time that is a whole number of steps does not become one more.
    """
    ratios = [float(seconds).as_integer_ratio() for seconds in (budget, *dw, *dy)]
    unit = max(denominator for _, denominator in ratios)  # each is a power of two
    whole, *times = (numerator * (unit // denominator) for numerator, denominator in ratios)
    # Rounding the cumulative error time, not each part, loses one step in all instead of N.
    error = list(accumulate(reversed(times[len(dw) :])))[::-1]
    own, reach = (
        np.array([min(-(-t * resolution // whole), resolution + 1) for t in part], dtype=np.int64)
        for part in (times[: len(dw)], error)
    )
    return own, reach


def _best_mask(
    dw: NDArray[np.int64], reach: NDArray[np.int64], gain: Floats, resolution: int
) -> Mask:
    """Fill the table from the output to the input, remember the best depth, walk back."""
    n = len(dw)
    best = np.zeros(resolution + 1)  # best[t]: most importance of tensors k.. within t steps
    candidate = np.empty_like(best)
    taken = np.zeros((n, resolution + 1), dtype=bool)
    depth, depth_value = n, 0.0
    for k in range(n - 1, -1, -1):
        left = resolution - reach[k]  # only shrinks: nearer the input, more error time is paid
        if left < 0:
            break
        if gain[k] > 0 and dw[k] <= left:
            with_k = candidate[dw[k] : left + 1]
            np.add(best[: left + 1 - dw[k]], gain[k], out=with_k)
            np.greater(with_k, best[dw[k] : left + 1], out=taken[k, dw[k] : left + 1])
            np.maximum(best[dw[k] : left + 1], with_k, out=best[dw[k] : left + 1])
        if best[left] > depth_value:
            depth, depth_value = k, float(best[left])
    return _walk_back(taken, dw, depth, resolution - (reach[depth] if depth < n else 0))


def _walk_back(taken: Mask, dw: NDArray[np.int64], depth: int, left: int) -> Mask:
    mask = np.zeros(len(dw), dtype=bool)
    for k in range(depth, len(dw)):
        if taken[k, left]:
            mask[k] = True
            left -= dw[k]
    return mask
