import pytest

from core.bench import memory, memory_side, tasks


def test_ratios_compare_steps_each_with_the_forward_passes_beside_it():
    steps = {"full": 1.0, "bn_bias": 0.6, "elastic": 0.8}
    forwards = {"full": 0.2, "bn_bias": 0.2, "elastic": 0.4}  # the machine was half as fast
    memory_found = {
        "full": {"peak": 800.0, "above_built": 500.0},
        "bn_bias": {"peak": 600.0, "above_built": 300.0},
        "elastic": {"peak": 400.0, "above_built": 100.0},
    }
    found = memory.compare(steps, forwards, memory_found)
    assert found["step_over_full"] == {"full": 1, "bn_bias": 0.6, "elastic": 0.4}
    assert found["elastic_step_over_bn_bias"] == 0.667
    assert found["peak_over_full"] == {"full": 1, "bn_bias": 0.75, "elastic": 0.5}
    assert found["elastic_peak_over_bn_bias"] == 0.667
    assert found["above_built_mib"]["elastic"] == 100


@pytest.mark.parametrize(
    ("smallest", "rho"), [(0.2, 0.4), (0.38, 0.4), (0.395, 0.5), (0.55, 0.6), (0.6, 0.7)]
)
def test_where_the_wanted_rho_is_too_small_the_next_tenth_is_taken(smallest, rho):
    assert memory_side.feasible(smallest) == rho


@pytest.mark.slow
def test_memory_of_a_real_step_is_above_what_the_built_network_has(monkeypatch):
    monkeypatch.setitem(tasks.SETTINGS, "tiny", ("efficientnet_lite0", 32, 4))
    found = memory_side.peak("tiny", list(range(149)), probe=False)
    assert found["peak"] > found["above_built"] > 0
