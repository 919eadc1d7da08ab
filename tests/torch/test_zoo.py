"""The networks of the zoo: what can be named can be built, trained and probed, is fed as its
authors fed it, and takes the weights that they published."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from core.elastic.torch_backend import TorchBackend
from core.errors import ConfigError, DataError
from core.models import MODELS, torch_zoo
from core.vision import torchvision
from tests.torch import networks

SIZE, CLASSES, BATCH = 32, 5, 2

# Of each network without its prediction layer: features, then its kernels (convolutions and
# dense layers), biases, scales and offsets of normalisation, and what is none of these.
CONTENT = {
    "efficientnet_lite0": (1280, 49, 0, 98, 0),
    "efficientnet_lite1": (1280, 64, 0, 128, 0),
    "efficientnet_lite2": (1280, 64, 0, 128, 0),
    "resnet50": (2048, 53, 0, 106, 0),
    "vgg16": (512, 13, 13, 0, 0),
    "mobilenet_v2": (1280, 52, 0, 104, 0),
    # The patches, and four dense layers in each of twelve blocks (queries, keys and values are
    # one); class token and positions.
    "vit_b16": (768, 49, 49, 50, 2),
}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def randomised(module: nn.Module) -> nn.Module:
    """Weights and statistics with which every layer matters and nothing fades."""
    for name, value in module.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.3)
        elif value.ndim == 4:
            nn.init.kaiming_normal_(value)
        elif value.ndim == 1 and name.endswith("weight"):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point():
            value.normal_(0, 0.05)
    return module.eval()


def published(name: str, size: int = SIZE) -> tuple[nn.Module, dict[str, Tensor]]:
    """torchvision's network with its own prediction layer, and what its file would hold."""
    kind = "vit_b_16" if name == "vit_b16" else name
    options: dict[str, Any] = {"image_size": size} if name == "vit_b16" else {}
    torch.manual_seed(1)
    network = randomised(getattr(torchvision("models"), kind)(**options))
    return network, network.state_dict()


def images_of(size: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (2, 3, size, size))).float()


def features_of(name: str, weights: Path | None, size: int) -> tuple[Tensor, nn.Module]:
    """Features of images, prepared as the recipe says."""
    network, recipe = torch_zoo.build(name, size, weights)
    with torch.no_grad():
        return network(recipe.preprocess(images_of(size))), network


@pytest.fixture(scope="module", params=CONTENT)
def backend(request: pytest.FixtureRequest) -> tuple[str, TorchBackend]:
    """Each network in turn, with its name."""
    optimiser = "adam" if request.param == "vit_b16" else "sgdw"  # as published
    return request.param, networks.make(request.param, optimiser=optimiser, image_size=SIZE)


def test_every_model_that_can_be_named_can_be_built() -> None:
    assert set(MODELS) == set(CONTENT) == set(torch_zoo.NETWORKS) - set(networks.NETWORKS)


def test_an_unknown_model_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown model 'resnet51'; known: efficientnet_lite0"):
        torch_zoo.build("resnet51", 32, None)


@pytest.mark.parametrize("name", CONTENT)
def test_images_are_prepared_as_the_authors_did(name: str) -> None:
    """What the pixel (R 255, G 127, B 0) becomes."""
    pixel = torch_zoo.NETWORKS[name].preprocess(
        torch.tensor([255.0, 127.0, 0.0])[None, :, None, None]
    )
    expected = {
        True: (1, 0, -127 / 128),
        False: ((1 - 0.485) / 0.229, (127 / 255 - 0.456) / 0.224, -0.406 / 0.225),
    }[name.startswith("efficientnet")]
    assert pixel.ravel().tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_tensors_have_the_kinds_of_the_published_network(
    backend: tuple[str, TorchBackend],
) -> None:
    name, built = backend
    *body, kernel, bias = built.tensors
    features, *numbers = CONTENT[name]
    assert (kernel.name, kernel.shape, kernel.kind) == ("head.weight", (5, features), "kernel")
    assert (bias.name, bias.shape, bias.kind) == ("head.bias", (5,), "bias")
    assert [t.head for t in built.tensors] == [False] * len(body) + [True, True]
    found = Counter(t.kind for t in body)
    assert [found[kind] for kind in ("kernel", "bias", "norm", "other")] == numbers
    for tensor in body:
        rank = {"kernel": (2, 4), "bias": (1,), "norm": (1,), "other": (3,)}[tensor.kind]
        assert len(tensor.shape) in rank


@pytest.mark.slow
def test_tensors_have_names_of_their_own_in_order_of_use(
    backend: tuple[str, TorchBackend],
) -> None:
    name, built = backend
    names = [t.name for t in built.tensors]
    assert len(set(names)) == len(names)
    registered = [n for n, _ in torch_zoo.build(name, SIZE, None)[0].named_parameters()]
    if name == "vit_b16":  # the class token is registered first and used after the patches
        registered = vit_order()
    assert names == [*registered, "head.weight", "head.bias"]
    # Tensors of a layer follow each other, and no two layers share a name.
    layers = [t.layer for t in built.tensors]
    runs = [a for a, b in zip(layers, [None, *layers], strict=False) if a != b]
    assert len(set(runs)) == len(runs)


def vit_order() -> list[str]:
    """By hand: each block normalises, attends, normalises, and has two dense layers."""
    attention = ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
    block = ["ln_1.weight", "ln_1.bias", *(f"self_attention.{w}" for w in attention)]
    block += [f"{x}.{w}" for x in ("ln_2", "mlp.0", "mlp.3") for w in ("weight", "bias")]
    blocks = [f"encoder.layers.encoder_layer_{i}.{w}" for i in range(12) for w in block]
    first = ["conv_proj.weight", "conv_proj.bias", "class_token", "encoder.pos_embedding"]
    return [*first, *blocks, "encoder.ln.weight", "encoder.ln.bias"]


@pytest.mark.slow
def test_one_step_changes_what_is_selected_and_one_probe_changes_nothing(
    backend: tuple[str, TorchBackend],
) -> None:
    _, built = backend
    images, labels = networks.batch_of(0, images=BATCH, size=SIZE)
    n = len(built.tensors)
    selected = [n // 2, n - 2, n - 1]
    before = built.state()
    built.select(np.isin(np.arange(n), selected))
    loss, right = built.train_step(images, labels, 0)
    assert np.isfinite(loss)
    assert 0 <= right <= BATCH
    after = built.state()
    changed = {k for k, v in before.items() if v.tobytes() != after[k].tobytes()}
    assert {f"tensor/{n - 2}", f"tensor/{n - 1}", "iterations"} <= changed
    assert changed <= {*(f"tensor/{i}" for i in selected), "iterations"}
    importance = built.probe(images, labels, 1)
    assert importance.shape == (n,)
    assert np.isfinite(importance).all()
    assert importance.any()
    assert networks.differing(after, built.state()) == set()


@pytest.mark.slow
def test_evaluation_and_training_see_the_same_logits(backend: tuple[str, TorchBackend]) -> None:
    _, built = backend
    batch = networks.batch_of(1, images=BATCH, size=SIZE)
    tested = built.evaluate(*batch)[0] / BATCH
    n = len(built.tensors)
    for mask in (np.ones(n, bool), np.arange(n) == n - 1):
        built.select(mask)
        loss, _ = built._loss(*batch, 0)
        assert loss.item() == pytest.approx(tested, rel=1e-5)


# Published weights.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "head"),
    [("resnet50", "fc"), ("mobilenet_v2", "classifier.1"), ("vit_b16", "heads.head")],
)
def test_published_weights_give_the_features_of_the_published_network(
    name: str, head: str, tmp_path: Path
) -> None:
    """What torchvision's own network answers is its prediction layer of these features."""
    network, values = published(name, 64)
    save_file(values, tmp_path / "weights.safetensors")
    found, _ = features_of(name, tmp_path, 64)
    with torch.no_grad():
        expected = network(torch_zoo.NETWORKS[name].preprocess(images_of(64)))
    assert found.shape == (2, CONTENT[name][0])
    answers = found @ values[f"{head}.weight"].T + values[f"{head}.bias"]
    assert answers.numpy() == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-4)
    assert expected.abs().max() > 0.1


@pytest.mark.slow
def test_published_weights_of_vgg16_lose_its_dense_layers(tmp_path: Path) -> None:
    with torch.device("meta"):
        names = torchvision("models").vgg16().state_dict()
    backbone = randomised(torch_zoo.build("vgg16", 32, None)[0]).state_dict()
    assert backbone.keys() == {n for n in names if not n.startswith("classifier.")}
    assert all(names[n].shape == v.shape for n, v in backbone.items())
    values = {n: backbone.get(n, torch.zeros(2)) for n in names}
    save_file(values, tmp_path / "weights.safetensors")
    found, network = features_of("vgg16", tmp_path, 64)
    with torch.no_grad():
        maps = network.features(torch_zoo.NETWORKS["vgg16"].preprocess(images_of(64)))
    assert maps.shape == (2, 512, 2, 2)
    assert found.numpy() == pytest.approx(maps.mean((2, 3)).numpy(), rel=1e-5)
    assert all((network.state_dict()[n] == v).all() for n, v in backbone.items())


@pytest.mark.slow
def test_positions_of_the_vision_transformer_are_interpolated_as_torchvision_does(
    tmp_path: Path,
) -> None:
    _, values = published("vit_b16", 64)
    save_file(values, tmp_path / "weights.safetensors")
    resize = torchvision("models.vision_transformer").interpolate_embeddings
    for size in (32, 64, 96):
        network = torch_zoo.build("vit_b16", size, tmp_path)[0]
        expected = resize(size, 16, dict(values))
        for name, value in network.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-7)


@pytest.fixture(scope="module")
def lite_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """As the published file: with the old prediction layer."""
    torch.manual_seed(2)
    network = randomised(torch_zoo.build("efficientnet_lite0", SIZE, None)[0])
    old = {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}
    return network.state_dict() | old


@pytest.mark.parametrize(
    "damage", ["missing", "short", "without an array", "one more", "of another shape"]
)
def test_weights_that_do_not_fit_are_refused_with_what_to_do(
    lite_weights: dict[str, Tensor], damage: str, tmp_path: Path
) -> None:
    path, values = tmp_path / "weights.safetensors", dict(lite_weights)
    stem = values["_conv_stem.weight"]
    match damage:
        case "without an array":
            del values["_conv_stem.weight"]
        case "one more":
            values["_conv_stem.bias"] = torch.zeros(32)
        case "of another shape":
            values["_conv_stem.weight"] = stem[:, :2].contiguous()
    if damage != "missing":
        save_file(values, path)
    if damage == "short":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError) as refused:
        torch_zoo.build("efficientnet_lite0", SIZE, tmp_path)
    text = str(refused.value)
    assert text.startswith(f"weights in {tmp_path} do not fit efficientnet_lite0 (")
    assert f"python -m core fetch {tmp_path.name} --out {tmp_path}" in text
    if damage in ("without an array", "one more", "of another shape"):
        assert "_conv_stem" in text


def test_weights_of_another_network_are_refused_in_one_line(
    lite_weights: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(lite_weights, tmp_path / "weights.safetensors")
    for name in ("efficientnet_lite1", "resnet50", "mobilenet_v2"):
        with pytest.raises(DataError, match=f"do not fit {name} ") as refused:
            torch_zoo.build(name, SIZE, tmp_path)
        text = str(refused.value)
        assert "\n" not in text
        assert len(text) < 600 + 2 * len(str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("length", [8, 1 + 4 * 5])
def test_positions_that_are_no_square_are_refused(length: int, tmp_path: Path) -> None:
    _, values = published("vit_b16", 64)
    values = dict(values) | {"encoder.pos_embedding": torch.zeros(1, length, 768)}
    save_file(values, tmp_path / "weights.safetensors")
    with pytest.raises(DataError, match=r"do not fit vit_b16 .*core fetch"):
        torch_zoo.build("vit_b16", 32, tmp_path)


# The port of EfficientNet-Lite.


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 64, 96])
@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
def test_efficientnet_lite_is_the_published_package(name: str, size: int, tmp_path: Path) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    torch.manual_seed(3)
    published = package.EfficientNet.from_name(name.replace("_", "-"), image_size=size)
    save_file(randomised(published).state_dict(), tmp_path / "weights.safetensors")
    found, _ = features_of(name, tmp_path, size)
    with torch.no_grad():
        x = torch_zoo.NETWORKS[name].preprocess(images_of(size))
        expected = published.extract_features(x).mean((2, 3))
    assert found.shape == (2, 1280)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
