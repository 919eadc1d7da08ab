"""What all tests share: a small task that trains in seconds (two classes of stripes, a network with
random weights), in the framework of the environment that runs the tests.

Threads that wait do not spin, as in `core.training.threads`, which must be said before a framework
is imported: tests beside other work would take several times as long.
"""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core import RECIPE, machine
from core.data.catalog import Entry, Fraction, Generated, Local
from core.data.fetch import fetch_entry
from core.elastic import run as elastic_run
from core.elastic.timing import Timing
from core.frameworks import installed
from core.spec import RunSpec
from core.training import threads

threads.export(threads.resolve({"intra_op": 0, "inter_op": 0}))

SIZE, BATCH = 32, 8
FRAMEWORK = installed()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What a test does to the logger, as every verb does, ends with it."""
    logger = logging.getLogger("core")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set: 48 training and 16 test images, stripes across or down."""
    folder = tmp_path_factory.mktemp("stripes")
    random = np.random.default_rng(0)
    for part, number in (("train", 24), ("test", 8)):
        for axis, name in enumerate(("across", "down")):
            (folder / "images" / part / name).mkdir(parents=True)
            for i in range(number):
                wave = np.sin(np.arange(SIZE) / random.uniform(1, 3))
                pixels = np.broadcast_to(wave[:, None] if axis else wave, (SIZE, SIZE))
                noisy = 127 + 80 * pixels + random.normal(0, 20, (SIZE, SIZE))
                image = Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert("RGB")
                image.save(folder / "images" / part / name / f"{i}.png")
    entry = Entry(
        name="stripes",
        kind="images",
        title="Stripes",
        task="across or down",
        licence="none",
        citation="none",
        sources=(Local(str(folder / "images")),),
        classes=2,
        splits=Fraction(test=0.25, seed=0),
    )
    fetch_entry(entry, folder / "prepared", SIZE, folder)
    return folder / "prepared"


@pytest.fixture(scope="session")
def few_chairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set: four styles from twelve places."""
    folder = tmp_path_factory.mktemp("chairs")
    wording = dict.fromkeys(("title", "task", "licence", "citation"), "none")
    source, splits = Generated(12, (20,)), Fraction(0.25, 0)
    entry = Entry("few", "chairs", **wording, sources=(source,), classes=4, splits=splits)
    fetch_entry(entry, folder / "prepared", 16, folder)
    return folder / "prepared"


@pytest.fixture
def spec(stripes: Path, tmp_path: Path) -> RunSpec:
    """Three short epochs of ElasticTrainer on stripes, a snapshot after every step."""
    return RunSpec(
        {
            "recipe": RECIPE,
            "kind": "elastic",
            "scale": "tiny",
            "device": {
                "name": "tests",
                "title": "this host",
                "timing": "measured",
                "threads": {"intra_op": 0, "inter_op": 0},
            },
            "framework": FRAMEWORK,
            "seed": 3,
            "model": {"name": "efficientnet_lite0", "weights": None},
            "data": {"name": "stripes", "folder": str(stripes), "classes": 2},
            "training": {
                "image_size": SIZE,
                "batch": BATCH,
                "test_batch": 6,
                "epochs": 3,
                "augmentation": {"flip": True, "rotation": 0.1},
                "dropout": 0.2,
                "optimiser": {
                    "name": "sgdw",
                    "learning_rate": 1e-3,
                    "momentum": 0.9,
                    "weight_decay": 5e-4,
                    "schedule": "cosine",
                },
                "snapshot_minutes": 1e-6,
            },
            "scheme": {
                "name": "elastic",
                "rho": 0.7,
                "interval": 2,
                "budget": "measured",
                "cost": "realisable",
                "resolution": 1000,
                "granularity": "tensor",
                "probe_batches": 1,
                "corrections": 0,
            },
            "profile": str(tmp_path / "profile.json"),
        }
    )


@pytest.fixture
def core_command() -> list[str]:
    return [sys.executable, "-m", "core"]


@pytest.fixture
def profiled(spec: RunSpec, tmp_path: Path) -> RunSpec:
    """The spec, written, with a profile."""
    return with_profile(spec, tmp_path)


def with_profile(spec: RunSpec, folder: Path) -> RunSpec:
    """The spec with a profile of round numbers, so that the selection does not depend on noise."""
    backend = elastic_run.make_backend(
        spec, elastic_run.open_split(Path(spec["data"]["folder"]), "train")
    )
    n = len(backend.tensors)
    thirds = {k: np.full(n, 0.6 / (3 * n)) for k in ("t_dw", "t_reach", "t_through")}
    whole = {"forward": 0.4, "full": 1.0, "spread": 0.0, "closure": 0.0}
    context = {key: spec["training"][key] for key in ("batch", "image_size")}
    context |= {"machine": machine.describe(), "taken_s": 0.0, "solver": []}
    timing = Timing(tuple(backend.tensors), **thirds, **whole, context=context)
    timing.save(Path(spec["profile"]))
    spec.save(folder / "spec.yaml")
    return spec
