"""What each block of a network and each codec takes on this device, for the decision engine."""

import json
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from core import machine
from core.files import write_text
from core.models.blocks import CHAIR_INPUTS, NETWORKS
from core.split import codec as codecs
from core.split.codecs import CODECS
from core.split.network import block_count, frozen_count, make_part
from core.split.part import Part, loss_of
from core.split.profiles import FORMAT
from core.training import threads

log = logging.getLogger(__name__)

WARM_UP = 2

Side = Literal["edge", "cloud"]


def measure(spec: Any, side: Side, out: Path, repeats: int) -> None:
    """Time the whole network block by block, and codecs on its features; write them as JSON.

    Forward and backward of a block are timed apart; backward holds the update. Medians over
    `repeats` steps after a warm-up, of this machine as it is: `slowdown` is beside them.
    """
    count = threads.resolve(spec[side]["threads"])
    threads.export(count)
    torch.set_num_threads(count["intra_op"])
    blocks, batch = block_count(spec), spec["training"]["batch"]
    part = make_part(spec, range(blocks))
    inputs = _random_batch(spec, batch)
    targets = _random_targets(spec, batch)
    taken: list[tuple[list[float], list[float]]] = []
    shapes: list[list[int]] = []
    for _ in tqdm(range(WARM_UP + repeats), "profiling", unit="step", disable=None):
        features, seconds = _step(part, part.prepared(inputs), targets, frozen_count(spec))
        taken.append(seconds)
        shapes = [list(f.shape) for f in features]
    forward, backward = np.median(taken[WARM_UP:], axis=0).tolist()
    sizes = {name: [_bytes(part, i, name) for i in range(blocks)] for name in _SIZES}
    content = {
        "format": FORMAT,
        "blocks": blocks,
        "frozen": frozen_count(spec),
        "batch": batch,
        "model": spec["model"]["name"],
        "size": spec["data"]["size"],
        "forward_s": forward,
        "backward_s": backward,
        "feature_shapes": shapes,
        **{f"{key}_bytes": value for key, value in sizes.items()},
        "codecs": _codecs(spec, shapes, repeats),
        "slowdown": spec[side]["slowdown"],
        "device": spec[side],
        "threads": count,
        "repeats": repeats,
        "kind": "measured",
        "machine": machine.describe(),
        "versions": machine.versions("torch", "numpy"),
    }
    write_text(out, json.dumps(content, indent=1))
    log.info(
        "%s on the %s: forward %.0f ms, backward and update %.0f ms a step",
        spec["model"]["name"], side, 1e3 * sum(forward), 1e3 * sum(backward),
    )  # fmt: skip


def _random_batch(spec: Any, batch: int) -> Any:
    """Inputs of the right shape and type; time does not depend on what is in them."""
    random, size = np.random.default_rng(0), spec["data"]["size"]
    match NETWORKS[spec["model"]["name"]].kind:
        case "images":
            return random.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
        case "chairs":
            inputs = random.normal(size=(batch, CHAIR_INPUTS)).astype(np.float32)
            inputs[:, 0] = random.integers(0, spec["data"]["classes"], batch)
            return inputs
    return random.integers(1, 100, (batch, size), dtype=np.int32)


def _random_targets(spec: Any, batch: int) -> Any:
    random, size = np.random.default_rng(0), spec["data"]["size"]
    if NETWORKS[spec["model"]["name"]].kind == "chairs":
        return random.integers(0, 256, (batch, size, size, 4), dtype=np.uint8)
    return random.integers(0, spec["data"]["classes"], batch)


def _step(
    part: Part, inputs: Tensor, targets: Any, frozen: int
) -> tuple[list[Tensor], tuple[list[float], list[float]]]:
    """One step, block by block: the input and output of each block; seconds forward, backward."""
    features, outputs = [inputs], []
    forward, backward = [], []
    for index in part.blocks:
        # Cut between any two blocks, so that each is timed alone.
        start = time.perf_counter()
        outputs.append(part.forward_block(index, features[-1], 0))
        forward.append(time.perf_counter() - start)
        output = outputs[-1].detach()
        features.append(output.requires_grad_(index >= frozen and output.is_floating_point()))
    gradient = None
    for index in reversed(part.blocks):
        start = time.perf_counter()
        gradient = _backward(part, index, outputs[index], gradient, features[index], targets)
        backward.append(time.perf_counter() - start)
    return features, (forward, backward[::-1])


def _backward(
    part: Part, index: int, output: Tensor, gradient: Tensor | None, inputs: Tensor, targets: Any
) -> Tensor | None:
    """The gradient of a block's inputs, and its update. The last block has the loss as well."""
    if gradient is None and index == part.blocks[-1]:
        torch.autograd.backward(loss_of(output, targets)[0])
    elif output.requires_grad:
        torch.autograd.backward(output, gradient)
    part.update_block(index, 0.0)
    return inputs.grad


_SIZES = {"parameter": "weights", "optimiser": "optimiser"}


def _bytes(part: Part, index: int, kind: str) -> int:
    """Of a block's weights and statistics, or of its optimiser, after its first steps."""
    key = f"{index}/{_SIZES[kind]}/"
    return sum(a.nbytes for name, a in part.state([index]).items() if name.startswith(key))


def _codecs(spec: Any, shapes: list[list[int]], repeats: int) -> dict[str, dict[str, float]]:
    """Seconds per MiB of float32 features, of every number format and every chain of the spec."""
    scheme, decision = spec["scheme"], spec["scheme"]["decision"] or {}
    formats = [name for name, stage in CODECS.items() if stage.role == "format"]
    chains = [scheme["uplink"], scheme["downlink"]]
    chains += [*decision.get("uplink", []), *decision.get("downlink", [])]
    inner = sorted(shapes[1:-1], key=np.prod)
    features = np.random.default_rng(0).normal(size=inner[len(inner) // 2]).astype(np.float32)
    features = features.clip(0)  # as after a ReLU
    names: Iterable[str] = dict.fromkeys([*formats, *chains])
    return {name: _codec_seconds(name, features, repeats) for name in names}


def _codec_seconds(name: str, features: Any, repeats: int) -> dict[str, float]:
    samples = np.arange(len(features))
    encoder, decoder = codecs.make(name), codecs.make(name)
    encode, decode = [], []
    for step in range(WARM_UP + repeats):
        seconds, encoded = _timed(lambda s=step: encoder.encode(features, s, samples))  # type: ignore[misc]
        encode.append(seconds)
        seconds, _ = _timed(lambda s=step, e=encoded: decoder.decode(e, s, samples))  # type: ignore[misc]
        decode.append(seconds)
    mib = features.nbytes / 2**20
    return {
        "encode_s_per_mib": float(np.median(encode[WARM_UP:])) / mib,
        "decode_s_per_mib": float(np.median(decode[WARM_UP:])) / mib,
    }


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result
