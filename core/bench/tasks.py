"""The networks that benchmarks time: random weights and images do, time does not depend on them."""

from dataclasses import dataclass

import numpy as np

from core.elastic.backend import Backend, Images, Labels
from core.elastic.measuring import closed_timing
from core.elastic.schemes import Penalty
from core.elastic.selector import Floats, Mask
from core.elastic.timing import Timing
from core.frameworks import FRAMEWORKS
from core.training import threads

CLASSES, STEPS, REPEATS = 200, 1000, 9

# The weights stay where they are: trained on one batch, the loss of a random network vanishes
# within steps, and with gradients too small for normal numbers a processor takes several times as
# long.
RATE = 1e-9

# Model, image size, batch: the demo's, and the published batch. Images of a quarter of the
# published pixels, or less, keep a benchmark of five networks within minutes.
SETTINGS = {
    "efficientnet_lite0 at 96, batch 32": ("efficientnet_lite0", 96, 32),
    "resnet50 at 112, batch 4": ("resnet50", 112, 4),
    "vgg16 at 64, batch 4": ("vgg16", 64, 4),
    "mobilenet_v2 at 112, batch 4": ("mobilenet_v2", 112, 4),
    "vit_b16 at 64, batch 4": ("vit_b16", 64, 4),
}


@dataclass
class Task:
    """A backend with its profile and a batch."""

    backend: Backend
    timing: Timing
    images: Images
    labels: Labels

    def importance(self) -> Floats:
        """Of each tensor, by magnitude: of random weights half the tensors would raise the loss,
        and what is never selected cannot spend a budget."""
        return self.backend.probe(self.images, self.labels, 0, "gradient")

    def measure(self, mask: Mask) -> tuple[float, float]:
        """Seconds of a step under a mask, and how much slower the machine is than while it was
        profiled, told by the forward passes between the steps."""
        self.backend.select(mask)
        steps, forwards = self.backend.time_step(self.images, self.labels, REPEATS)
        return float(np.median(steps)), float(np.median(forwards)) / self.timing.forward


def make_backend(
    framework: str,
    model: str,
    image_size: int,
    batch: int,
    optimiser: str = "sgdw",
    learning_rate: float = RATE,
    random: bool = True,
    penalty: Penalty | None = None,
) -> Backend:
    """A backend without published weights. random: with augmentation and dropout."""
    count = threads.resolve({"intra_op": 0, "inter_op": 0})
    threads.export(count)
    make: type[Backend] = FRAMEWORKS[framework].load()
    training = {
        "image_size": image_size,
        "batch": batch,
        "test_batch": batch,
        "augmentation": {"flip": random, "rotation": 0.2 if random else 0},
        "dropout": 0.2 if random else 0,
        "optimiser": {
            "name": optimiser,
            "learning_rate": learning_rate,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "schedule": "cosine",
        },
    }
    spec = {"name": model, "weights": None}
    return make(spec, training, CLASSES, STEPS, seed=0, threads=count, penalty=penalty)


def batch_for(image_size: int, batch: int) -> tuple[Images, Labels]:
    """Random images and labels."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (batch, image_size, image_size, 3), dtype=np.uint8)
    return images, random.integers(0, CLASSES, batch)


def make_task(framework: str, setting: str) -> Task:
    """The network of a setting in a framework, profiled."""
    model, size, batch = SETTINGS[setting]
    backend = make_backend(framework, model, size, batch)
    images, labels = batch_for(size, batch)
    timing = closed_timing(backend, images, labels, REPEATS, {})
    return Task(backend, timing, images, labels)
