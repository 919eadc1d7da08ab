"""A model, a scheme, a data set and a figure of one's own: one entry each, nothing else changes.
The pages about it are in docs/configuration.md."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from core import config as settings
from core.data import catalog
from core.data.fetch import fetch
from core.elastic import config as elastic_settings
from core.elastic import run as elastic_run
from core.elastic.schemes import SCHEMES, Look, Scheme
from core.figures.draw import draw
from core.models import MODELS, Model, torch_zoo
from core.spec import RunSpec

ROOT = Path(__file__).parents[2]
DEVICES = ROOT / "config" / "devices"
SIZE = 32

DATASET = """
parts:
  kind: images
  title: Parts on our conveyor belt
  task: "classification: kind of a part"
  classes: 2
  splits: {how: published, train: 16, test: 8}
  licence: ours
  citation: none
  sources:
    - {kind: local, folder: FOLDER}
"""

FIGURE = """
figures:
  mine:
    kind: curves
    y: [test_loss]
    dataset: [caltech_birds2011]
    model: [resnet50]
    device: jetson_tx2
    schemes: [elastic, biases]
groups: {ours: [mine]}
stand_ins: {caltech_birds2011: parts, resnet50: tiny}
training: {image_size: 32, batch: 4, epochs: 2}
elastic: {rho: 0.9}
framework: torch
scale: tiny
"""


def tiny() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    )


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> settings.Config:
    """One entry in each table; the configuration with the overlay."""
    draw_noise = np.random.default_rng(0)
    for part, number in (("train", 8), ("test", 4)):
        for i, kind in enumerate(("bolt", "nut")):
            folder = tmp_path / "parts" / part / kind
            folder.mkdir(parents=True)
            for image in range(number):
                pixels = draw_noise.normal(90 + 80 * i, 20, (SIZE, SIZE, 3)).clip(0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{image}.png")
    (tmp_path / "catalog.yaml").write_text(DATASET.replace("FOLDER", str(tmp_path / "parts")))
    entries = catalog.load() | catalog.load(tmp_path / "catalog.yaml")
    monkeypatch.setattr(catalog, "load", lambda: entries)
    network = torch_zoo.Network(lambda size: tiny(), 4, lambda x: x / 255, head="none")
    monkeypatch.setitem(torch_zoo.NETWORKS, "tiny", network)
    weights = {"torch": "efficientnet_lite0", "tensorflow": "efficientnet_lite0"}
    monkeypatch.setitem(MODELS, "tiny", Model("Tiny", weights))
    look = Look("Biases", "#123456", "h", "-")
    scheme = Scheme(look, lambda tensors: [t.head or t.kind == "bias" for t in tensors])
    monkeypatch.setitem(SCHEMES, "biases", scheme)
    config: settings.Config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    for key, value in yaml.safe_load(FIGURE).items():
        whole = key in ("figures", "groups") or not isinstance(value, dict)
        config[key] = value if whole else config[key] | value
    return config


def trained(config: settings.Config, key: elastic_settings.RunKey, folder: Path) -> Path:
    """The folder of a run, trained as the rules do it, from random weights."""
    content = settings.run_spec(config, key, DEVICES)
    content["data"]["folder"] = str(folder / content["data"]["folder"])
    content["profile"] = str(folder / content["profile"])
    content["model"]["weights"] = None
    RunSpec(content).save(folder / "spec.yaml")
    spec = RunSpec.load(folder / "spec.yaml")
    fetch(spec["data"]["name"], Path(spec["data"]["folder"]), SIZE, folder)
    if not Path(spec["profile"]).exists():
        elastic_run.profile(spec, Path(spec["profile"]), repeats=60)
    out = folder / key.folder(config)
    elastic_run.run(spec, out)
    return out


def test_a_model_a_scheme_a_data_set_and_a_figure_of_ones_own_take_an_entry_each(
    added: settings.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # the lock on this device
    settings.check(added, [], DEVICES)
    assert settings.targets(added) == {"ours": ("mine",)}
    figure = elastic_settings.figures(added)["mine"]
    assert [(k.task, k.name) for k in figure.runs] == [
        ("tiny-parts", "elastic-rho0.9-seed0"),
        ("tiny-parts", "biases-seed0"),
    ]
    folders = [trained(added, key, tmp_path) for key in figure.runs]
    results: list[dict[str, Any]] = [json.loads((f / "result.json").read_text()) for f in folders]
    assert results[1]["tensors"] == ["0.weight", "0.bias", "head.weight", "head.bias"]
    assert results[1]["last"]["selected_tensors"] == 3  # its bias, and the prediction layer
    assert len(results[0]["selections"]) == 1
    out = tmp_path / "mine.pdf"
    draw("mine", figure.entry, folders, added["stand_ins"], added["time_axis"], out)
    assert set(pd.read_csv(out.with_suffix(".csv"))["label"]) == {
        "ElasticTrainer (ρ = 90 %)",
        "Biases",
    }
