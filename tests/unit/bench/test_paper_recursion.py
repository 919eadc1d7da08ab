import numpy as np
import pytest

from core.bench.paper_recursion import against_ours, paper_selection, resnet50_like
from core.bench.selector import brute_force, spent
from core.elastic.selector import select


def test_it_keeps_the_budget_and_never_beats_the_best_of_all_masks():
    random = np.random.default_rng(0)
    optimal = 0
    for _ in range(100):
        t_dw, t_dy = random.integers(0, 8, (2, 7))
        importance, budget = random.random(7), int(random.integers(0, 60))
        mask = paper_selection(t_dw, t_dy, importance, budget)
        best = brute_force(t_dw, t_dy, importance, budget, realisable=False)
        assert spent(mask, t_dw, t_dy, realisable=False) <= budget
        assert importance[mask].sum() <= best + 1e-9
        optimal += bool(np.isclose(importance[mask].sum(), best))
    assert 50 < optimal < 100


def test_going_on_from_a_tensor_is_lost_where_leaving_it_out_was_better():
    t_dw, t_dy = np.array([0, 0, 1]), np.array([0, 2, 0])
    importance = np.array([3.0, 2.0, 2.5])
    # Within 2 steps tensor 2 alone is worth more than tensor 1 alone, so nothing is built on
    # tensor 1. But tensor 0 fits beside tensor 1 and not beside tensor 2.
    assert paper_selection(t_dw, t_dy, importance, 2).tolist() == [True, False, False]
    assert select(t_dw, t_dy, importance, 2, 2).tolist() == [True, True, False]


def test_everything_is_chosen_where_everything_fits():
    t_dw, t_dy = np.array([3, 0, 2]), np.array([1, 4, 0])
    mask = paper_selection(t_dw, t_dy, np.array([0.1, 0.2, 0.3]), 10)
    assert mask.all()


def test_nothing_is_chosen_where_nothing_fits():
    assert not paper_selection(np.array([3]), np.array([1]), np.array([1.0]), 3).any()


def test_resnet50_has_its_214_tensors_and_the_papers_rules_of_charging():
    t_dw, t_dy = resnet50_like(np.random.default_rng(0))
    assert t_dw.shape == t_dy.shape == (214,)
    kernels, biases, gammas, betas = (t_dw[part:-2:4] for part in range(4))
    assert (kernels > 0).all()
    assert (biases > 0).all()
    assert not gammas.any()
    assert not betas.any()
    assert (t_dy[3:-2:4] > 0).all()
    assert not t_dy[1::4].any()


def test_under_the_same_whole_steps_ours_is_never_worse():
    random = np.random.default_rng(1)
    found = against_ours(*random.random((2, 30)), random.random(30))
    for rho in ("0.3", "0.5", "0.7"):
        assert 0 < found[rho]["importance_ratio"] <= 1  # type: ignore[index]
        assert found[rho]["spent_of_budget_ours"] == pytest.approx(1, abs=0.15)  # type: ignore[index]
