"""The network of a spec, as both sides build it."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from core.models.blocks import CHAIR_INPUTS, NETWORKS, build_block, prepare
from core.split.part import Part


def make_part(spec: Any, blocks: range) -> Part:
    """Some blocks of the spec's network, with the weights that they start from."""
    model, data = spec["model"], spec["data"]
    weights = Path(model["weights"]) if model["weights"] else None

    def build(index: int) -> nn.Module:
        return build_block(
            model["name"], index, data["classes"], spec["seed"], weights, data["size"]
        )

    return Part(
        build, partial(prepare, model["name"]), blocks, spec["training"]["optimiser"], spec["seed"]
    )


def input_of(spec: Any, cut: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape, without the batch, and type of what the block behind a cut takes."""
    model, size = spec["model"]["name"], spec["data"]["size"]
    raw = {
        "images": torch.zeros((1, size, size, 3), dtype=torch.uint8),
        "text": torch.zeros((1, size), dtype=torch.int32),
        "chairs": torch.zeros(1, CHAIR_INPUTS),
    }[NETWORKS[model].kind]
    if cut == 0:
        return tuple(raw.shape[1:]), raw.numpy().dtype
    features = prepare(model, raw)
    with torch.no_grad():
        for index in range(cut):
            block = build_block(model, index, spec["data"]["classes"], spec["seed"], size=size)
            features = block.eval()(features)
    return tuple(features.shape[1:]), np.dtype(np.float32)


def frozen_count(spec: Any) -> int:
    """How many first blocks are not trained: to a cut among them no gradient comes back."""
    return NETWORKS[spec["model"]["name"]].frozen


def block_count(spec: Any) -> int:
    """n, of the spec's network."""
    return NETWORKS[spec["model"]["name"]].blocks
