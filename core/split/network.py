"""The network of a spec, as both sides build it."""

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from core.models.blocks import NETWORKS, build_block, prepare
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


def block_count(spec: Any) -> int:
    """n, of the spec's network."""
    return NETWORKS[spec["model"]["name"]].blocks
