"""Recorded small results, written by the tests themselves."""

import copy
import csv
import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from core import config as settings
from core.elastic import config as elastic_settings
from core.elastic.schemes import SCHEMES as SCHEMES_OF_CORE

SCHEMES = ("elastic", "full", "head", "bn_bias")
STAND_INS = {"caltech_birds2011": "elpv", "resnet50": "efficientnet_lite0"}
ENTRY: dict[str, Any] = {
    "kind": "curves",
    "y": ["test_accuracy"],
    "dataset": ["caltech_birds2011"],
    "model": ["resnet50"],
    "device": "jetson_tx2",
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
    "tensors": ["stem/kernel", "block/kernel", "block/bias", "head/kernel", "head/bias"],
    "selections": [{"epoch": 1, "tensors": [1, 3, 4]}, {"epoch": 3, "tensors": [2, 4]}],
    "profiling": {
        "taken_s": 9.05,
        "solver": [
            {"resolution": 1000, "seconds": 0.004, "importance": 0.5},
            {"resolution": 100, "seconds": 0.001, "importance": 0.3},
        ],
    },
}
ELASTIC = {"rho": 0.5, "interval": 2, "probe_batches": 1}
# The first epoch takes longer, as it does when a step is compiled in it.
COLUMNS = (
    "epoch,train_loss,train_accuracy,test_loss,test_accuracy,selected_tensors,"
    "selected_parameters,multiply_adds,data_s,forward_s,backward_update_s,compile_s,selection_s,testing_s"
)
ROWS = (
    (1, 0.70, 0.60, 0.62, 0.70, 10, 1000, 3e12, 1.0, 4.0, 6.0, 9.0, 0.5, 2.0),
    (2, 0.50, 0.75, 0.50, 0.78, 10, 1000, 3e12, 1.0, 4.0, 6.0, 0.0, 0.0, 2.0),
    (3, 0.40, 0.82, 0.45, 0.83, 10, 1000, 2e12, 1.5, 4.5, 6.5, 1.0, 0.25, 2.5),
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
    """Write the folder of a run. `slower` multiplies its times, `better` its accuracies, `dearer`
    its multiply-adds; `longer` repeats its epochs; `own` are settings of its scheme, other keywords
    replace parts of its spec."""

    def make(
        scheme: str = "full",
        folder: str = "",
        slower: float = 1.0,
        better: float = 1.0,
        dearer: float = 1.0,
        longer: int = 1,
        own: Mapping[str, float] | None = None,
        **spec: Any,
    ) -> Path:
        result = copy.deepcopy(RESULT)
        elastic = SCHEMES_OF_CORE[scheme].settings == "elastic"
        result["spec"]["scheme"] = {"name": scheme} | (ELASTIC if elastic else {}) | (own or {})
        for key, value in spec.items():
            part = result["spec"]
            part[key] = part[key] | value if isinstance(value, dict) else value
        if not elastic:
            result["selections"] = []
        rows = [
            (i, *r[1:4], better * r[4], *r[5:7], dearer * r[7], *(slower * s for s in r[8:]))
            for i, r in enumerate(ROWS * longer, start=1)
        ]
        return write_run(tmp_path / "results" / (folder or scheme), result, rows)

    return make


def write_run(path: Path, result: dict[str, Any], rows: Sequence[Sequence[float]]) -> Path:
    """A run's folder with its two files."""
    path.mkdir(parents=True)
    (path / "result.json").write_text(json.dumps(result))
    with (path / "epochs.csv").open("w", newline="") as file:
        file.write(COLUMNS + "\n")
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path


@pytest.fixture
def four_runs(make_run: MakeRun) -> list[Path]:
    """One run of each scheme of a figure."""
    return [make_run(scheme, slower=1 + 0.3 * i) for i, scheme in enumerate(SCHEMES)]


# Runs of the shipped figures, with numbers as they could be.

ROOT = Path(__file__).parents[3]
DEVICES = ROOT / "config/devices"
TENSORS = {"efficientnet_lite1": 177, "efficientnet_lite2": 186, "resnet50": 214, "vgg16": 32}
# Of the full step and of its multiply-adds, and percent of accuracy at the end.
SHARES = {
    "full": (1.0, 1.0, 83.0),
    "head": (0.36, 0.34, 74.0),
    "bn_bias": (0.66, 0.67, 78.0),
    "prunetrain": (0.95, 0.7, 82.0),
    "prunetrain_l1": (1.05, 1.0, 81.0),
}
RESOLUTIONS = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


@pytest.fixture(scope="session")
def shipped() -> dict[str, Any]:
    """The shipped configuration."""
    return yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def make_figure_runs(tmp_path: Path) -> Callable[..., list[Path]]:
    """Write the folders of exactly the runs that a figure of a configuration is drawn from."""

    def make(config: dict[str, Any], name: str) -> list[Path]:
        return [
            _record(tmp_path, config, key) for key in elastic_settings.figures(config)[name].runs
        ]

    return make


def _record(root: Path, config: dict[str, Any], key: elastic_settings.RunKey) -> Path:
    folder = root / key.folder(config)
    if not folder.exists():
        spec = settings.run_spec(config, key, DEVICES)
        luck = zlib.crc32(f"{key.task}/{key.name}".encode()) % 1000 / 1000
        tensors = TENSORS.get(key.model, 149)
        rows = _plausible_rows(spec, luck, tensors)
        write_run(folder, _plausible_result(spec, luck, tensors), rows)
    return folder


def _plausible_rows(spec: dict[str, Any], luck: float, tensors: int) -> list[tuple[float, ...]]:
    scheme, epochs = spec["scheme"], spec["training"]["epochs"]
    rho = scheme.get("rho", 0)
    time, cost, top = SHARES.get(scheme["name"], (rho, 0.9 * rho, 76 + 9 * rho))
    size = {"efficientnet_lite1": 1.3, "efficientnet_lite2": 1.6}.get(spec["model"]["name"], 1)
    rows = []
    for epoch in range(1, epochs + 1):
        accuracy = (top + 2 * luck) / 100 * (1 - 0.3 * math.exp(-epoch / (0.25 * epochs)))
        due = epoch == 1 or ("interval" in scheme and (epoch - 1) % scheme["interval"] == 0)
        probing = 0.9 * due * scheme.get("probe_batches", 0)
        wobble = 1 + 0.05 * math.sin(7 * epoch + 6 * luck)
        rows.append(
            (
                epoch, 0.6, 0.7, 0.75 - 0.4 * accuracy + 0.01 * epoch, accuracy, tensors // 3, 1e6,
                0.42e12 * size * cost * (1 if time == 1 else wobble),
                0.2, 6.2 * size, max(18 * time - 6.2, 0.9) * size * wobble,
                3.0 * due, probing, 3.1 * size,
            )
        )  # fmt: skip
    return rows


def _plausible_result(spec: dict[str, Any], luck: float, tensors: int) -> dict[str, Any]:
    scheme, last = spec["scheme"], tensors - 2
    selections = [
        {
            "epoch": epoch,
            "tensors": [
                i for i in range(int(last * (0.35 + 0.2 * math.sin(epoch))), tensors)
                if i >= last or zlib.crc32(f"{i}/{epoch}".encode()) % 10 < 10 * scheme["rho"] + 2
            ],
        }
        for epoch in range(1, spec["training"]["epochs"] + 1, scheme.get("interval", 10**6))
        if "rho" in scheme
    ]  # fmt: skip
    solver = [
        {
            "resolution": resolution,
            "seconds": 1.3e-6 * tensors * (9 + resolution**0.9 / 30),
            "importance": 0.72 - 0.3 * (100 / resolution) ** (0.6 + 0.3 * luck),
        }
        for resolution in RESOLUTIONS
    ]
    names = [f"block{i // 3}/{('kernel', 'gamma', 'beta')[i % 3]}" for i in range(last)]
    return RESULT | {
        "spec": spec,
        "tensors": [*names, "head/kernel", "head/bias"],
        "selections": selections,
        "profiling": {"taken_s": 15 + 30 * luck, "solver": solver},
    }
