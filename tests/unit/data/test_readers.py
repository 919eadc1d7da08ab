"""core.data.readers of CIFAR-10 and Tiny ImageNet, on small files of the same format."""

import hashlib
import io
import json
import pickle
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from core.data import catalog
from core.data.arrays import open_arrays
from core.data.catalog import Published, Torchvision
from core.data.fetch import fetch_entry
from core.errors import DataError
from core.vision import torchvision

WNIDS = ["n01443537", "n01629819", "n01641577"]


def jpeg(level: int, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (level, level, level)).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


def tiny_files() -> dict[str, bytes]:
    """The layout of Tiny ImageNet: 3 classes in no order, 2 training and 1 validation image of
    each, some of them grey."""
    root = "tiny-imagenet-200"
    files = {f"{root}/wnids.txt": "\n".join(WNIDS).encode(), f"{root}/words.txt": b""}
    rows = []
    for n, wnid in reversed(list(enumerate(WNIDS))):
        files[f"{root}/train/{wnid}/{wnid}_boxes.txt"] = b""
        for i in range(2):
            mode = "L" if i else "RGB"
            files[f"{root}/train/{wnid}/images/{wnid}_{i}.JPEG"] = jpeg(80 * n + 10 * i, mode)
        files[f"{root}/val/images/val_{n}.JPEG"] = jpeg(80 * n + 20)
        rows.append(f"val_{n}.JPEG\t{wnid}\t0\t32\t44\t62\n")
        files[f"{root}/test/images/test_{n}.JPEG"] = jpeg(0)
    files[f"{root}/val/val_annotations.txt"] = "".join(rows).encode()
    return files


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def tiny(serve):
    """tiny(archive, classes) -> the entry with this file at an address on this machine."""

    def entry(archive: bytes, classes: int = 3):
        source = replace(serve(archive), filename="tiny.zip", member=("tiny-imagenet-200",))
        splits = Published(2 * classes, classes)
        shipped = catalog.entry("tiny_imagenet")
        return replace(shipped, classes=classes, splits=splits, sources=(source,))

    return entry


@pytest.mark.parametrize("classes", [2, 3])
def test_tiny_imagenet_gives_its_first_classes_in_the_order_of_their_ids(tmp_path, tiny, classes):
    out = tmp_path / "out"
    fetch_entry(tiny(zip_of(tiny_files()), classes), out, 64, tmp_path / "downloads")
    train, test = (open_arrays(out, part) for part in ("train", "test"))
    assert train.classes == tuple(WNIDS[:classes])
    assert train.inputs.shape == (2 * classes, 64, 64, 3)
    assert train.ids[:2] == tuple(f"train/{WNIDS[0]}/images/{WNIDS[0]}_{i}.JPEG" for i in (0, 1))
    assert train.labels.tolist() == [label for label in range(classes) for _ in range(2)]
    levels = [80 * label + 10 * i for label in range(classes) for i in range(2)]
    assert train.inputs[:, 5, 5, 1].tolist() == pytest.approx(levels, abs=2)
    # In the order of the table, which is backwards here.
    assert test.labels.tolist() == list(reversed(range(classes)))
    assert test.ids[-1] == "val/images/val_0.JPEG"
    assert test.inputs[-1, 5, 5].tolist() == pytest.approx([20] * 3, abs=2)


def broken(change):
    files = tiny_files()
    change(files)
    return zip_of(files)


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (
            broken(lambda f: f.pop("tiny-imagenet-200/val/val_annotations.txt")),
            r"holds no file 'tiny-imagenet-200/val/val_annotations\.txt'",
        ),
        (
            broken(lambda f: f.update({"tiny-imagenet-200/val/val_annotations.txt": b"a\tb\n"})),
            r"val_annotations\.txt, line 1: expected file, class and box in 6 columns, found 'a",
        ),
        (
            broken(lambda f: f.pop("tiny-imagenet-200/val/images/val_1.JPEG")),
            r"holds no file 'tiny-imagenet-200/val/images/val_1\.JPEG'",
        ),
        (
            broken(lambda f: f.pop("tiny-imagenet-200/train/n01629819/images/n01629819_1.JPEG")),
            "tiny_imagenet: 5 train samples, the catalog expects 6",
        ),
        (
            broken(lambda f: f.update({"tiny-imagenet-200/val/images/val_1.JPEG": jpeg(9)[:200]})),
            r"val/images/val_1\.JPEG: not an image, or a damaged one",
        ),
        (zip_of(tiny_files())[:-30], r"tiny\.zip: damaged or not an archive"),
        (zip_of({"tiny-imagenet-200/val/val_annotations.txt": b""}), "0 classes, the catalog exp"),
    ],
    ids=["no labels", "labels", "no image", "few", "damaged image", "damaged", "no classes"],
)
def test_an_archive_of_tiny_imagenet_that_is_not_whole_is_refused(tmp_path, tiny, archive, message):
    with pytest.raises(DataError, match=message):
        fetch_entry(tiny(archive), tmp_path / "out", 64, tmp_path / "downloads")
    assert not (tmp_path / "out").exists()


NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def cifar_archive() -> tuple[bytes, dict[str, str]]:
    """The format of CIFAR-10: 5 batches of 10 images and a test batch; checksums by name."""
    files = {"batches.meta": {"label_names": NAMES}}
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        pixels = np.zeros((10, 3, 32, 32), np.uint8)
        pixels[:, 0], pixels[:, 2] = 10 * number, 7  # red, blue
        files[name] = {
            "data": pixels.reshape(10, -1),
            "labels": [(n + number) % 10 for n in range(10)],
        }
    buffer = io.BytesIO()
    checksums = {}
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            packed = pickle.dumps(content)
            item = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            item.size = len(packed)
            archive.addfile(item, io.BytesIO(packed))
            checksums[name] = hashlib.md5(packed).hexdigest()
    return buffer.getvalue(), checksums


@pytest.fixture
def cifar10(serve, monkeypatch):
    """cifar10(archive, checksums) -> the entry, torchvision's class being sent to this machine."""

    def entry(archive: bytes, checksums: dict[str, str], whole: bytes):
        published = torchvision("datasets").CIFAR10
        monkeypatch.setattr(published, "url", serve(archive).url)
        monkeypatch.setattr(published, "tgz_md5", hashlib.md5(whole).hexdigest())
        for part in ("train_list", "test_list"):
            names = [[name, checksums[name]] for name, _ in getattr(published, part)]
            monkeypatch.setattr(published, part, names)
        meta = published.meta | {"md5": checksums["batches.meta"]}
        monkeypatch.setattr(published, "meta", meta)
        shipped = catalog.entry("cifar10")
        assert shipped.sources[-1] == Torchvision("CIFAR10")
        return replace(shipped, splits=Published(50, 10))

    return entry


def test_cifar10_is_fetched_and_prepared(tmp_path, cifar10):
    archive, checksums = cifar_archive()
    out = tmp_path / "out"
    path = fetch_entry(cifar10(archive, checksums, archive), out, 32, tmp_path / "downloads")
    assert json.loads(path.read_text())["source"] == {"kind": "torchvision", "dataset": "CIFAR10"}
    train, test = (open_arrays(out, part) for part in ("train", "test"))
    assert train.classes == tuple(NAMES)
    assert train.inputs.shape == (50, 32, 32, 3)
    assert train.inputs[::10, 0, 0].tolist() == [[10 * n, 0, 7] for n in range(5)]
    assert test.labels.tolist() == [(n + 5) % 10 for n in range(10)]
    assert train.ids[49] == "train/000049"


def test_a_damaged_archive_of_cifar10_is_named_with_what_to_do(tmp_path, cifar10):
    archive, checksums = cifar_archive()
    entry = cifar10(archive[:-9], checksums, archive)
    with pytest.raises(DataError) as caught:
        fetch_entry(entry, tmp_path / "out", 32, tmp_path / "downloads")
    text = str(caught.value)
    assert "torchvision: train part of CIFAR10: torchvision could not fetch it" in text
    assert f"put its files by hand into {tmp_path / 'downloads'}" in text
