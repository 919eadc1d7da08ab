"""One side of the comparison between frameworks: the same network, weights and batches in either.

Run by core/bench/parity.py in each environment: PyTorch and TensorFlow never share a process.
"""

import argparse
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from core.bench.tasks import make_backend
from core.elastic.backend import Backend, State
from core.elastic.schemes import Metric
from core.elastic.selector import Floats, select
from core.elastic.timing import Tensor
from core.files import write_text

MODEL, SIZE, BATCH, STEPS = "efficientnet_lite0", 64, 16, 20

# Learning rate by optimiser: losses fall clearly, yet a difference of one rounding does not grow
# to one that is seen, as it does in any network under a large rate.
RATES = {"sgdw": 4e-3, "adam": 5e-5}
GAIN = 0.8  # of kernels, against those of He et al.: keeps residual sums and logits small
ROUNDING = 1e-7  # relative
METRICS: tuple[Metric, ...] = get_args(Metric)
FRACTIONS = (0.2, 0.4, 0.6, 0.8)  # of the backward pass, as budgets


def side(framework: str) -> dict[str, Any]:
    """Losses of STEPS steps with each optimiser, importance before the first one, selections;
    and the losses from weights that differ by one rounding (`nudged`)."""
    found: dict[str, Any] = {"losses": {}, "nudged": {}, "importance": {}}
    for optimiser, rate in tqdm(RATES.items(), framework, unit="optimiser", disable=None):
        backend = make_backend(framework, MODEL, SIZE, BATCH, optimiser, rate, random=False)
        backend.select(np.ones(len(backend.tensors), dtype=bool))
        start = _same_weights(backend)
        backend.load_state(start)
        for metric in METRICS:
            importance = backend.probe(*_batch(STEPS), 0, metric)
            found["importance"][f"{optimiser}/{metric}"] = importance.tolist()
        found["losses"][optimiser] = _losses(backend, start)
        found["nudged"][optimiser] = _losses(backend, _nudged(start))
    found["selections"] = _selections(np.array(found["importance"]["sgdw/update"]))
    return found


def _losses(backend: Backend, start: State) -> list[float]:
    backend.load_state(start)
    steps = tqdm(range(STEPS), unit="step", leave=False, disable=None)
    return [backend.train_step(*_batch(step), step)[0] for step in steps]


def _nudged(state: State) -> State:
    """Every weight a little beside: what two orders of adding up the same sum do as well."""
    random = np.random.default_rng(3)

    def beside(value: NDArray[np.float32]) -> NDArray[np.float32]:
        factor = 1 + ROUNDING * random.standard_normal(value.shape)
        return np.asarray(value * factor, dtype=np.float32)

    return {k: beside(v) if k.startswith("tensor/") else v for k, v in state.items()}


def _selections(importance: Floats) -> list[list[int]]:
    """What the selector makes of this importance under times that are the same on both sides."""
    random = np.random.default_rng(0)
    t_dw, t_dy = random.random((2, len(importance)))
    whole = float(t_dw.sum() + t_dy.sum())
    return [
        np.flatnonzero(select(t_dw, t_dy, importance, part * whole)).tolist() for part in FRACTIONS
    ]


def _batch(number: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    random = np.random.default_rng([1, number])
    images = random.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    return images, random.integers(0, 10, BATCH)


def _same_weights(backend: Backend) -> State:
    """Kernels drawn so that neither activations nor the error fade (He et al. 2015), the same
    numbers in each framework's own order of axes; everything else as it is, which is the same in
    both."""
    state = backend.state()
    for i, tensor in enumerate(backend.tensors):
        if tensor.kind == "kernel":
            random = np.random.default_rng([2, i])
            shape = _as_torch(tensor)
            deviation = GAIN * np.sqrt(2 / np.prod(shape[1:]))
            kernel = random.normal(0, deviation, shape).astype(np.float32)
            state[f"tensor/{i}"] = _from_torch(kernel, tensor)
    return state


def _as_torch(tensor: Tensor) -> tuple[int, ...]:
    """Shape of a kernel in PyTorch: (outputs, inputs of a group, height, width)."""
    if not _is_keras(tensor):
        return tensor.shape
    *window, inputs, outputs = tensor.shape
    depthwise = tensor.name.endswith("depthwise_kernel")
    return (inputs, outputs, *window) if depthwise else (outputs, inputs, *window)


def _from_torch(kernel: NDArray[np.float32], tensor: Tensor) -> NDArray[np.float32]:
    if not _is_keras(tensor):
        return kernel
    if kernel.ndim == 2:
        return np.ascontiguousarray(kernel.T)
    order = (2, 3, 0, 1) if tensor.name.endswith("depthwise_kernel") else (2, 3, 1, 0)
    return np.ascontiguousarray(kernel.transpose(order))


def _is_keras(tensor: Tensor) -> bool:
    return tensor.name.endswith("kernel")  # PyTorch calls it weight


def main() -> None:
    """Write one side as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("framework")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    write_text(args.out, json.dumps(side(args.framework)))


if __name__ == "__main__":
    main()
