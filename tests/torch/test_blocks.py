"""Networks as blocks: as large as published where they are cut, the same network as torchvision's
when put together, and each block made without the others."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from core.data import catalog
from core.errors import ConfigError, DataError
from core.models import blocks
from core.models.blocks import CHAIR_INPUTS, bilstm, chairs, making
from core.vision import torchvision

BATCH, CLASSES = 32, 10

# Published feature sizes behind each block but the last: MiB at batch 32, float32, rounded.
# (size of the inputs, sizes)
SIZES: dict[str, tuple[int, list[float]]] = {
    "resnet50_cifar": (32, [8, 32, 32, 32, *[16] * 4, *[8] * 6, 4, 4, 4, 0.25]),
    "vgg19_bn": (
        32,
        [8, 2, 4, 1, 2, 2, 2, 0.5, 1, 1, 1, 0.25, 0.25, 0.25, 0.25, 0.06, 0.5, 0.5],
    ),
    "mobilenet_v3_large": (
        32,
        [2, 2, 3, 3, 1.25, 1.25, 1.25, *[0.63] * 4, 0.88, 0.88, *[0.31] * 3, 0.16],
    ),
    "bilstm": (200, [3.13, 6.25, 3.13, 0.02]),
    "resnet50_imagenet": (224, [24.5, 98, 98, 98, *[49] * 4, *[24.5] * 6, *[12.25] * 3, 0.25]),
    "resnet50_imagenet_frozen": (
        224,
        [24.5, 98, 98, 98, *[49] * 4, *[24.5] * 6, *[12.25] * 3, 0.25],
    ),
    "chairs": (128, [0.05, 0.03, 0.03, 0.5, 2, 2, 2.88, 2.88, 6, 6]),
}
BATCHES = {"chairs": 8}  # what their published sizes are of, where it is another one
SMALL = {"images": 32, "text": 12, "chairs": 16}


def raw(name: str, size: int, batch: int = 2) -> Tensor:
    """Inputs as a data set holds them."""
    random = torch.Generator().manual_seed(0)
    if blocks.NETWORKS[name].kind == "text":
        return torch.randint(0, bilstm.WORDS, (batch, size), generator=random, dtype=torch.int32)
    if blocks.NETWORKS[name].kind == "chairs":
        return torch.rand((batch, CHAIR_INPUTS), generator=random)
    return torch.randint(0, 256, (batch, size, size, 3), generator=random, dtype=torch.uint8)


def outputs(name: str, batch: int, classes: int, size: int) -> tuple[int, ...]:
    """Shape of what the last block gives."""
    generates = blocks.NETWORKS[name].kind == "chairs"
    return (batch, 4, size, size) if generates else (batch, classes)


def through(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    for module in modules:
        x = module(x)
    return x


def equal(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.fixture(scope="module", params=blocks.NETWORKS)
def built(request: pytest.FixtureRequest) -> tuple[str, list[nn.Module]]:
    """Each network in turn, with its name."""
    return request.param, blocks.build(request.param, CLASSES, seed=0)


def test_reading_the_table_imports_no_framework() -> None:
    code = "import sys, core.models.blocks; print({'torch', 'torchvision'} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"


def test_every_network_has_published_feature_sizes() -> None:
    assert SIZES.keys() == blocks.NETWORKS.keys()


def test_an_unknown_network_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"model\.name: no network called 'resnet50' is cut"):
        blocks.build("resnet50", CLASSES, 0)
    with pytest.raises(ConfigError, match="did you mean 'vgg19_bn'"):
        blocks.prepare("vgg19_nb", torch.zeros(1))


def test_inputs_that_are_too_small_are_refused() -> None:
    with pytest.raises(ConfigError, match="vgg19_bn: size 31; it takes 32 pixels or more"):
        blocks.build("vgg19_bn", CLASSES, 0, size=31)
    with pytest.raises(ConfigError, match="chairs: size 40; it takes multiples of 16 pixels"):
        blocks.build("chairs", CLASSES, 0, size=40)
    with pytest.raises(ConfigError, match="bilstm: size 0; it takes 1 words or more"):
        blocks.build_block("bilstm", 4, CLASSES, 0, size=0)


def test_published_weights_are_in_the_catalog() -> None:
    wanted = {entry.weights for entry in blocks.NETWORKS.values() if entry.weights}
    assert all(catalog.entry(name).kind == "weights" for name in wanted)


def test_a_style_between_two_numbers_is_a_mixture_of_both() -> None:
    first = blocks.build_block("chairs", 0, CLASSES, 0, size=16)
    assert isinstance(first, chairs.Branches)
    first.style = nn.Sequential(nn.Identity())
    packed = torch.zeros(3, CHAIR_INPUTS)
    packed[:, 0] = torch.tensor([2.0, 3.0, 2.25])
    found = first(packed)[:, :CLASSES]
    assert torch.equal(found[2], 0.75 * found[0] + 0.25 * found[1])
    assert found[0].nonzero().tolist() == [[2]]


# Cuts.


def test_features_at_every_cut_are_as_large_as_published(
    built: tuple[str, list[nn.Module]],
) -> None:
    name, modules = built
    size, published = SIZES[name]
    assert len(modules) == blocks.NETWORKS[name].blocks == len(published) + 1
    found = []
    batch = BATCHES.get(name, BATCH)
    x = blocks.prepare(name, raw(name, size, batch).to("meta"))
    for module in modules:
        x = module.to("meta")(x)
        found.append(x.numel() * x.element_size() / 2**20)
    assert tuple(x.shape) == outputs(name, batch, CLASSES, size)
    # Published are two decimals, of which half of a hundredth is rounded up.
    assert [int(100 * mib + 0.5) / 100 for mib in found[:-1]] == published


@pytest.mark.parametrize("name", blocks.NETWORKS)
def test_no_block_changes_its_input_and_all_that_is_trained_gets_a_gradient(name: str) -> None:
    x = blocks.prepare(name, raw(name, SMALL[blocks.NETWORKS[name].kind]))
    torch.manual_seed(0)
    for index, module in enumerate(blocks.build(name, CLASSES, 0)):
        module.train()
        given = x.detach().requires_grad_(x.is_floating_point())
        before = given.detach().clone()
        x = module(given)
        if x.requires_grad:
            x.square().sum().backward()
        assert torch.equal(given, before), index
        for parameter in module.parameters():
            assert parameter.requires_grad == (index >= blocks.NETWORKS[name].frozen)
            assert (parameter.grad is not None) == parameter.requires_grad
        if given.requires_grad and index > 0:
            assert given.grad is not None


@pytest.mark.parametrize("name", blocks.NETWORKS)
def test_other_sizes_than_the_published_ones_are_taken(name: str) -> None:
    size = 7 if blocks.NETWORKS[name].kind == "text" else 64
    for side in (blocks.NETWORKS[name].smallest, size):
        modules = [module.eval() for module in blocks.build(name, 3, 0, size=side)]
        with torch.no_grad():
            found = through(modules, blocks.prepare(name, raw(name, side, 1)))
            assert found.shape == outputs(name, 1, 3, side)


# The same network as torchvision's.


def _resnet50_cifar() -> Any:
    network = torchvision("models").resnet50(num_classes=CLASSES)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def _vgg19_bn() -> Any:
    network = torchvision("models").vgg19_bn(num_classes=CLASSES)
    network.avgpool = nn.Identity()
    network.classifier[0] = nn.Linear(512, 4096)
    return network


def _mobilenet_v3_large() -> Any:
    network = torchvision("models").mobilenet_v3_large(num_classes=CLASSES)
    network.features[0][0].stride = (1, 1)
    network.features[2].block[1][0].stride = (1, 1)
    return network


def _resnet50() -> Any:
    return torchvision("models").resnet50(num_classes=CLASSES)


TORCHVISION: dict[str, Callable[[], Any]] = {
    "resnet50_cifar": _resnet50_cifar,
    "vgg19_bn": _vgg19_bn,
    "mobilenet_v3_large": _mobilenet_v3_large,
    "resnet50_imagenet": _resnet50,
    "resnet50_imagenet_frozen": _resnet50,
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_blocks_in_sequence_are_torchvisions_network_bit_for_bit(name: str) -> None:
    modules = [module.eval() for module in blocks.build(name, CLASSES, 1)]
    with torch.no_grad():
        for module in modules:
            for key, value in module.state_dict().items():
                if "running_mean" in key:
                    value.normal_(0, 0.1)
                if "running_var" in key:
                    value.uniform_(0.5, 1.5)
    mine = [value for module in modules for value in module.state_dict().values()]
    network = TORCHVISION[name]().eval()
    names = list(network.state_dict())
    network.load_state_dict(dict(zip(names, mine, strict=True)))
    x = blocks.prepare(name, raw(name, 32))
    with torch.no_grad():
        found, expected = through(modules, x), network(x)
    assert torch.equal(found, expected)
    assert expected.std() > 0


def test_the_bilstm_is_what_its_equations_say() -> None:
    """Zhou et al. 2016, with loops over words in the place of PyTorch's LSTM."""
    modules = blocks.build("bilstm", 2, 3)
    tokens = blocks.prepare("bilstm", raw("bilstm", 6))
    with torch.no_grad():
        found = through(modules, tokens)
        x = modules[0].state_dict()["0.weight"][tokens]
        first = torch.cat(_directions(modules[1], x), dim=2)
        second = sum(_directions(modules[2], first))
        assert isinstance(second, Tensor)
        scores = torch.tanh(second) @ modules[3].state_dict()["score.weight"][0]
        weights = scores.exp() / scores.exp().sum(1, keepdim=True)
        vector = torch.tanh(torch.einsum("bw,bwh->bh", weights, second))
        last = modules[4].state_dict()
        expected = vector @ last["weight"].T + last["bias"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def _directions(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """Hidden values of both directions of an LSTM layer (Hochreiter and Schmidhuber, 1997)."""
    found = []
    for suffix, order in (("", range(x.shape[1])), ("_reverse", reversed(range(x.shape[1])))):
        W, U, b, c = (
            layer.state_dict()[f"lstm.{part}_l0{suffix}"]
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        hidden = cell = torch.zeros(len(x), 128)
        outputs: dict[int, Tensor] = {}
        for word in order:
            i, f, g, o = (x[:, word] @ W.T + hidden @ U.T + b + c).chunk(4, dim=1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden = outputs[word] = o.sigmoid() * cell.tanh()
        found.append(torch.stack([outputs[word] for word in sorted(outputs)], dim=1))
    return found


# Fresh weights.


@pytest.mark.parametrize("name", blocks.NETWORKS)
def test_a_block_depends_on_seed_and_number_alone(name: str) -> None:
    torch.manual_seed(4)
    before = torch.get_rng_state()
    modules = blocks.build(name, CLASSES, 7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    for index in reversed(range(len(modules))):
        assert equal(modules[index], blocks.build_block(name, index, CLASSES, 7))
    other = blocks.build_block(name, 0, CLASSES, 8)
    assert not equal(modules[0], other)


def test_blocks_of_the_same_shape_start_from_different_weights() -> None:
    modules = blocks.build("resnet50_cifar", CLASSES, 0)
    alike = [(a, b) for a, b in pairwise(modules[9:14])]
    assert not any(equal(a, b) for a, b in alike)


# Published weights.


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """A folder as fetched, with weights of another seed in the place of ImageNet's."""
    torch.manual_seed(6)
    values = torchvision("models").resnet50().state_dict()
    for name, value in values.items():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    folder = tmp_path_factory.mktemp("weights") / "resnet50_torch"
    folder.mkdir()
    save_file(values, folder / "weights.safetensors")
    return folder, values


def test_published_weights_give_torchvisions_features(
    published: tuple[Path, dict[str, Tensor]],
) -> None:
    folder, values = published
    network = torchvision("models").resnet50()
    network.load_state_dict(values)
    network.fc = nn.Identity()
    network.eval()
    for name in ("resnet50_imagenet", "resnet50_imagenet_frozen"):
        modules = [module.eval() for module in blocks.build(name, 20, 0, folder)]
        x = blocks.prepare(name, raw(name, 64))
        with torch.no_grad():
            assert torch.equal(through(modules[:-1], x), network(x))
        assert equal(modules[-1], blocks.build_block(name, 18, 20, 0))  # a new prediction layer


def test_the_cifar_form_takes_the_bottlenecks_and_starts_its_stem_afresh(
    published: tuple[Path, dict[str, Tensor]],
) -> None:
    folder, values = published
    fresh = blocks.build("resnet50_cifar", CLASSES, 0)
    transferred = blocks.build("resnet50_cifar", CLASSES, 0, folder)
    kept = [i for i, (a, b) in enumerate(zip(fresh, transferred, strict=True)) if equal(a, b)]
    assert kept == [0, 17, 18]  # the stem, the pooling and the prediction
    names = [f"layer{s}.{i}" for s, n in ((1, 3), (2, 4), (3, 6), (4, 3)) for i in range(n)]
    for name, module in zip(names, transferred[1:17], strict=True):
        for key, value in module.state_dict().items():
            assert torch.equal(value, values[f"{name}.{key}"])


@pytest.mark.parametrize("damage", ["missing", "short", "without an array", "of another shape"])
def test_weights_that_do_not_fit_are_refused_with_what_to_do(damage: str, tmp_path: Path) -> None:
    block = making.Block(lambda: nn.Linear(3, 2), "part.")
    values = {"part.weight": torch.zeros(2, 3), "part.bias": torch.zeros(2)}
    if damage == "without an array":
        del values["part.bias"]
    if damage == "of another shape":
        values["part.bias"] = torch.zeros(3)
    path = tmp_path / "weights.safetensors"
    if damage != "missing":
        save_file(values, path)
    if damage == "short":
        path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError) as refused:
        making.load(block.make(), block, "some", tmp_path)
    text = str(refused.value)
    assert text.startswith(f"weights in {tmp_path} do not fit some (")
    assert text.endswith(f"python -m core fetch {tmp_path.name} --out {tmp_path}")
    if damage in ("without an array", "of another shape"):
        assert "bias" in text


# Frozen blocks.


def test_a_frozen_block_stays_in_evaluation_and_learns_nothing(
    published: tuple[Path, dict[str, Tensor]],
) -> None:
    modules = [
        blocks.build_block("resnet50_imagenet_frozen", i, 20, 0, published[0]) for i in (9, 10)
    ]
    frozen, trained = (module.train() for module in modules)
    x = torch.rand(4, 1024, 8, 8, requires_grad=True)
    before = [value.clone() for value in frozen.state_dict().values()]
    features = frozen(x)
    assert torch.equal(features, frozen.eval()(x))
    trained(features).sum().backward()
    assert x.grad is not None  # gradients pass it
    after = frozen.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(p.grad is not None for p in trained.parameters())
    assert frozen.training is False
    assert trained.training is True


# Inputs.


@pytest.mark.parametrize("name", blocks.NETWORKS)
def test_inputs_are_prepared_as_usual(name: str) -> None:
    if blocks.NETWORKS[name].kind == "text":
        tokens = torch.tensor([[5, 0]], dtype=torch.int32)
        assert blocks.prepare(name, tokens).tolist() == [[5, 0]]
        assert blocks.prepare(name, tokens).dtype == torch.int64
        return
    if blocks.NETWORKS[name].kind == "chairs":
        assert torch.equal(blocks.prepare(name, torch.ones(1, 17)), torch.ones(1, 17))
        return
    image = torch.tensor([255, 127, 0], dtype=torch.uint8).expand(1, 4, 5, 3)
    found = blocks.prepare(name, image)
    assert found.shape == (1, 3, 4, 5)
    assert found.is_contiguous()
    expected = {
        True: ((1 - 0.485) / 0.229, (127 / 255 - 0.456) / 0.224, -0.406 / 0.225),
        False: ((1 - 0.4914) / 0.247, (127 / 255 - 0.4822) / 0.2435, -0.4465 / 0.2616),
    }["imagenet" in name]
    assert found[0, :, 2, 3].tolist() == pytest.approx(expected, abs=1e-5)
