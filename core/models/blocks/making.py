"""Making one block: fresh, from published weights, frozen."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from core.models.published import published_weights


@dataclass(frozen=True)
class Block:
    """How to make a block, and where its tensors are in the published file.

    make: a module with the random weights that it is to start from.
    published: what stands before the names of its tensors in the published file; None where
    that has none for it.
    """

    make: Callable[[], nn.Module]
    published: str | None = None


class Frozen(nn.Sequential):
    """A block that is not trained: no gradients for its parameters, and always in evaluation
    mode. So BatchNorm uses and keeps its published statistics, and nothing is dropped out:
    the block is the same function in every step."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(block)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Frozen":
        super().train(False)
        return self


def fresh(block: Block, seed: int, index: int) -> nn.Module:
    """A block whose weights depend on seed and index alone. PyTorch's own random numbers go on
    afterwards as if nothing had been drawn."""
    digest = hashlib.sha256(f"{seed}:{index}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int.from_bytes(digest[:7], "big"))
        return block.make()


def load(module: nn.Module, block: Block, name: str, weights: Path) -> None:
    """Fill a block from a fetched folder. Raises DataError when the file does not fit."""
    if block.published is None:
        return
    with (
        published_weights(name, weights) as path,
        safe_open(path, framework="pt") as file,
    ):
        wanted = module.state_dict()
        module.load_state_dict({key: file.get_tensor(block.published + key) for key in wanted})


def initialised(module: nn.Module, dense: float | None = None) -> nn.Module:
    """Fresh weights as torchvision's networks start from.

    Convolutions: normal, scaled for the ReLU by the outputs (He et al., 2015), biases zero.
    dense: standard deviation of dense layers, biases zero; None leaves PyTorch's default.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            _zero(part.bias)
        elif isinstance(part, nn.Linear) and dense is not None:
            nn.init.normal_(part.weight, 0, dense)
            _zero(part.bias)
    return module


def _zero(bias: Tensor | None) -> None:
    if bias is not None:
        nn.init.zeros_(bias)
