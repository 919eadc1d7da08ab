"""Which runs a figure takes, and what it says of those that do not belong to it."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigError
from core.figures.matching import matched
from core.figures.results import Run, Settings, read_run

MakeRun = Callable[..., Path]


def chosen(entry: dict[str, Any], folders: list[Path], stand_ins: dict[str, str]) -> list[Run]:
    return matched(entry, [read_run(folder) for folder in folders], Settings(stand_ins, True))


def test_runs_come_in_the_order_of_the_entry_whatever_the_order_of_folders(
    entry: dict[str, Any], make_run: MakeRun, stand_ins: dict[str, str]
) -> None:
    two = {"model": ["vgg16", "resnet50"], "schemes": ["full", "elastic"]}
    rhos = {"vary": [{"rho": [0.4, 0.7]}]}
    folders = [make_run("elastic", f"e{rho}", own={"rho": rho}) for rho in (0.7, 0.4)]
    folders.append(make_run("full"))
    folders += [
        make_run("elastic", f"v{rho}", own={"rho": rho}, model={"name": "vgg16"})
        for rho in (0.7, 0.4)
    ]
    folders.append(make_run("full", "vfull", model={"name": "vgg16"}))
    for given in itertools.islice(itertools.permutations(folders), 0, 720, 97):
        found = chosen(entry | two | rhos, list(given), stand_ins)
        assert [(r.model, r.scheme, r.rho) for r in found] == [
            ("vgg16", "full", None),
            ("vgg16", "elastic", 0.4),
            ("vgg16", "elastic", 0.7),
            ("efficientnet_lite0", "full", None),
            ("efficientnet_lite0", "elastic", 0.4),
            ("efficientnet_lite0", "elastic", 0.7),
        ]


def test_published_models_with_one_stand_in_share_its_runs(
    entry: dict[str, Any], four_runs: list[Path], stand_ins: dict[str, str]
) -> None:
    both = entry | {"model": ["resnet50", "vit_b16"]}
    stand_ins["vit_b16"] = "efficientnet_lite0"
    assert len(chosen(both, four_runs, stand_ins)) == 4


def test_missing_run_is_named_with_its_settings(
    entry: dict[str, Any], four_runs: list[Path], stand_ins: dict[str, str]
) -> None:
    where = "(efficientnet_lite0 on elpv)"
    message = f"no run of scheme head {where}, scheme bn_bias {where}: add its folder"
    with pytest.raises(ConfigError, match=re.escape(message)):
        chosen(entry, four_runs[:2], stand_ins)
    rhos = {"schemes": ["elastic"], "vary": [{"rho": [0.5, 0.7]}]}
    message = f"no run of scheme elastic with rho 0.7 {where}: add its folder"
    with pytest.raises(ConfigError, match=re.escape(message)):
        chosen(entry | rhos, four_runs[:1], stand_ins)


def test_run_that_the_entry_does_not_name_is_refused(
    entry: dict[str, Any], four_runs: list[Path], stand_ins: dict[str, str]
) -> None:
    message = f"{four_runs[1]} ran scheme full, not in ['elastic']"
    with pytest.raises(ConfigError, match=re.escape(message)):
        chosen(entry | {"schemes": ["elastic"]}, four_runs, stand_ins)
    rhos = {"schemes": ["elastic"], "vary": [{"rho": [0.4]}]}
    message = f"{four_runs[0]} has rho 0.5, which the figure does not vary"
    with pytest.raises(ConfigError, match=re.escape(message)):
        chosen(entry | rhos, four_runs[:1], stand_ins)


@pytest.mark.parametrize(
    "changes",
    [{"scheme": "full"}, {"scheme": "elastic", "own": {"interval": 4}}, {"seed": 1}],
    ids=["the same", "another interval", "another seed"],
)
def test_two_runs_of_one_scheme_and_budget_are_refused(
    entry: dict[str, Any],
    four_runs: list[Path],
    make_run: MakeRun,
    stand_ins: dict[str, str],
    changes: dict[str, Any],
) -> None:
    changes = {"scheme": "full"} | changes
    again, scheme = make_run(folder="again", **changes), changes["scheme"]
    message = f"two runs of scheme {scheme}, give one: .*{scheme}, {re.escape(str(again))}"
    with pytest.raises(ConfigError, match=message):
        chosen(entry, [*four_runs, again], stand_ins)


def test_longer_run_beside_one_of_usual_length_is_taken_where_the_entry_says_longer(
    entry: dict[str, Any], make_run: MakeRun, stand_ins: dict[str, str]
) -> None:
    full = entry | {"schemes": ["full"]}
    folders = [make_run(folder="long", longer=2), make_run()]
    with pytest.raises(ConfigError, match="two runs of scheme full, give one"):
        chosen(full, folders, stand_ins)
    both = chosen(full | {"longer": {"resnet50": {"full": 2}}}, folders, stand_ins)
    assert [len(run.epochs) for run in both] == [3, 6]
