"""Recorded small results, written by the tests themselves."""

import copy
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCHEMES = ("elastic", "full", "head", "bn_bias")
STAND_INS = {"caltech_birds2011": "elpv", "resnet50": "efficientnet_lite0"}
ENTRY: dict[str, Any] = {
    "kind": "curves",
    "y": "test_accuracy",
    "dataset": "caltech_birds2011",
    "model": "resnet50",
    "schemes": list(SCHEMES),
    "ego": True,
}
RESULT: dict[str, Any] = {
    "spec": {
        "scale": "demo",
        "framework": "tensorflow",
        "seed": 0,
        "device": {"name": "local", "title": "this host", "timing": "measured"},
        "model": {"name": "efficientnet_lite0"},
        "data": {"name": "elpv"},
        "scheme": {"name": "full"},
        "training": {"epochs": 3},
    },
    "machine": {"processor": "Intel(R) Xeon(R) Processor @ 2.10GHz"},
    "best": {"epoch": 3, "test_accuracy": 0.83},
    "resumed": 0,
}
# The first epoch takes longer, as it does when a step is compiled in it.
COLUMNS = (
    "epoch,train_loss,train_accuracy,test_loss,test_accuracy,selected_tensors,"
    "selected_parameters,data_s,forward_s,backward_update_s,compile_s,selection_s,testing_s"
)
ROWS = (
    (1, 0.70, 0.60, 0.62, 0.70, 10, 1000, 1.0, 4.0, 6.0, 9.0, 0.5, 2.0),
    (2, 0.50, 0.75, 0.50, 0.78, 10, 1000, 1.0, 4.0, 6.0, 0.0, 0.0, 2.0),
    (3, 0.40, 0.82, 0.45, 0.83, 10, 1000, 1.5, 4.5, 6.5, 1.0, 0.25, 2.5),
)
MakeRun = Callable[..., Path]


@pytest.fixture
def entry() -> dict[str, Any]:
    """A figure of the configuration."""
    return copy.deepcopy(ENTRY)


@pytest.fixture
def stand_ins() -> dict[str, str]:
    """What runs in place of what, as in the configuration."""
    return dict(STAND_INS)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write the folder of a run; keywords replace parts of its spec."""

    def make(scheme: str = "full", folder: str = "", slower: float = 1.0, **spec: Any) -> Path:
        result = copy.deepcopy(RESULT)
        result["spec"]["scheme"] = {"name": scheme, **({"rho": 0.5} if scheme == "elastic" else {})}
        for key, value in spec.items():
            part = result["spec"]
            part[key] = part[key] | value if isinstance(value, dict) else value
        path = tmp_path / "results" / (folder or scheme)
        path.mkdir(parents=True)
        (path / "result.json").write_text(json.dumps(result))
        with (path / "epochs.csv").open("w", newline="") as file:
            file.write(COLUMNS + "\n")
            csv.writer(file).writerows((*r[:7], *(slower * s for s in r[7:])) for r in ROWS)
        return path

    return make


@pytest.fixture
def four_runs(make_run: MakeRun) -> list[Path]:
    """One run of each scheme of a figure."""
    return [make_run(scheme, slower=1 + 0.3 * i) for i, scheme in enumerate(SCHEMES)]
