"""Small networks and backends that the tests of the PyTorch backend share."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from core.elastic.backend import State
from core.elastic.selector import Mask
from core.elastic.torch_backend import TorchBackend
from core.models import torch_zoo

CLASSES, SIZE, BATCH, STEPS = 5, 16, 4, 20
RATE, MOMENTUM, DECAY = 0.05, 0.9, 5e-4
RANDOM = {"augmentation": {"flip": True, "rotation": 0.1}, "dropout": 0.3}
Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


class Small(nn.Module):
    """Convolution, a residual block with a depthwise convolution, normalisation; modules are
    registered from the output to the input."""

    features = 6

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.point = nn.Conv2d(channels, self.features, 1, bias=False)
        self.norm_depth = nn.BatchNorm2d(channels)
        self.depth = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.act = nn.ReLU6(inplace=True)
        for norm in (self.norm, self.norm_depth):
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 2)

    def forward(self, images: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(images)))
        x = x + self.norm_depth(self.depth(x))
        return self.point(x).mean((2, 3))


# Of Small with its prediction layer, in order of use.
NAMES = [
    *("conv.weight", "conv.bias", "norm.weight", "norm.bias", "depth.weight"),
    *("norm_depth.weight", "norm_depth.bias", "point.weight", "head.weight", "head.bias"),
]


class Branches(nn.Module):
    """Two blocks whose shortcuts have convolutions of their own, used after the main branches."""

    features = 6

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.ModuleList([nn.Conv2d(n, 6, 3, padding=1) for n in (3, 6)])
        self.after = nn.ModuleList([nn.Conv2d(6, 6, 1) for _ in range(2)])
        self.shortcut = nn.ModuleList([nn.Conv2d(n, 6, 1) for n in (3, 6)])

    def forward(self, x: Tensor) -> Tensor:
        for main, after, shortcut in zip(self.main, self.after, self.shortcut, strict=True):
            x = torch.relu(after(torch.relu(main(x))) + shortcut(x))
        return x.mean((2, 3))


class Transformer(nn.Module):
    """Patches, class token, positions and one block with attention, as a vision transformer."""

    features = 8

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(self.features, self.features)
        self.attention = nn.MultiheadAttention(self.features, 2, batch_first=True)
        self.norm = nn.LayerNorm(self.features)
        length = 1 + (image_size // 4) ** 2
        self.positions = nn.Parameter(torch.randn(1, length, self.features))
        self.token = nn.Parameter(torch.randn(1, 1, self.features))
        self.patches = nn.Conv2d(3, self.features, 4, 4)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return (x + nn.functional.gelu(self.dense(x)))[:, 0]


def scaled(x: Tensor) -> Tensor:
    return x / 128 - 1


NETWORKS = {
    "small": torch_zoo.Network(lambda size: Small(), Small.features, scaled, "old."),
    "branches": torch_zoo.Network(lambda size: Branches(), Branches.features, scaled, "old."),
    "transformer": torch_zoo.Network(Transformer, Transformer.features, scaled, "old."),
}


def make(
    model: str = "small", seed: int = 7, optimiser: str = "sgdw", threads: int = 2, **changes: Any
) -> TorchBackend:
    """A backend without randomness in its steps unless `changes` to the training section add it."""
    training = {
        "image_size": SIZE,
        "batch": BATCH,
        "test_batch": 6,
        "augmentation": {"flip": False, "rotation": 0.0},
        "dropout": 0.0,
        "optimiser": {
            "name": optimiser,
            "learning_rate": RATE,
            "momentum": MOMENTUM,
            "weight_decay": DECAY,
            "schedule": "cosine",
        },
    }
    count = {"intra_op": threads, "inter_op": 1}
    spec = {"name": model, "weights": None}
    return TorchBackend(spec, training | changes, CLASSES, STEPS, seed, count)


def batch_of(number: int, images: int = BATCH, size: int = SIZE) -> Batch:
    draw = np.random.default_rng(number)
    pixels = draw.integers(0, 256, (images, size, size, 3), dtype=np.uint8)
    return pixels, draw.integers(0, CLASSES, images)


def selecting(backend: TorchBackend, *selected: int) -> Mask:
    n = len(backend.tensors)
    return np.isin(np.arange(n), [i % n for i in selected])


def everything(backend: TorchBackend) -> Mask:
    return np.ones(len(backend.tensors), dtype=bool)


def train(backend: TorchBackend, steps: range) -> list[tuple[float, int]]:
    return [backend.train_step(*batch_of(step), step) for step in steps]


def differing(one: State, other: State) -> set[str]:
    """Names that are not in both states with the same bits."""
    assert all(v.dtype == other[k].dtype for k, v in one.items() if k in other)
    same = {k for k in one.keys() & other.keys() if one[k].tobytes() == other[k].tobytes()}
    return (one.keys() | other.keys()) - same
