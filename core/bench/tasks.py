"""The networks that benchmarks time: random weights and images do, time does not depend on them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.elastic.backend import Backend, Images, Labels
from core.elastic.selector import Mask
from core.elastic.timing import Timing
from core.training import threads

CLASSES, STEPS, REPEATS = 200, 1000, 15


@dataclass
class Task:
    """A backend with its profile and a batch."""

    backend: Backend
    timing: Timing
    images: Images
    labels: Labels

    def measure(self, mask: Mask) -> tuple[float, float]:
        """Seconds of a step under a mask, and how much slower the machine is than while it was
        profiled, told by the forward passes between the steps."""
        self.backend.select(mask)
        steps, forwards = self.backend.time_step(self.images, self.labels, REPEATS)
        return float(np.median(steps)), float(np.median(forwards)) / self.timing.forward


def _task(model: str, image_size: int, batch: int) -> Task:
    from core.elastic.tf_backend import TensorFlowBackend

    count = threads.resolve({"intra_op": 0, "inter_op": 0})
    threads.export(count)
    training = {
        "image_size": image_size,
        "batch": batch,
        "test_batch": batch,
        "augmentation": {"flip": True, "rotation": 0.2},
        "dropout": 0.2,
        "optimiser": {
            "name": "sgdw",
            "learning_rate": 1e-4,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "schedule": "cosine",
        },
    }
    spec = {"name": model, "weights": None}
    backend = TensorFlowBackend(spec, training, CLASSES, STEPS, seed=0, threads=count)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (batch, image_size, image_size, 3), dtype=np.uint8)
    labels = random.integers(0, CLASSES, batch)
    parts = backend.time_parts(images, labels, REPEATS)
    return Task(backend, Timing.from_parts(backend.tensors, parts, {}), images, labels)


TASKS: dict[str, Callable[[], Task]] = {
    "efficientnet_lite0 at 96, batch 32": lambda: _task("efficientnet_lite0", 96, 32),
    "resnet50 at 224, batch 4": lambda: _task("resnet50", 224, 4),
}
