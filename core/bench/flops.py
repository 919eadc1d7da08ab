"""Multiply-adds of a step and its parts, against published numbers and TensorFlow's own count."""

import time

import numpy as np
from tqdm import tqdm

from core.bench import Report
from core.bench.tasks import SETTINGS, make_backend
from core.elastic.backend import Backend
from core.elastic.schemes import SCHEMES
from core.elastic.timing import Counts
from core.frameworks import installed

SIZE = 224

# 10⁹ multiply-adds of a forward pass at 224 pixels, the published prediction included: as the
# authors of EfficientNet-Lite tell them, 5 % more than its convolutions have; as torchvision's
# weights do (`_ops`); for Keras' ResNet50, which strides earlier, as the paper does (Figure 17).
PUBLISHED = {
    "efficientnet_lite0": 0.407,
    "resnet50": 4.089,
    "vgg16": 15.47,
    "mobilenet_v2": 0.301,
    "vit_b16": 17.564,
}
OF_KERAS = {"resnet50": 3.9}

# Of that, the dense layers of the published prediction: 1,000 classes, which are 200 here, and
# in VGG16 two more layers, which are left out here as in Keras without its top.
PREDICTION = {
    "efficientnet_lite0": 1280 * 1000,
    "resnet50": 2048 * 1000,
    "vgg16": 25088 * 4096 + 4096 * 4096 + 4096 * 1000,
    "mobilenet_v2": 1280 * 1000,
    "vit_b16": 768 * 1000,
}

OWN_LIMITS = {"efficientnet_lite0/deviation_from_published": 0.06}


def run() -> Report:
    """Counts of one image for every model, shares of the schemes, seconds that counting takes."""
    figures: dict[str, dict[str, float]] = {}
    models = dict.fromkeys(model for model, _, _ in SETTINGS.values())
    for model in tqdm(models, unit="model", disable=None):
        figures[model] = count(model, SIZE)
    limits = {
        f"{model}/{figure}": OWN_LIMITS.get(f"{model}/{figure}", 0.02)
        for model, found in figures.items()
        for figure in found
        if figure.startswith("deviation_from")
    }
    notes = [
        f"10⁹ multiply-adds of one image of {SIZE} pixels with 200 classes; _share: of the full "
        "step. Published numbers are compared without any prediction layer. output_half, "
        "every_second_of_output_half: selections such as the selector makes, with tensors of the "
        "half nearest the output"
    ]
    return Report(figures, limits, notes)


def count(model: str, size: int) -> dict[str, float]:
    """Everything about one model, at an image size."""
    framework = installed()
    backend = make_backend(framework, model, size, batch=1)
    start = time.perf_counter()
    counts = backend.count_parts()
    taken = time.perf_counter() - start
    forward = forward_without_head(backend, counts)
    found = parts(counts) | shares(backend, counts)
    if model in PUBLISHED and size == SIZE:
        found |= against_published(model, framework, forward)
    if framework == "tensorflow":
        found |= against_tensorflow(model, size, forward)
    return found | {"counting_s": round(taken, 2)}


def parts(counts: Counts) -> dict[str, float]:
    """Forward, full step and what it is made of, in 10⁹."""
    everything = np.ones(len(counts.t_dw), dtype=bool)
    full = counts.of(everything)
    found = {
        "forward": counts.forward,
        "full": full,
        "own_gradients": float(counts.t_dw.sum()),
        "error_on_the_way": float(counts.t_reach.sum()),
        "error_through_tensors": full - counts.forward - counts.t_dw.sum() - counts.t_reach.sum(),
    }
    rounded = {name: round(1e-9 * value, 4) for name, value in found.items()}
    return rounded | {"full_over_forward": round(full / counts.forward, 3)}


def forward_without_head(backend: Backend, counts: Counts) -> float:
    """Multiply-adds of one image up to the prediction layer, which has one for each weight."""
    return counts.forward - sum(t.size for t in backend.tensors if t.head and t.kind == "kernel")


def against_published(model: str, framework: str, forward: float) -> dict[str, float]:
    """The published count, and how far `forward` is from it, both without any prediction layer."""
    table = PUBLISHED | (OF_KERAS if framework == "tensorflow" else {})
    published = 1e9 * table[model] - PREDICTION[model]
    return {
        "published_forward": table[model],
        "deviation_from_published": round(abs(forward / published - 1), 4),
    }


def shares(backend: Backend, counts: Counts) -> dict[str, float]:
    """Of the full step: prediction layer, BN+Bias, and selections as the selector makes."""
    n = len(backend.tensors)
    half = np.arange(n) >= n // 2
    fixed = {name: SCHEMES[name].trains for name in ("head", "bn_bias")}
    masks = {name: np.array(trains(backend.tensors)) for name, trains in fixed.items() if trains}
    masks["output_half"] = half
    masks["every_second_of_output_half"] = half & (np.arange(n) % 2 == (n - 1) % 2)
    full = counts.of(np.ones(n, dtype=bool))
    return {f"{name}_share": round(counts.of(mask) / full, 4) for name, mask in masks.items()}


def against_tensorflow(model: str, size: int, forward: float) -> dict[str, float]:
    """Half of the floating-point operations that TensorFlow's profiler counts in the network, of
    the operations that we count as well: it has normalisation and activations too."""
    import tensorflow as tf

    from core.elastic.tf_counting import COUNTED
    from core.models import keras_zoo

    network, _ = keras_zoo.build(model, size, None)
    images = tf.TensorSpec((1, size, size, 3), tf.float32)
    graph = tf.function(lambda x: network(x, training=False)).get_concrete_function(images).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder
    wanted = (
        options(options.float_operation())
        .with_empty_output()
        .with_accounted_types([f"^{kind}$" for kind in COUNTED])
    )
    found = tf.compat.v1.profiler.profile(graph, options=wanted.build()).total_float_ops / 2
    return {
        "tensorflow_forward": round(1e-9 * found, 4),
        "deviation_from_tensorflow": round(abs(forward / found - 1), 4),
    }
