"""core.data.images, readers and samples: from layouts to arrays and back."""

import json
import os
import resource
import struct
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.data import catalog, images, manifest
from core.data.catalog import Local, Published, Reader, Torchvision
from core.data.readers import read_elpv, read_folder, read_torchvision
from core.data.samples import Images, Part, Sample, stratified
from core.errors import ConfigError, DataError, StorageError

TWO = replace(
    catalog.entry("stanford_dogs"), name="two", classes=2, splits=Published(4, 2), sources=()
)


def plain(number: int, label_of=lambda n: n % 2) -> Part:
    samples = (
        Sample(f"s{n}", label_of(n), Image.new("RGB", (20, 10), (n, 2 * n, 3 * n)))
        for n in range(number)
    )
    return Part(number, samples)


@pytest.fixture
def prepared(tmp_path):
    """A folder with 4 training and 2 test images of 8 pixels."""
    content = images.prepare(TWO, Images(("a", "b"), plain(4), plain(2)), 8, tmp_path)
    manifest.write(tmp_path, {"kind": "images", "name": "two", **content}, images.FILES)
    return tmp_path


@pytest.fixture
def class_folders(tmp_path):
    """train/ and test/ with two classes; the training part holds 4 images, the test part 2."""
    for part, count in (("train", 2), ("test", 1)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (30, 20), (100 * label, 0, 0))
                image.save(tmp_path / part / name / f"{number}.png")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    return tmp_path


@pytest.fixture
def elpv_archive(tmp_path, elpv_wheel):
    path = tmp_path / "elpv.whl"
    path.write_bytes(elpv_wheel)
    return path


def test_a_split_is_stratified():
    labels = [0] * 80 + [1] * 20
    train, test = stratified([f"x{n}" for n in range(100)], labels, 0.25, 0)
    assert sorted(train + test) == list(range(100))
    assert [sum(labels[n] == label for n in test) for label in (0, 1)] == [20, 5]


def test_a_split_is_the_same_twice_whatever_the_order_and_another_with_another_seed():
    ids, labels = [f"x{n}" for n in range(40)], [n % 2 for n in range(40)]
    chosen = {ids[n] for n in stratified(ids, labels, 0.5, 0)[1]}
    backwards = ids[::-1]
    assert {backwards[n] for n in stratified(backwards, labels[::-1], 0.5, 0)[1]} == chosen
    assert {ids[n] for n in stratified(ids, labels, 0.5, 1)[1]} != chosen


def test_the_split_of_elpv_is_fixed_forever():
    ids = [f"images/cell{n:04d}.png" for n in range(1, 9)]
    assert stratified(ids, [0] * 8, 0.25, 0) == ([0, 1, 2, 4, 5, 7], [3, 6])


def test_elpv_is_defective_from_one_half_on(elpv_archive):
    entry = catalog.entry("elpv")
    found = read_elpv(entry, entry.sources[0], elpv_archive)
    samples = [*found.train.samples, *found.test.samples]
    assert found.classes == ("functional", "defective")
    assert (found.train.number, found.test.number) == (18, 6)
    for sample in samples:
        number = int(sample.id[len("images/cell") : -len(".png")])
        assert sample.label == (number % 12 >= 8)
        assert sample.image.size == (300, 300)
        assert sample.image.getpixel((150, 150)) == 10 * number


@pytest.mark.parametrize(("kind", "numbers"), [("mono", range(12)), ("poly", range(12, 24))])
def test_elpv_of_one_module_type_keeps_only_its_cells(elpv_archive, kind, numbers):
    entry = catalog.entry(f"elpv_{kind}")
    assert entry.reader == Reader("elpv", kind)
    found = read_elpv(entry, entry.sources[0], elpv_archive)
    ids = {sample.id for part in (found.train, found.test) for sample in part.samples}
    assert ids == {f"images/cell{n:04d}.png" for n in numbers}


def test_labels_of_another_layout_are_named_by_line(tmp_path):
    entry, path = catalog.entry("elpv"), tmp_path / "other.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("elpv_dataset/data/labels.csv", "a.png 0.0 mono\n\na.png, 0.0\n")
    with pytest.raises(DataError, match=r"labels\.csv, line 3: expected path, .* 'a\.png, 0\.0'"):
        read_elpv(entry, entry.sources[0], path)


def test_grey_images_become_rgb_and_keep_their_level(elpv_archive, tmp_path):
    entry = catalog.entry("elpv")
    out = tmp_path / "out"
    out.mkdir()
    content = images.prepare(entry, read_elpv(entry, entry.sources[0], elpv_archive), 16, out)
    manifest.write(out, {"kind": "images", "name": "elpv", **content}, images.FILES)
    split = images.open_split(out, "train")
    assert split.images.shape == (18, 16, 16, 3)
    for pixels, name in zip(split.images, split.ids, strict=True):
        assert (pixels == 10 * int(name[len("images/cell") : -len(".png")])).all()


def test_class_folders_are_read_in_the_order_of_their_names(class_folders):
    found = read_folder(TWO, Local("two"), class_folders)
    assert found.classes == ("cat", "dog")
    assert [(s.id, s.label) for s in found.train.samples] == [
        ("train/cat/0.png", 0),
        ("train/cat/1.png", 0),
        ("train/dog/0.png", 1),
        ("train/dog/1.png", 1),
    ]
    assert found.test.number == 2


def test_class_folders_that_differ_between_the_parts_are_refused(class_folders):
    (class_folders / "test" / "dog").rename(class_folders / "test" / "fox")
    with pytest.raises(DataError, match=r"train/ has 2 class folders .* both need the same 2"):
        read_folder(TWO, Local("two"), class_folders)


def test_a_damaged_image_is_named(class_folders):
    damaged = class_folders / "train" / "dog" / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(DataError, match=r"dog/0\.png: not an image, or a damaged one"):
        list(read_folder(TWO, Local("two"), class_folders).train.samples)


def write_idx(path: Path, array: np.ndarray) -> None:
    """The format of MNIST: a magic number, the shape, the bytes."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def test_a_torchvision_class_with_a_training_flag_is_read(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, number in (("train", 4), ("t10k", 2)):
        write_idx(raw / f"{part}-images-idx3-ubyte", np.full((number, 28, 28), 9))
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(number))
    found = read_torchvision(TWO, Torchvision("FashionMNIST"), tmp_path)
    assert found.classes[:2] == ("T-shirt/top", "Trouser")
    assert [(s.id, s.label) for s in found.test.samples] == [("test/000000", 0), ("test/000001", 1)]
    assert np.asarray(next(iter(found.train.samples)).image).max() == 9
    assert found.train.number == 4


def test_a_torchvision_class_with_named_parts_is_read(class_folders, tmp_path):
    (tmp_path / "country211").symlink_to(class_folders)
    found = read_torchvision(TWO, Torchvision("Country211"), tmp_path)
    assert found.classes == ("cat", "dog")
    assert {s.label for s in found.test.samples} == {0, 1}


def test_a_class_that_torchvision_does_not_have_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"torchvision\.datasets has no 'Nine'"):
        read_torchvision(TWO, Torchvision("Nine"), tmp_path)


def test_an_image_shrinks_without_aliasing():
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    small = images._resized(Image.fromarray(stripes), 8)
    assert small.shape == (8, 8, 3)
    assert np.abs(small.astype(int) - 127).max() <= 8


@pytest.mark.parametrize("mode", ["P", "RGBA", "1", "CMYK", "LA"])
def test_every_kind_of_image_becomes_rgb(mode):
    assert images._resized(Image.new("RGB", (9, 9), "white").convert(mode), 8).min() == 255


def test_what_was_prepared_can_be_opened(prepared):
    split = images.open_split(prepared, "train")
    assert split.images.dtype == np.uint8
    assert split.images.shape == (4, 8, 8, 3)
    assert split.images[3, 0, 0].tolist() == [3, 6, 9]
    assert split.labels.dtype == np.int64
    assert split.labels.tolist() == [0, 1, 0, 1]
    assert split.ids == ("s0", "s1", "s2", "s3")
    assert split.classes == ("a", "b")
    assert len(images.open_split(prepared, "test").labels) == 2
    manifest.verify(prepared, "images")


def test_opened_images_are_mapped_and_read_only(prepared):
    split = images.open_split(prepared, "train")
    assert isinstance(split.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        split.images[0] = 0


def test_the_manifest_says_what_is_in_the_folder(prepared):
    content = json.loads((prepared / "manifest.json").read_text())
    assert content["image_size"] == 8
    assert content["classes"] == ["a", "b"]
    assert content["splits"]["train"]["number"] == 4
    assert content["splits"]["train"]["class_counts"] == [2, 2]
    assert content["splits"]["test"]["ids"] == ["s0", "s1"]
    assert set(content["files"]) == set(images.FILES)
    assert content["versions"]["numpy"] == np.__version__


def truncated(folder):
    os.truncate(folder / "train_images.npy", 500)


def missing(folder):
    (folder / "train_labels.npy").unlink()


def other_labels(folder):
    np.save(folder / "train_labels.npy", np.array([1, 1, 1, 1]))


def label_out_of_range(folder):
    np.save(folder / "train_labels.npy", np.array([0, 1, 0, 2]))


def labels_of_another_type(folder):
    np.save(folder / "train_labels.npy", np.array([0.0, 1.0, 0.0, 1.0]))


def images_of_another_shape(folder):
    np.save(folder / "train_images.npy", np.zeros((4, 8, 24, 1), np.uint8))


def pickled_labels(folder):
    np.save(folder / "train_labels.npy", np.array([0, 1, 0, None]), allow_pickle=True)


def manifest_of_another_number(folder):
    rewrite(folder, lambda content: content["splits"]["train"].update(number=3))


def manifest_without_ids(folder):
    rewrite(folder, lambda content: content["splits"]["train"].pop("ids"))


def manifest_without_files(folder):
    rewrite(folder, lambda content: content.pop("files"))


def manifest_cut_short(folder):
    os.truncate(folder / "manifest.json", 100)


def manifest_of_another_format(folder):
    rewrite(folder, lambda content: content.update(format=0))


def rewrite(folder, change):
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    (folder / "manifest.json").write_text(json.dumps(content))


def accept_sizes(folder):
    """Make the sizes in the manifest right again, so that the finer checks are reached."""
    content = json.loads((folder / "manifest.json").read_text())
    for name, recorded in content["files"].items():
        recorded["bytes"] = (folder / name).stat().st_size
    (folder / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (truncated, r"train_images\.npy has 500 bytes, its manifest says 896"),
        (missing, r"train_labels\.npy is missing"),
        (other_labels, "do not add up to the class counts"),
        (label_out_of_range, "a label is outside 0 to 1"),
        (labels_of_another_type, r"labels are float64 \(4,\), expected \(4,\) int64"),
        (images_of_another_shape, r"images are uint8 \(4, 8, 24, 1\), expected \(4, 8, 8, 3\)"),
        (pickled_labels, "allow_pickle=False"),
        (manifest_of_another_number, r"expected \(3, 8, 8, 3\)"),
        (manifest_without_ids, "KeyError: 'ids'"),
        (manifest_without_files, "lists no files"),
        (manifest_cut_short, "cannot be read"),
        (manifest_of_another_format, "not of format 1"),
    ],
)
def test_a_tampered_folder_is_refused_and_says_how_to_fetch_again(prepared, tamper, message):
    tamper(prepared)
    if tamper is pickled_labels:
        accept_sizes(prepared)
    with pytest.raises(DataError, match=message) as caught:
        images.open_split(prepared, "train")
    assert f"delete {prepared} and fetch it again: python -m core fetch" in str(caught.value)
    assert f"--out {prepared}" in str(caught.value)


def test_changed_pixels_are_found_by_verify(prepared):
    pixels = np.load(prepared / "test_images.npy", mmap_mode="r+")
    pixels[0, 0, 0, 0] += 1
    pixels.flush()
    images.open_split(prepared, "test")
    with pytest.raises(DataError, match=r"test_images\.npy has sha256 .* its manifest says"):
        manifest.verify(prepared, "images")


def test_a_folder_nothing_was_fetched_to_says_so(tmp_path):
    with pytest.raises(DataError, match=r"no manifest\.json, so nothing was fetched to here"):
        images.open_split(tmp_path, "train")


def test_weights_are_not_images(prepared):
    rewrite(prepared, lambda content: content.update(kind="weights"))
    with pytest.raises(DataError, match="holds weights, not images"):
        images.open_split(prepared, "train")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (Images(("a", "b"), plain(3), plain(2)), "3 train samples, the catalog expects 4"),
        (Images(("a", "b"), plain(4), plain(0)), "0 test samples, the catalog expects 2"),
        (Images(("a",), plain(4), plain(2)), "1 classes, the catalog expects 2"),
        (Images(("a", "b"), replace(plain(3), number=4), plain(2)), "3 samples, 4 were announced"),
        (Images(("a", "b"), replace(plain(5), number=4), plain(2)), "more than the 4 samples"),
        (Images(("a", "b"), plain(4, lambda n: n), plain(2)), "s2 has label 2 of 2"),
    ],
)
def test_samples_that_are_not_what_the_catalog_promises_are_refused(tmp_path, found, message):
    with pytest.raises(DataError, match=message):
        images.prepare(TWO, found, 8, tmp_path)


def test_an_array_that_the_disk_cannot_hold_is_a_clear_error(tmp_path):
    number = 1 << 30
    entry = replace(TWO, splits=Published(number, 2))
    enormous = Images(("a", "b"), Part(number, iter(())), plain(2))
    with pytest.raises(StorageError, match=r"the disk is full: train_images\.npy needs \d+ bytes"):
        images.prepare(entry, enormous, 1024, tmp_path)


def test_a_file_limit_while_preparing_is_a_clear_error(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(StorageError, match=r"train_images\.npy cannot be written: File too"):
            images.prepare(TWO, Images(("a", "b"), plain(4), plain(2)), 8, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_place_of_an_array_is_taken_before_it_is_filled(tmp_path):
    """A mapped file with holes would end in SIGBUS on a disk that fills up."""
    path = tmp_path / "array.npy"
    images._reserved(path, (50, 64, 64, 3))
    assert path.stat().st_blocks * 512 >= 50 * 64 * 64 * 3


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_preparing_many_images_takes_little_memory(tmp_path):
    """200 MB of arrays with 64 MiB of memory to spare."""
    code = """
        import re, resource, sys
        from pathlib import Path
        from PIL import Image
        from core.data import catalog, images
        from core.data.samples import Images, Part, Sample
        from dataclasses import replace

        number = 1400
        entry = replace(
            catalog.entry("stanford_dogs"), classes=2, splits=catalog.Published(number, 1)
        )
        image = Image.new("RGB", (60, 60))
        def part(n):
            return Part(n, (Sample(str(k), k % 2, image) for k in range(n)))
        kib = re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
        limit = int(kib) * 1024 + (64 << 20)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        images.prepare(entry, Images(("a", "b"), part(number), part(1)), 224, Path(sys.argv[1]))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    subprocess.run(command, check=True, timeout=120)
    assert (tmp_path / "train_images.npy").stat().st_size > 200_000_000
