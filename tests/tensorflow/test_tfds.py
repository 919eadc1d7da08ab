"""core.data.tfds_reader, in the tensorflow environment."""

import hashlib
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

tfds = pytest.importorskip("tensorflow_datasets")

from core.data import catalog, images  # noqa: E402 (only where the package is)
from core.data.catalog import Published, Tfds  # noqa: E402
from core.data.fetch import fetch_entry  # noqa: E402
from core.data.tfds_reader import FOLDER  # noqa: E402
from core.elastic.tf_backend import TensorFlowBackend  # noqa: E402
from core.errors import DataError  # noqa: E402
from core.training import threads  # noqa: E402

pytestmark = pytest.mark.tensorflow


class TinyPets(tfds.core.GeneratorBasedBuilder):
    """A data set like Oxford-IIIT Pet in small: one archive, published parts."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = {}  # noqa: RUF012 (the base class has it so)

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "file_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        folder = manager.download_and_extract(next(iter(self.url_infos)))
        return {part: self._generate_examples(folder / part) for part in ("train", "test")}

    def _generate_examples(self, folder):
        for file in sorted(folder.glob("*.png")):
            label = file.name.split("_")[0]
            yield file.name, {"image": str(file), "label": label, "file_name": file.name}


@pytest.fixture
def archive():
    """Six training and two test images, zipped; image number n has red level 20 n."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as folder:
        for part, numbers in (("train", range(6)), ("test", range(6, 8))):
            for number in numbers:
                image = io.BytesIO()
                Image.new("RGB", (20, 30), (20 * number, 0, 0)).save(image, "png")
                name = f"{part}/{'cat' if number % 2 else 'dog'}_{number}.png"
                folder.writestr(name, image.getvalue())
    return buffer.getvalue()


@pytest.fixture
def tiny(archive, monkeypatch):
    """The entry of TinyPets, whose archive is registered at an address where nobody listens."""
    info = tfds.download.checksums.UrlInfo(
        size=len(archive), checksum=hashlib.sha256(archive).hexdigest(), filename="images.zip"
    )
    monkeypatch.setattr(TinyPets, "url_infos", {"http://127.0.0.1:9/images.zip?download=1": info})
    entry = catalog.entry("oxford_iiit_pet")
    sources = (Tfds("tiny_pets", "1.0.0"),)
    return replace(entry, name="tiny", classes=2, splits=Published(6, 2), sources=sources)


@pytest.mark.parametrize(
    ("name", "classes"),
    [("caltech_birds2011", 200), ("oxford_iiit_pet", 37), ("stanford_dogs", 120)],
)
def test_the_published_data_sets_become_arrays_that_a_backend_learns_from(
    tmp_path, monkeypatch, name, classes
):
    entry = replace(catalog.entry(name), splits=Published(5, 5))
    monkeypatch.setattr(tfds.builder_cls(name), "url_infos", {})
    with tfds.testing.mock_data(num_examples=5):
        path = fetch_entry(entry, tmp_path / "out", 32, tmp_path / "downloads")
    content = json.loads(path.read_text())
    assert content["source"]["kind"] == "tfds"
    assert content["versions"]["tensorflow-datasets"] == tfds.__version__
    assert len(content["classes"]) == classes
    for part in ("train", "test"):
        split = images.open_split(tmp_path / "out", part)
        assert split.images.shape == (5, 32, 32, 3)
        assert len(split.classes) == classes
        assert all(isinstance(name, str) and name for name in split.ids)

    backend = backend_for(content)
    assert [t.shape for t in backend.tensors if t.head] == [(512, classes), (classes,)]
    train = images.open_split(tmp_path / "out", "train")
    backend.select(np.array([t.head for t in backend.tensors]))
    loss, right = backend.train_step(train.images[:2], train.labels[:2], 0)
    # An untrained head finds every class about as likely as any other.
    assert loss == pytest.approx(np.log(classes), rel=0.2)
    assert 0 <= right <= 2


def backend_for(content):
    """A network with as many outputs as the prepared data set has classes."""
    training = {
        "image_size": content["image_size"],
        "batch": 2,
        "test_batch": 2,
        "augmentation": {"flip": True, "rotation": 0.2},
        "dropout": 0.2,
        "optimiser": {
            "name": "sgdw",
            "learning_rate": 1e-4,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "schedule": "cosine",
        },
    }
    model = {"name": "vgg16", "weights": None}
    count = threads.resolve({"intra_op": 0, "inter_op": 0})
    return TensorFlowBackend(model, training, len(content["classes"]), 10, 0, count)


@pytest.mark.parametrize(
    ("name", "classes"),
    [("caltech_birds2011", 200), ("oxford_iiit_pet", 37), ("stanford_dogs", 120)],
)
def test_a_prepared_data_set_on_disk_is_read_without_its_archives(tmp_path, name, classes):
    """Records in the published format, with the published features, written by
    tensorflow-datasets itself and read by it: nothing stands in for its reader."""
    labels = {"train": [0, classes - 1, 1, 2, 3], "test": [classes - 1, 0, 4]}
    info = tfds.builder_cls(name)(data_dir=tmp_path / "downloads" / FOLDER).info
    write_prepared(info, labels)
    entry = replace(catalog.entry(name), splits=Published(5, 3))
    fetch_entry(entry, tmp_path / "out", 16, tmp_path / "downloads")
    for part, expected in labels.items():
        split = images.open_split(tmp_path / "out", part)
        assert split.labels.tolist() == expected
        assert split.classes == tuple(info.features["label"].names)
        assert [Path(id).stem for id in split.ids] == [f"{part}_{i}" for i in range(len(expected))]
        levels = split.images[:, 8, 8].astype(int)
        assert np.abs(levels - [[40 * i, 100, 50] for i in range(len(expected))]).max() <= 6


def write_prepared(info, labels):
    """The data set of `info` as tensorflow-datasets leaves it on the disk; image number n has
    red level 40 n."""
    Path(info.data_dir).mkdir(parents=True)
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=2)
    writer.initialize_splits(list(labels))
    for part, numbers in labels.items():
        examples = [
            {
                key: example_of(key, feature, label, f"{part}_{i}", 40 * i)
                for key, feature in info.features.items()
            }
            for i, label in enumerate(numbers)
        ]
        writer.add_examples({part: examples})
    writer.close_all()


def example_of(key, feature, label, name, red):
    match feature:
        case _ if key == "image":
            return np.full((30, 40, 3), (red, 100, 50), np.uint8)
        case tfds.features.Image():
            return np.zeros((30, 40, 1), np.uint8)
        case tfds.features.ClassLabel():
            return label if key == "label" else 0
        case tfds.features.BBoxFeature():
            return tfds.features.BBox(0.1, 0.1, 0.9, 0.9)
        case tfds.features.Sequence():
            return []
    return f"{name}.jpg"


def test_the_catalog_pins_versions_that_are_there():
    for name in ("caltech_birds2011", "oxford_iiit_pet", "stanford_dogs"):
        (source,) = (s for s in catalog.entry(name).sources if isinstance(s, Tfds))
        builder = tfds.builder_cls(source.name)
        assert str(builder.VERSION) == source.version
        assert all(info.checksum and info.filename for info in builder.url_infos.values())


def test_an_archive_from_a_mirror_is_prepared_once(tmp_path, tiny, archive, monkeypatch):
    mirror = tmp_path / "mirror" / "tiny_pets"
    mirror.mkdir(parents=True)
    (mirror / "images.zip").write_bytes(archive)
    monkeypatch.setenv("DATA_MIRROR", str(mirror.parent))
    path = fetch_entry(tiny, tmp_path / "out", 8, tmp_path / "downloads")
    assert (tmp_path / "downloads" / "tiny_pets" / "images.zip").exists()
    split = images.open_split(tmp_path / "out", "train")
    assert split.classes == ("cat", "dog")
    assert len(split.ids) == 6
    for pixels, label, name in zip(split.images, split.labels, split.ids, strict=True):
        kind, number = Path(name).stem.split("_")
        assert pixels[4, 4].tolist() == [20 * int(number), 0, 0]
        assert split.classes[label] == kind

    monkeypatch.delenv("DATA_MIRROR")
    (tmp_path / "downloads" / "tiny_pets" / "images.zip").unlink()
    again = fetch_entry(tiny, tmp_path / "again", 8, tmp_path / "downloads")
    assert again.read_text() == path.read_text()


def test_offline_names_the_archive_and_where_to_put_it(tmp_path, tiny, archive, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(DataError) as caught:
        fetch_entry(tiny, tmp_path / "out", 8, tmp_path / "downloads")
    message = str(caught.value)
    assert "tiny_pets/images.zip could not be fetched" in message
    assert f"  {tmp_path / 'downloads' / 'tiny_pets' / 'images.zip'}\n" in message
    assert f"(sha256 {hashlib.sha256(archive).hexdigest()}, {len(archive)} bytes)" in message


def test_what_tensorflow_datasets_cannot_do_is_a_data_error(tmp_path, tiny):
    entry = replace(tiny, sources=(Tfds("tiny_pets", "9.9.9"),))
    with pytest.raises(DataError, match=r"could not prepare tiny_pets:9\.9\.9 \(AssertionError"):
        fetch_entry(entry, tmp_path / "out", 8, tmp_path / "downloads")
