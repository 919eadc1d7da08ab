"""The benchmark of compiled steps, on a small network and without a C++ compiler."""

import math

import pytest

from core.bench import compile as bench
from core.models import torch_zoo
from tests.torch import networks

pytestmark = pytest.mark.slow


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, float]]:
    monkeypatch.setattr(torch_zoo, "NETWORKS", networks.NETWORKS)
    monkeypatch.setattr(bench, "COMPILER", "aot_eager")
    monkeypatch.setattr(bench, "REPEATS", 2)
    backend = networks.make("small", **networks.RANDOM)
    return bench.compare(backend, *networks.batch_of(0))  # type: ignore[return-value]


def test_steps_of_each_selection_are_compared(found: dict[str, dict[str, float]]) -> None:
    assert list(found) == ["full", "elastic", "head"]
    for each in found.values():
        assert each["loss_difference"] == pytest.approx(0, abs=1e-5)
        assert each["compile_s"] > 0
        saves = each["compiled_over_eager"] < 1
        assert saves or each["steps_to_pay_back"] is None
    assert (found["full"]["eager_share"], found["full"]["compiled_share"]) == (1, 1)
    assert math.isfinite(found["elastic"]["compiled_share"])
