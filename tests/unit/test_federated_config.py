"""core.federated.config: what is configured becomes complete specs, or is refused by name."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from core import config as settings
from core.errors import ConfigError
from core.federated import config as federated
from core.federated.config import FederatedKey
from core.spec import RunSpec

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
DEVICES, CONTEXTS = ROOT / "config/devices", ROOT / "config/contexts"


def changed(**changes: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    for key, value in changes.items():
        *above, last = key.split("__")
        part = config["federated"]
        for name in above:
            part = part[name]
        part[last] = value
    return config


def spec_of(config: dict[str, Any], scheme: str, **options: int) -> dict[str, Any]:
    key = FederatedKey("local", "wifi", scheme, 1, tuple(options.items()))
    devices = settings.read_devices(DEVICES)
    content = federated.run_spec(config, key, devices, CONTEXTS)
    return RunSpec.checked(content, Path("spec.yaml")).content


@pytest.mark.parametrize(
    ("scheme", "staleness", "uplink", "feedback"),
    [("compressed", 5, "int8", "published"), ("replay", 5, "none", "none"),
     ("serial", 0, "none", "none"), ("centralised", 0, "none", "none")],
)  # fmt: skip
def test_each_scheme_takes_what_it_needs(
    scheme: str, staleness: int, uplink: str, feedback: str
) -> None:
    own = spec_of(CONFIG, scheme)["scheme"]
    assert (own["staleness"], own["uplink"], own["feedback"]) == (staleness, uplink, feedback)


def test_the_published_setting() -> None:
    spec = spec_of(CONFIG, "replay")
    assert [(p["party"], p["columns"]) for p in spec["parties"]] == [
        ("a", [1, 2, 3, 4]),
        ("b", [5, 6, 7, 8, 9, 10]),
    ]
    training = spec["training"]
    assert (training["batch"], training["epochs"], spec["scheme"]["staleness"]) == (256, 5, 5)
    optimiser = training["optimiser"]
    assert (optimiser["learning_rate"], optimiser["factor"]) == (0.1, 0.1)
    assert optimiser["milestones"] == [2, 3, 4, 5]


def test_a_slower_party_is_the_last_one_and_emulated() -> None:
    spec = spec_of(CONFIG, "serial", slowdown=4)
    assert [p["slowdown"] for p in spec["parties"]] == [1, 4]
    assert spec["timing"] == "emulated"


def test_figures_share_runs_and_have_every_seed() -> None:
    found = federated.figures(CONFIG)
    both = set(found["din_auc"].runs) & set(found["din_staleness"].runs)
    assert {key.name for key in both} == {f"compressed-seed{n}" for n in range(3)}
    assert {key.context for key in found["din_auc"].runs if key.scheme == "centralised"} == {
        "loopback"
    }


def test_names_of_runs_can_be_read_back() -> None:
    key = FederatedKey("local", "wifi", "replay", 2, (("staleness", 3), ("slowdown", 4)))
    assert FederatedKey.parse("local", "wifi", key.name) == key
    with pytest.raises(ConfigError, match="wifi/replay does not name a run"):
        FederatedKey.parse("local", "wifi", "replay")


PARTY = {"device": "local", "threads": 1, "slowdown": 1}
WRONG = {
    "column 4 belongs to a and to b": {"parties__b__columns": [4, 5, 6, 7, 8, 9, 10]},
    "nobody has column 10": {"parties__b__columns": [5, 6, 7, 8, 9]},
    "b has column 12": {"parties__b__columns": [5, 6, 7, 8, 9, 10, 12]},
    "federated.parties": {"parties": {"a": {**PARTY, "columns": [1]}}},
    "server": {"parties__server": {**PARTY, "columns": [1]}},
    "unknown device": {"parties__a__device": "nowhere"},
    "unknown data set of ratings": {"dataset": "elpv"},
    "int7": {"uplink": "int7"},
    "unknown scheme": {"figures__din_auc__schemes": ["split"]},
    "unknown context": {"figures__din_auc__contexts": ["nowhere"]},
    "scheme serial has K = 0 and no other": {"figures__din_staleness__schemes": ["serial"]},
    "no key vary; kind din_staleness": {
        "figures__din_staleness": {
            "kind": "din_staleness",
            "schemes": ["replay"],
            "contexts": ["wifi"],
        }
    },
}


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_be_run_is_refused_before_anything_starts(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings.check(changed(**WRONG[text]), [], DEVICES)
    assert text in str(caught.value)


def test_three_parties_by_configuration() -> None:
    config = changed(parties__b__columns=[5, 6], parties__c={**PARTY, "columns": [10, 9, 8, 7]})
    settings.check(config, [], DEVICES)
    spec = spec_of(config, "replay")
    assert [p["columns"] for p in spec["parties"]] == [[1, 2, 3, 4], [5, 6], [7, 8, 9, 10]]
