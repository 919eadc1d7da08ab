"""Which tensors each scheme trains."""

import subprocess
import sys

import pytest

from core.elastic.schemes import SCHEMES
from core.elastic.timing import Tensor

TENSORS = (
    Tensor("stem/kernel", (3, 3, 3, 8), "kernel", head=False),
    Tensor("stem/bias", (8,), "bias", head=False),
    Tensor("norm/gamma", (8,), "norm", head=False),
    Tensor("norm/beta", (8,), "norm", head=False),
    Tensor("class_token", (1, 1, 8), "other", head=False),
    Tensor("head/kernel", (8, 5), "kernel", head=True),
    Tensor("head/bias", (5,), "bias", head=True),
)


@pytest.mark.parametrize(
    ("scheme", "trained"),
    [
        ("full", {0, 1, 2, 3, 4, 5, 6}),
        ("head", {5, 6}),
        ("bn_bias", {1, 2, 3, 5, 6}),
    ],
)
def test_a_scheme_trains_what_the_paper_says(scheme: str, trained: set[int]) -> None:
    mask = SCHEMES[scheme](TENSORS)
    assert mask is not None
    assert {i for i, m in enumerate(mask) if m} == trained
    assert len(mask) == len(TENSORS)


def test_elastic_leaves_the_choice_to_the_selector() -> None:
    assert SCHEMES["elastic"](TENSORS) is None


def test_every_scheme_takes_any_network() -> None:
    for scheme in SCHEMES.values():
        assert not scheme([])


def test_schemes_are_named_without_loading_numpy_or_a_framework() -> None:
    script = (
        "import sys; from core.elastic.schemes import SCHEMES; print(*SCHEMES); "
        "assert not {'numpy', 'torch', 'tensorflow'} & set(sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert answer.stdout.split() == ["elastic", "full", "head", "bn_bias"], answer.stderr
