"""TensorFlow and PyTorch train the same: computed in both environments and compared."""

from pathlib import Path
from typing import Any

import pytest

from core.bench import parity
from core.bench.parity_side import FRACTIONS, RATES, STEPS
from core.frameworks import FRAMEWORKS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("parity")
    return {name: parity._side(name, Path(folder)) for name in FRAMEWORKS}


def test_the_frameworks_lose_alike_weigh_alike_and_select_the_same(
    sides: dict[str, dict[str, Any]],
) -> None:
    figures = parity.compare(sides["tensorflow"], sides["torch"])
    assert figures["loss_difference"] < 1e-3
    assert figures["one_minus_spearman"] <= 0.01
    assert figures["selections_that_differ"] == 0


def test_what_is_compared_is_not_trivial(sides: dict[str, dict[str, Any]]) -> None:
    one = sides["torch"]
    tensors = len(one["importance"]["sgdw/update"])
    for optimiser in RATES:
        losses = one["losses"][optimiser]
        assert len(losses) == STEPS
        assert len(set(losses)) == STEPS
        values = one["importance"][f"{optimiser}/update"]
        assert len(set(values)) > 0.9 * tensors
    chosen = [len(selection) for selection in one["selections"]]
    assert len(chosen) == len(FRACTIONS)
    assert chosen == sorted(chosen)
    assert 0 < chosen[0] < chosen[-1] < tensors


def test_a_difference_is_found(sides: dict[str, dict[str, Any]]) -> None:
    one = sides["torch"]
    losses = dict(one["losses"]) | {"adam": [x * 1.01 for x in one["losses"]["adam"]]}
    values = one["importance"]["sgdw/weight"]
    importance = one["importance"] | {"sgdw/weight": values[::-1]}
    selections = [one["selections"][0][1:], *one["selections"][1:]]
    other = one | {"losses": losses, "importance": importance, "selections": selections}
    figures = parity.compare(one, other)
    assert figures["loss_difference"] == pytest.approx(0.01)
    assert figures["one_minus_spearman"] > 0.01
    assert figures["selections_that_differ"] == 1
