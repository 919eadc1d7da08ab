"""The optimisers against their formulas in NumPy, in the form that Keras gives them."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from core.elastic.torch_optimisers import optimiser

RATE, MOMENTUM, DECAY, STEPS = 0.05, 0.9, 5e-2, 20
LATE = 7  # from this step on the last tensor is selected
SHAPES = ((3, 4), (5,), (2, 3))
Slots = dict[str, list[NDArray[np.float64]]]
Formula = Callable[[NDArray[np.float64], NDArray[np.float64], Slots, int, int, float], None]


def sgdw(w: NDArray, g: NDArray, slots: Slots, i: int, done: int, rate: float) -> None:
    """Velocity holds the learning rate; the decay stays out of it."""
    slots["momentum"][i] = MOMENTUM * slots["momentum"][i] - rate * g
    w += slots["momentum"][i] - rate * DECAY * w


def adam(w: NDArray, g: NDArray, slots: Slots, i: int, done: int, rate: float) -> None:
    """ε outside of the correction; corrected by the count of all steps, not of the tensor's."""
    slots["m"][i] = 0.9 * slots["m"][i] + 0.1 * g
    slots["v"][i] = 0.999 * slots["v"][i] + 0.001 * g**2
    corrected = rate * math.sqrt(1 - 0.999 ** (done + 1)) / (1 - 0.9 ** (done + 1))
    w -= corrected * slots["m"][i] / (np.sqrt(slots["v"][i]) + 1e-7)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize(
    ("name", "formula", "names"), [("sgdw", sgdw, ["momentum"]), ("adam", adam, ["m", "v"])]
)
def test_updates_are_those_of_the_formulas_for_a_tensor_selected_late_too(
    name: str, formula: Formula, names: list[str], schedule: str
) -> None:
    random = np.random.default_rng(0)
    expected = [random.normal(size=shape) for shape in SHAPES]
    slots: Slots = {slot: [np.zeros(shape) for shape in SHAPES] for slot in names}
    weights = [torch.from_numpy(w.astype(np.float32)) for w in expected]
    kept = {slot: [torch.zeros(shape) for shape in SHAPES] for slot in names}
    settings = {"name": name, "learning_rate": RATE, "schedule": schedule}
    settings |= {"momentum": MOMENTUM, "weight_decay": DECAY} if name == "sgdw" else {}
    tested = optimiser(settings, STEPS)
    assert list(tested.slots) == names
    for done in range(STEPS):
        chosen = [0, 1, 2] if done >= LATE else [0, 1]
        gradients = [random.normal(size=SHAPES[i]).astype(np.float32) for i in chosen]
        rate = RATE * (0.5 * (1 + math.cos(math.pi * done / STEPS)) if schedule == "cosine" else 1)
        for i, gradient in zip(chosen, gradients, strict=True):
            formula(expected[i], gradient.astype(np.float64), slots, i, done, rate)
        tested.update(
            [weights[i] for i in chosen],
            [torch.from_numpy(g) for g in gradients],
            {slot: [values[i] for i in chosen] for slot, values in kept.items()},
            done,
        )
    for i, weight in enumerate(expected):
        assert weights[i].numpy() == pytest.approx(weight, rel=1e-5, abs=1e-6)
        for slot in names:
            assert kept[slot][i].numpy() == pytest.approx(slots[slot][i], rel=1e-4, abs=1e-7)


def test_the_learning_rate_stays_at_zero_after_the_end_of_the_schedule() -> None:
    settings = {"name": "adam", "learning_rate": RATE, "schedule": "cosine"}
    tested = optimiser(settings, STEPS)
    weights, gradients = [torch.ones(3)], [torch.ones(3)]
    slots = {slot: [torch.zeros(3)] for slot in tested.slots}
    for done in (STEPS, STEPS + 5):
        tested.update(weights, gradients, slots, done)
        assert weights[0].tolist() == [1, 1, 1]
    tested.update(weights, gradients, slots, STEPS - 1)
    assert (weights[0] < 1).all()
