"""Area under the ROC curve."""

import numpy as np
from numpy.typing import NDArray


def roc_auc(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float | None:
    """The chance that a positive sample has a higher score than a negative one, where equal scores
    count half: by the sum of ranks (Mann and Whitney). None where one class is missing.

    labels: N, 0 or 1. scores: N, finite.
    """
    positive = labels == 1
    count, others = int(positive.sum()), int((~positive).sum())
    if not count or not others:
        return None
    _, place, equal = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(equal)
    ranks = (last - (equal - 1) / 2)[place]  # of equal scores the mean
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))
