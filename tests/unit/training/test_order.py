"""core.training.order: what a run sees is a function of seed and epoch, and of nothing else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.training.order import epoch_order, probe_batch

seeds, epochs, numbers = st.integers(0, 2**32 - 1), st.integers(0, 10**6), st.integers(0, 999)


@given(seed=seeds, epoch=epochs, samples=st.integers(1, 200))
def test_an_epoch_shows_every_sample_once(seed: int, epoch: int, samples: int) -> None:
    order = epoch_order(seed, epoch, samples)
    assert sorted(order.tolist()) == list(range(samples))
    assert epoch_order(seed, epoch, samples).tolist() == order.tolist()


@given(
    seed=seeds, epoch=epochs, number=numbers, samples=st.integers(1, 50), batch=st.integers(1, 60)
)
def test_a_probe_batch_holds_different_samples_or_all_there_are(
    seed: int, epoch: int, number: int, samples: int, batch: int
) -> None:
    chosen = probe_batch(seed, epoch, samples, batch, number)
    assert len(set(chosen.tolist())) == len(chosen) == min(batch, samples)
    assert set(chosen.tolist()) <= set(range(samples))
    assert probe_batch(seed, epoch, samples, batch, number).tolist() == chosen.tolist()


def test_seeds_epochs_and_numbers_each_give_other_samples() -> None:
    batches = [
        probe_batch(seed, epoch, 10_000, 8, number).tobytes()
        for seed in range(3)
        for epoch in range(3)
        for number in range(3)
    ]
    assert len(set(batches)) == len(batches)
    assert probe_batch(0, 0, 100, 8).tolist() == probe_batch(0, 0, 100, 8, 0).tolist()
    orders = {epoch_order(seed, epoch, 100).tobytes() for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_importance_is_not_measured_on_the_batch_that_is_trained_first() -> None:
    first = epoch_order(5, 2, 10_000)[:8]
    assert not np.isin(probe_batch(5, 2, 10_000, 8), first).all()
