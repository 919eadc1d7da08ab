"""The order of samples: a function of seed and epoch, so that a resumed run needs no generator."""

import numpy as np
from numpy.typing import NDArray


def epoch_order(seed: int, epoch: int, samples: int) -> NDArray[np.int64]:
    """A permutation of range(samples) for this epoch (from 0)."""
    return np.random.default_rng([seed, 0, epoch]).permutation(samples)


def probe_batch(
    seed: int, epoch: int, samples: int, batch: int, number: int = 0
) -> NDArray[np.int64]:
    """Indices of the batch of this number on which importance is measured before this epoch."""
    random = np.random.default_rng([seed, 1, epoch, number])
    return random.choice(samples, min(batch, samples), replace=False)
