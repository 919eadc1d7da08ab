"""Which tensors each scheme trains, and what it needs for that."""

import subprocess
import sys

import pytest

from core import schema
from core.elastic.schemes import SCHEMES
from core.elastic.timing import Tensor

TENSORS = (
    Tensor("stem/kernel", (3, 3, 3, 8), "kernel", head=False, layer="stem"),
    Tensor("stem/bias", (8,), "bias", head=False, layer="stem"),
    Tensor("norm/gamma", (8,), "norm", head=False, layer="norm"),
    Tensor("norm/beta", (8,), "norm", head=False, layer="norm"),
    Tensor("class_token", (1, 1, 8), "other", head=False, layer="class_token"),
    Tensor("head/kernel", (8, 5), "kernel", head=True, layer="head"),
    Tensor("head/bias", (5,), "bias", head=True, layer="head"),
)
EVERYTHING = set(range(len(TENSORS)))
FIXED = {
    "full": EVERYTHING,
    "head": {5, 6},
    "bn_bias": {1, 2, 3, 5, 6},
    "prunetrain": EVERYTHING,
    "prunetrain_l1": EVERYTHING,
}


@pytest.mark.parametrize("scheme", FIXED)
def test_a_scheme_trains_what_the_paper_says(scheme: str) -> None:
    trains = SCHEMES[scheme].trains
    assert trains is not None
    mask = trains(TENSORS)
    assert {i for i, m in enumerate(mask) if m} == FIXED[scheme]
    assert len(mask) == len(TENSORS)
    assert trains([]) == []


def test_the_others_leave_the_choice_to_the_selector_each_by_its_own_importance() -> None:
    left = {name: s.importance for name, s in SCHEMES.items() if s.trains is None}
    assert left == {"elastic": "update", "elastic_weight": "weight", "elastic_grad": "gradient"}
    assert left.keys() | FIXED.keys() == SCHEMES.keys()


def test_only_what_is_published_under_the_name_of_prunetrain_has_a_penalty() -> None:
    penalties = {name: s.penalty for name, s in SCHEMES.items() if s.penalty}
    assert penalties == {"prunetrain": "group_lasso", "prunetrain_l1": "l1"}


@pytest.mark.parametrize("name", SCHEMES)
def test_settings_of_a_scheme_are_a_section_of_the_configuration_with_a_schema(name: str) -> None:
    section = SCHEMES[name].settings
    known = schema.load("config")["properties"]
    if SCHEMES[name].trains is None:
        assert section == "elastic"  # the selector reads these
    if section is not None:
        assert known[section] == {"$ref": f"{section}.schema.yaml"}
        assert schema.load(section)["additionalProperties"] is False


def test_no_two_schemes_look_alike() -> None:
    """In colour, and in marker and line too, for grey prints."""
    looks = [s.look for s in SCHEMES.values()]
    for part in ("label", "colour", "marker"):
        assert len({getattr(look, part) for look in looks}) == len(looks), part


def test_schemes_are_named_without_loading_numpy_or_a_framework() -> None:
    script = (
        "import sys; from core.elastic.schemes import SCHEMES; print(*SCHEMES); "
        "assert not {'numpy', 'torch', 'tensorflow'} & set(sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert answer.stdout.split() == list(SCHEMES), answer.stderr
