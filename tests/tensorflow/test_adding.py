"""A model and a scheme of one's own, each by one entry, and what they select."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from core.elastic import run as elastic_run
from core.elastic.schemes import SCHEMES, Look, Scheme
from core.models import keras_zoo
from core.spec import RunSpec
from tests.conftest import with_profile

pytestmark = pytest.mark.tensorflow


def _mine(image_size: int) -> tf.keras.Model:
    layers = tf.keras.layers
    images = layers.Input((image_size, image_size, 3))
    x = layers.Conv2D(4, 3, strides=2, activation="relu", name="conv")(images)
    return tf.keras.Model(images, layers.GlobalAveragePooling2D()(x))


@pytest.fixture
def mine(spec, tmp_path, monkeypatch) -> RunSpec:
    """The spec of a network and a scheme that one entry each has added, with its profile."""
    network = keras_zoo.Network(_mine, lambda x: x / 255, lambda model, folder: None)
    look = Look("Kernels", "#123456", "h", "-")
    scheme = Scheme(look, lambda tensors: [t.head or t.kind == "kernel" for t in tensors])
    monkeypatch.setitem(keras_zoo.NETWORKS, "mine", network)
    monkeypatch.setitem(SCHEMES, "kernels", scheme)
    spec.content["model"]["name"] = "mine"
    return with_profile(spec, tmp_path)


def ran(spec: RunSpec, folder: Path) -> dict[str, Any]:
    """The result of a spec that was written, read, checked and run."""
    spec.save(folder / "spec.yaml")
    elastic_run.run(RunSpec.load(folder / "spec.yaml"), folder / "run")
    found: dict[str, Any] = json.loads((folder / "run" / "result.json").read_text())
    return found


def test_a_model_and_a_scheme_train_by_one_entry_each(mine, tmp_path):
    mine.content["scheme"] = {"name": "kernels"}
    result = ran(mine, tmp_path)
    assert result["tensors"] == ["conv/kernel", "conv/bias", "head/kernel", "head/bias"]
    with (tmp_path / "run" / "epochs.csv").open() as file:
        assert {row["selected_tensors"] for row in csv.DictReader(file)} == {"3"}


def test_layers_are_selected_whole_by_importance_over_several_batches(mine, tmp_path, monkeypatch):
    mine.content["scheme"] |= {"granularity": "layer", "probe_batches": 3, "rho": 1.0}
    make, probes = elastic_run.make_backend, []

    def probed(*arguments):
        backend = make(*arguments)
        probe = backend.probe

        def noted(*batch):
            probes.append(probe(*batch))
            return probes[-1]

        backend.probe = noted
        return backend

    monkeypatch.setattr(elastic_run, "make_backend", probed)
    chosen = ran(mine, tmp_path)["selections"]
    assert len(probes) == 3 * len(chosen) == 6
    mean = np.mean(probes[:3], axis=0)
    np.testing.assert_allclose(chosen[0]["importance"], mean / np.abs(mean).max(), rtol=1e-6)
    for selection in chosen:
        assert selection["tensors"] in ([0, 1], [2, 3], [0, 1, 2, 3])
