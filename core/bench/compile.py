"""Would `torch.compile` pay? Steps of the compiled network against eager ones, as runs train."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import nn
from torch._inductor.utils import fresh_cache
from tqdm import tqdm

from core.bench import Report
from core.bench.tasks import SETTINGS, batch_for, make_backend
from core.elastic.backend import Images, Labels
from core.elastic.measuring import in_turns
from core.elastic.selector import Floats, Mask
from core.elastic.torch_backend import TorchBackend

MODELS = ("efficientnet_lite0", "resnet50", "mobilenet_v2", "vit_b16")
COMPILER, REPEATS, LOSSES = "inductor", 9, 3


def run() -> Report:
    """Ratios of one process, the two taking turns; seconds of compiling with an empty cache."""
    figures: dict[str, object] = {}
    for name, (model, size, batch) in tqdm(SETTINGS.items(), unit="model", disable=None):
        if model in MODELS:
            backend = make_backend("torch", model, size, batch)
            assert isinstance(backend, TorchBackend)
            with fresh_cache():
                figures[name] = compare(backend, *batch_for(size, batch))
    return Report(
        figures,
        notes=[
            "the first selection is compiled with an empty cache, the others find what they share",
            "the network is compiled; augmentation, prediction layer and update are eager in both",
        ],
    )


def compare(backend: TorchBackend, images: Images, labels: Labels) -> dict[str, object]:
    """By selection: compiled over eager step, what compiling takes, after how many steps that is
    paid back (None: never), by how much losses differ, and the share of the full step."""
    step = partial(_train, backend, images, labels)
    compiled_network = cast(
        nn.Module, torch.compile(backend._network, backend=COMPILER, dynamic=False)
    )
    found: dict[str, object] = {}
    full: tuple[float, float] | None = None
    for name, mask in selections(len(backend.tensors)).items():
        backend.select(mask)
        start = backend.state()
        expected = step(LOSSES)
        backend.load_state(start)
        with _network(backend, compiled_network):
            before = time.perf_counter()
            step(1)
            compile_s = time.perf_counter() - before
            backend.load_state(start)
            losses = step(LOSSES)
        taken = in_turns(
            [partial(step, 1), partial(_with, backend, compiled_network, step)], REPEATS
        )
        eager, compiled = (float(np.median(seconds)) for seconds in taken)
        full = full or (eager, compiled)
        backend.load_state(start)
        found[name] = {
            "eager_step_s": round(eager, 4),
            "compiled_over_eager": round(compiled / eager, 3),
            "compile_s": round(compile_s, 1),
            "steps_to_pay_back": math.ceil(compile_s / (eager - compiled))
            if compiled < eager
            else None,
            "loss_difference": float(np.abs(losses / expected - 1).max()),
            "eager_share": round(eager / full[0], 3),
            "compiled_share": round(compiled / full[1], 3),
        }
    return found


def selections(tensors: int) -> dict[str, Mask]:
    """All tensors; half of those in the half at the output; the prediction layer."""
    place = np.arange(tensors)
    half = np.random.default_rng(0).random(tensors) < 0.5
    deepest = place == tensors // 2
    return {
        "full": np.ones(tensors, dtype=bool),
        "elastic": (place > tensors // 2) & half | deepest,
        "head": place >= tensors - 2,
    }


def _train(backend: TorchBackend, images: Images, labels: Labels, steps: int) -> Floats:
    """Losses of some steps, from the first one of a run on."""
    return np.array([backend.train_step(images, labels, step)[0] for step in range(steps)])


def _with(backend: TorchBackend, network: nn.Module, step: Callable[[int], Floats]) -> None:
    with _network(backend, network):
        step(1)


@contextmanager
def _network(backend: TorchBackend, network: nn.Module) -> Iterator[None]:
    """Another form of the same network, with the same weights, in its place."""
    eager, backend._network = backend._network, network
    try:
        yield
    finally:
        backend._network = eager
