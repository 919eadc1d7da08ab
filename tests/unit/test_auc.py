"""core.federated.auc against every pair of a positive and a negative sample."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.federated.auc import roc_auc

samples = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([-2.0, 0.0, 0.5, 0.7, 3.0])))


@given(samples)
def test_it_is_the_part_of_pairs_in_the_right_order(pairs: list[tuple[int, float]]) -> None:
    labels = np.array([label for label, _ in pairs], np.int64)
    scores = np.array([score for _, score in pairs])
    positive, negative = scores[labels == 1], scores[labels == 0]
    if not len(positive) or not len(negative):
        assert roc_auc(labels, scores) is None
        return
    better = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    found = roc_auc(labels, scores)
    assert found is not None
    assert abs(found - better / (len(positive) * len(negative))) < 1e-12


def test_examples() -> None:
    labels = np.array([0, 0, 1, 1])
    assert roc_auc(labels, np.array([0.1, 0.4, 0.35, 0.8])) == 0.75
    assert roc_auc(labels, np.array([1.0, 1.0, 1.0, 1.0])) == 0.5
    assert roc_auc(labels, np.array([0.0, 1.0, 2.0, 3.0])) == 1.0
