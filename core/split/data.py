"""The data of a run as one side may see them: inputs, targets, or both."""

import hashlib
from pathlib import Path
from typing import Any

from core.data.arrays import open_arrays
from core.data.chair_transforms import Changes
from core.data.chairs import open_chairs
from core.errors import ConfigError
from core.models.blocks import NETWORKS
from core.split.batches import Batches, Testing, Tests, Training
from core.split.chair_batches import ChairBatches, ChairTests


def open_data(spec: Any, targets: bool = True) -> tuple[Training, Testing]:
    """The training and the test part of a spec's data. targets: False where this side must not
    have the images that are to be generated; none of their files is opened then.

    Raises DataError for data that are missing or damaged, ConfigError where data and spec do not
    go together.
    """
    training, folder = spec["training"], Path(spec["data"]["folder"])
    seed, batch, steps = spec["seed"], training["batch"], training["steps"]
    changes, tested = training["augmentation"], (training["test_batch"], training["test_samples"])
    if NETWORKS[spec["model"]["name"]].kind == "chairs":
        train, test = (open_chairs(folder, part, targets) for part in ("train", "test"))
        _check(spec, len(train.inputs), len(train.styles))
        own = Changes(
            changes["flip"], changes["crop"], changes.get("transform", 0.0), spec["data"]["size"]
        )
        return ChairBatches(train, batch, seed, own, steps), ChairTests(test, *tested)
    arrays, tests = (open_arrays(folder, part) for part in ("train", "test"))
    _check(spec, len(arrays.labels), len(arrays.classes))
    batches = Batches(arrays, batch, seed, changes["flip"], changes["crop"], steps)
    return batches, Tests(tests, *tested)


def names_digest(train: Training, test: Testing) -> str:
    """Of the names of all samples in their order: two sides with the same one mean the same sample
    by the same position."""
    text = "\n".join([*train.ids, "", *test.ids])
    return hashlib.sha256(text.encode()).hexdigest()


def _check(spec: Any, samples: int, classes: int) -> None:
    batch, wanted = spec["training"]["batch"], spec["data"]["classes"]
    if samples < batch:
        raise ConfigError(
            f"training.batch = {batch}: {spec['data']['name']} has only {samples} training samples"
        )
    if wanted != classes:
        raise ConfigError(
            f"data.classes = {wanted}: {spec['data']['name']} in {spec['data']['folder']} has "
            f"{classes} classes; write that number"
        )
