"""Networks as sequences of blocks, for training that is cut between two blocks.

A block maps one tensor to one tensor and never changes its input in place; the last one gives
logits (batch, classes), or of a generator images and logits of masks (batch, 4, size, size).
Reading this table needs no framework.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from core.errors import ConfigError
from core.schema import suggestion

if TYPE_CHECKING:
    from torch import Tensor, nn

# Of a chair to be generated: numbers of its view and its transform; with its style, of a row.
VIEW, TRANSFORM = 4, 12
CHAIR_INPUTS = 1 + VIEW + TRANSFORM


@dataclass(frozen=True)
class BlockNetwork:
    """title: name on figures. kind: of the data that it takes. blocks: how many there are.
    builder: module:function that lists them, imported late. weights: entry of the data catalog
    with published weights that it can start from. smallest: side of the smallest image in
    pixels, or fewest words, that it takes. frozen: so many first blocks are not trained. pixels:
    name in core.models.pixels of the statistics by which images are normalised. front: the side
    that holds the first blocks and the raw inputs in split training; the other one has the targets.
    multiple: size must be one of it. sized: its blocks are others for another size."""

    title: str
    kind: Literal["images", "text", "chairs"]
    blocks: int
    builder: str
    weights: str | None = None
    smallest: int = 1
    frozen: int = 0
    pixels: str = ""
    front: Literal["edge", "cloud"] = "edge"
    multiple: int = 1
    sized: bool = False


def _imagenet(title: str, frozen: int) -> BlockNetwork:
    """torchvision's ResNet50, which starts from its ImageNet weights."""
    builder = "core.models.blocks.resnet:resnet50_imagenet"
    weights = "resnet50_torch"
    return BlockNetwork(title, "images", 19, builder, weights, 32, frozen, pixels="IMAGENET")


NETWORKS: dict[str, BlockNetwork] = {
    "resnet50_cifar": BlockNetwork(
        title="ResNet50",
        kind="images",
        blocks=19,
        builder="core.models.blocks.resnet:resnet50_cifar",
        weights="resnet50_torch",
        pixels="CIFAR10",
    ),
    "vgg19_bn": BlockNetwork(
        title="VGG19",
        kind="images",
        blocks=19,
        builder="core.models.blocks.vgg:vgg19_bn",
        smallest=32,  # halved five times
        pixels="CIFAR10",
    ),
    "mobilenet_v3_large": BlockNetwork(
        title="MobileNetV3-Large",
        kind="images",
        blocks=18,
        builder="core.models.blocks.mobilenet_v3:mobilenet_v3_large",
        pixels="CIFAR10",
    ),
    "bilstm": BlockNetwork(
        title="Bi-LSTM",
        kind="text",
        blocks=5,
        builder="core.models.blocks.bilstm:bilstm",
        frozen=1,  # the embedding
    ),
    # Transfer to Tiny ImageNet, types 1 and 2.
    "resnet50_imagenet": _imagenet("ResNet50, transfer", frozen=0),
    "resnet50_imagenet_frozen": _imagenet("ResNet50, transfer, 10 blocks frozen", frozen=10),
    # The edge has the images that are to be generated, and they stay there.
    "chairs": BlockNetwork(
        title="Chair generator",
        kind="chairs",
        blocks=11,
        builder="core.models.blocks.chairs:chairs",
        smallest=16,
        front="cloud",
        multiple=16,
        sized=True,
    ),
}


def network(name: str) -> BlockNetwork:
    """The entry of that name. Raises ConfigError that lists the names there are."""
    if name not in NETWORKS:
        known = suggestion(name, list(NETWORKS))
        raise ConfigError(f"model.name: no network called {name!r} is cut into blocks ({known})")
    return NETWORKS[name]


def build(
    name: str, classes: int, seed: int, weights: Path | None = None, size: int | None = None
) -> "list[nn.Module]":
    """All blocks in order, as `build_block` makes each."""
    count = network(name).blocks
    return [build_block(name, i, classes, seed, weights, size) for i in range(count)]


def build_block(
    name: str,
    index: int,
    classes: int,
    seed: int,
    weights: Path | None = None,
    size: int | None = None,
) -> "nn.Module":
    """One block (0 is the first) without the others. Its fresh weights depend on seed and index
    alone, so that either side can make it.

    weights: fetched folder of published weights. A block that has none there (another shape, or
    the old prediction layer) stays fresh. size: of the inputs, checked where it is given.

    Raises ConfigError for an unknown name or a size too small, DataError for weights that do not
    fit.
    """
    entry = network(name)
    if size is not None and (wrong := check_size(name, size)):
        raise ConfigError(f"{name}: size {size}; {wrong}")
    from core.models.blocks import making

    builder, function = entry.builder.split(":")
    sized = {"size": size} if entry.sized else {}
    block: making.Block = getattr(import_module(builder), function)(classes, **sized)[index]
    module = making.fresh(block, seed, index)
    if weights is not None:
        making.load(module, block, name, weights)
    return making.Frozen(module) if index < entry.frozen else module


def check_size(name: str, size: int) -> str:
    """What is wrong with a size of the inputs, or of what is generated; empty if nothing."""
    entry = network(name)
    unit = "words" if entry.kind == "text" else "pixels"
    if size < entry.smallest:
        return f"it takes {entry.smallest} {unit} or more"
    return f"it takes multiples of {entry.multiple} {unit}" if size % entry.multiple else ""


def prepare(name: str, inputs: "Tensor") -> "Tensor":
    """What block 0 takes: of uint8 images (batch, height, width, 3), float32 (batch, 3, height,
    width), normalised; of integer tokens (batch, words), int64; packed numbers as they are."""
    entry = network(name)
    if entry.kind == "text":
        return inputs.long()
    if entry.kind == "chairs":
        return inputs
    from core.models import pixels

    # Contiguous: other strides would make convolutions round otherwise than after the wire.
    images = inputs.permute(0, 3, 1, 2).float().contiguous()
    return pixels.normalised(images, getattr(pixels, entry.pixels))
