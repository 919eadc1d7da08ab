"""core.data.fetch from the catalog to a finished folder."""

import json
import logging
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from core.data import catalog, images, manifest, weights
from core.data.catalog import Local, Package, Published, Tfds
from core.data.fetch import fetch, fetch_entry
from core.errors import ConfigError, DataError, MissingPackageError, StorageError


@pytest.fixture
def elpv(package_index, elpv_wheel):
    """The entry of ELPV with a small archive on an index on this machine."""
    source = package_index("elpv.whl", elpv_wheel, member=("elpv_dataset/data",))
    return replace(catalog.entry("elpv"), sources=(source,))


@pytest.fixture
def pets(tmp_path):
    """An entry of two classes; its class folders lie in the downloads folder."""
    for part, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / "downloads" / "pets" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (12, 9), "red").save(folder / f"{number}.jpg")
    entry = catalog.entry("oxford_iiit_pet")
    sources = (Local("pets"), Tfds("oxford_iiit_pet", "4.0.0"))
    return replace(entry, name="pets", classes=2, splits=Published(6, 4), sources=sources)


def test_a_data_set_is_fetched_split_and_described(tmp_path, elpv):
    path = fetch_entry(elpv, tmp_path / "out", 32, tmp_path / "downloads")
    content = json.loads(path.read_text())
    assert path == tmp_path / "out" / "manifest.json"
    assert content["name"] == "elpv"
    assert content["licence"].startswith("CC BY-NC-SA")
    assert content["citation"].startswith("Deitsch")
    assert content["source"]["kind"] == "package"
    assert content["archive"] == {"file": "elpv.whl", "sha256": elpv.sources[0].checksum}
    assert content["splits"]["train"]["class_counts"] == [12, 6]
    assert content["splits"]["test"]["class_counts"] == [4, 2]
    train, test = (images.open_split(tmp_path / "out", part) for part in ("train", "test"))
    assert not set(train.ids) & set(test.ids)
    assert train.images.shape == (18, 32, 32, 3)
    manifest.verify(tmp_path / "out", "images")


def test_fetching_again_does_nothing(tmp_path, elpv, server, caplog):
    path = fetch_entry(elpv, tmp_path / "out", 16, tmp_path / "downloads")
    before, asked = path.stat().st_mtime_ns, len(server.asked)
    (tmp_path / "downloads" / "elpv.whl").unlink()
    with caplog.at_level(logging.INFO, "core.data"):
        fetch_entry(elpv, tmp_path / "out", 16, tmp_path / "downloads")
    assert path.stat().st_mtime_ns == before
    assert len(server.asked) == asked
    assert caplog.messages == [f"elpv: already in {tmp_path / 'out'}"]


def test_the_same_data_give_the_same_arrays_twice(tmp_path, elpv):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        fetch_entry(elpv, folder, 16, tmp_path / "downloads")
    one, two = (json.loads((folder / "manifest.json").read_text()) for folder in folders)
    assert one == two


@pytest.mark.parametrize("change", ["size", "entry", "damage", "empty"])
def test_a_folder_that_no_longer_fits_is_made_anew_from_the_archive(tmp_path, elpv, server, change):
    out, size = tmp_path / "out", 16
    fetch_entry(elpv, out, size, tmp_path / "downloads")
    asked = len(server.asked)
    match change:
        case "size":
            size = 24
        case "entry":
            elpv = replace(elpv, reader=catalog.Reader("elpv", "mono"))
        case "damage":
            np.save(out / "train_labels.npy", np.zeros(18, np.int64))
        case "empty":
            (out / "manifest.json").unlink()  # as Snakemake does before it runs a rule
    fetch_entry(elpv, out, size, tmp_path / "downloads")
    assert images.open_split(out, "train").images.shape[1] == size
    assert len(images.open_split(out, "train").labels) == (9 if change == "entry" else 18)
    assert len(server.asked) == asked
    assert sorted(p.name for p in tmp_path.iterdir()) == [".out.lock", "downloads", "out"]


def test_what_a_killed_fetcher_left_is_cleared_away(tmp_path, elpv):
    leftover = tmp_path / ".out.part"
    leftover.mkdir()
    (leftover / "train_images.npy").write_bytes(b"half")
    fetch_entry(elpv, tmp_path / "out", 16, tmp_path / "downloads")
    assert not leftover.exists()
    manifest.verify(tmp_path / "out", "images")


def test_a_folder_with_other_files_is_left_alone(tmp_path, elpv):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(StorageError, match=r"holds files that were not fetched \(thesis\.txt\)"):
        fetch_entry(elpv, out, 16, tmp_path / "downloads")
    assert (out / "thesis.txt").read_text() == "years of work"


def test_a_failed_fetch_leaves_the_folder_of_before(tmp_path, elpv, server):
    out = tmp_path / "out"
    fetch_entry(elpv, out, 16, tmp_path / "downloads")
    (tmp_path / "downloads" / "elpv.whl").unlink()
    server.files.clear()
    with pytest.raises(DataError, match=r"elpv\.whl could not be fetched"):
        fetch_entry(elpv, out, 24, tmp_path / "downloads")
    assert images.open_split(out, "train").images.shape[1] == 16


def test_a_truncated_archive_is_named(tmp_path, package_index, elpv_wheel):
    source = package_index("elpv.whl", elpv_wheel[:-100], member=("elpv_dataset/data",))
    entry = replace(catalog.entry("elpv"), sources=(source,))
    with pytest.raises(DataError, match=r"elpv\.whl: damaged or not an archive"):
        fetch_entry(entry, tmp_path / "out", 16, tmp_path / "downloads")
    assert not (tmp_path / "out").exists()


def test_class_folders_of_the_user_come_before_the_network(tmp_path, pets):
    path = fetch_entry(pets, tmp_path / "out", 8, tmp_path / "downloads")
    content = json.loads(path.read_text())
    assert content["source"] == {"kind": "local", "folder": "pets"}
    assert content["classes"] == ["cat", "dog"]
    assert images.open_split(tmp_path / "out", "test").labels.tolist() == [0, 0, 1, 1]


def test_class_folders_in_a_mirror_folder_are_found(tmp_path, pets, monkeypatch):
    (tmp_path / "downloads").rename(tmp_path / "mirror")
    monkeypatch.setenv("DATA_MIRROR", str(tmp_path / "mirror"))
    fetch_entry(pets, tmp_path / "out", 8, tmp_path / "downloads")
    assert len(images.open_split(tmp_path / "out", "train").labels) == 6


def test_class_folders_with_too_few_images_are_an_error_not_a_reason_to_go_on(tmp_path, pets):
    (tmp_path / "downloads" / "pets" / "train" / "cat" / "0.jpg").unlink()
    with pytest.raises(DataError, match="pets: 5 train samples, the catalog expects 6"):
        fetch_entry(pets, tmp_path / "out", 8, tmp_path / "downloads")


def test_a_source_that_fails_is_followed_by_the_next(tmp_path, elpv, server):
    gone = Package("gone.whl", "sha256", "0" * 64, None, ("x",), "gone", "1.0")
    entry = replace(elpv, sources=(gone, *elpv.sources))
    path = fetch_entry(entry, tmp_path / "out", 16, tmp_path / "downloads")
    assert json.loads(path.read_text())["source"]["filename"] == "elpv.whl"


def test_when_every_source_fails_each_says_why(tmp_path, elpv, server):
    server.files.clear()
    entry = replace(elpv, sources=(Local("elpv"), *elpv.sources))
    with pytest.raises(DataError) as caught:
        fetch_entry(entry, tmp_path / "out", 16, tmp_path / "downloads")
    message = str(caught.value)
    assert message.startswith("elpv: none of its sources can be used\n")
    assert f"local: no train/ in {tmp_path / 'downloads' / 'elpv'}" in message
    assert "package: elpv.whl could not be fetched" in message
    assert f"Put the file by hand at\n  {tmp_path / 'downloads' / 'elpv.whl'}" in message


def test_the_wrong_environment_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(MissingPackageError, match="fetch it in the tensorflow environment"):
        fetch("stanford_dogs", tmp_path / "out", 8, tmp_path / "downloads")


@pytest.mark.parametrize("size", [None, 0, 7, 5000])
def test_images_need_a_sensible_size(tmp_path, size):
    with pytest.raises(ConfigError, match=f"elpv: size {size}; expected 8 to 1024 pixels"):
        fetch("elpv", tmp_path / "out", size, tmp_path)


@pytest.mark.parametrize("size", [None, 7, 1025])
def test_texts_need_a_sensible_size(tmp_path, size):
    with pytest.raises(ConfigError, match=f"imdb: size {size}; expected 8 to 1024 words"):
        fetch("imdb", tmp_path / "out", size, tmp_path)


def test_weights_have_no_size(tmp_path):
    with pytest.raises(ConfigError, match="resnet50: weights have no size, 96 was given"):
        fetch("resnet50", tmp_path / "out", 96, tmp_path)


def test_keras_weights_are_fetched_from_an_address(tmp_path, serve):
    source = replace(serve(b"\x89HDF weights"), filename="resnet.h5")
    entry = replace(catalog.entry("resnet50"), sources=(source,))
    path = fetch_entry(entry, tmp_path / "out", None, tmp_path / "downloads")
    content = json.loads(path.read_text())
    assert content["kind"] == "weights"
    assert weights.open_weights(tmp_path / "out").read_bytes() == b"\x89HDF weights"
    before = path.stat().st_mtime_ns
    assert fetch_entry(entry, tmp_path / "out", None, tmp_path / "downloads") == path
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50_torch"])
def test_weights_that_cannot_be_had_offline_are_named_with_their_address_and_what_to_do(
    tmp_path, name, monkeypatch
):
    """Every connection goes to a proxy that is not there, as behind a firewall."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda _: None)
    (source,) = catalog.entry(name).sources
    with pytest.raises(DataError) as caught:
        fetch(name, tmp_path / "out", None, tmp_path / "downloads")
    message = str(caught.value)
    assert message.startswith(f"{name}: none of its sources can be used\nurl: {source.filename} ")
    assert f"\n  - {source.url}: no connection" in message
    assert f"Put the file by hand at\n  {tmp_path / 'downloads' / source.filename}\n" in message
    assert f"({source.expected}), or set DATA_MIRROR to a folder" in message
    assert message.endswith("then run the same command again.")
    assert not (tmp_path / "out").exists()


def test_neither_framework_is_imported_by_the_modules():
    code = (
        "import sys; import core.data.arrays, core.data.fetch, core.data.weights; "
        "print({'torch', 'tensorflow', 'torchvision', 'tensorflow_datasets'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"


@pytest.mark.slow
def test_the_real_weights_of_efficientnet_lite0_are_fetched_from_the_index(tmp_path):
    pytest.importorskip("torch")
    from safetensors.numpy import load_file

    fetch("efficientnet_lite0", tmp_path / "out", None, tmp_path / "downloads")
    tensors = load_file(weights.open_weights(tmp_path / "out"))
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_fc.weight"].shape == (1000, 1280)
