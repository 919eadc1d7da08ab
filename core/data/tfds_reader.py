"""Image data sets of tensorflow-datasets, in the tensorflow environment only."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from core.data.catalog import Entry, Source, Tfds, Url
from core.data.download import download
from core.data.samples import Images, Part, Sample
from core.errors import CoreError, DataError, MissingPackageError
from core.files import exclusive, writing

FOLDER = "tensorflow_datasets"  # in the downloads folder
_FILE_NAMES = ("image/filename", "file_name")  # features that name a sample, where there is one


def read_tfds(entry: Entry, source: Source, path: Path) -> Images:
    """The published train and test parts, prepared below `path` (the downloads folder).

    The archives are fetched by core.data.download, so that they resume and may come from a
    mirror; tensorflow-datasets finds them in its folder for files put there by hand. Raises
    MissingPackageError outside the tensorflow environment, DataError and StorageError as
    `download` does, and DataError when tensorflow-datasets fails.
    """
    assert isinstance(source, Tfds)  # by the registry
    tfds = _import_tfds(entry)
    with exclusive(path / FOLDER / f"{source.name}.lock"):
        try:
            with writing(path / FOLDER):
                builder = tfds.builder(source.spec, data_dir=path / FOLDER)
                if not builder.is_prepared():
                    _fetch_archives(builder, source, path)
                return _open(tfds, builder, source, path)
        except CoreError:
            raise
        except Exception as error:  # it raises whatever its many readers and writers raise
            raise DataError(_by_hand(entry, source, path, error)) from error


def _import_tfds(entry: Entry) -> Any:
    # Only the reader of its tf.data pipelines is wanted; its notices are not.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise MissingPackageError(
            f"{entry.name} comes through tensorflow-datasets, which does not load here ({error}); "
            f"fetch it in the tensorflow environment"
        ) from None
    return tfds


def _fetch_archives(builder: Any, source: Tfds, downloads: Path) -> None:
    # The same file may be registered under several addresses: the first one counts.
    files = {info.filename: (url, info) for url, info in reversed(builder.url_infos.items())}
    for filename, (url, info) in files.items():
        archive = Url(f"{source.name}/{filename}", "sha256", info.checksum, int(info.size), (), url)
        download(archive, downloads)


def _open(tfds: Any, builder: Any, source: Tfds, downloads: Path) -> Images:
    features = builder.info.features
    name = next((key for key in _FILE_NAMES if key in features), None)
    wanted = {key: True for key in ("image", "label", name) if key}
    parts = tfds.load(
        source.spec,
        data_dir=downloads / FOLDER,
        split=["train", "test"],
        decoders=tfds.decode.PartialDecoding(wanted),
        # One file after the other, in the order on disk; nothing kept in memory.
        read_config=tfds.ReadConfig(
            interleave_cycle_length=1, try_autocache=False, add_tfds_id=name is None
        ),
        download_and_prepare_kwargs={
            "download_config": tfds.download.DownloadConfig(
                manual_dir=downloads / source.name, force_checksums_validation=True
            )
        },
    )
    train, test = (
        Part(int(part.cardinality()), _samples(tfds, part, name or "tfds_id")) for part in parts
    )
    classes = features["label"].names or range(features["label"].num_classes)
    return Images(tuple(str(label) for label in classes), train, test)


def _samples(tfds: Any, part: Any, name: str) -> Iterator[Sample]:
    try:
        for example in tfds.as_numpy(part):
            image = Image.fromarray(example["image"])
            yield Sample(example[name].decode(), int(example["label"]), image)
    except Exception as error:  # damaged records: tensorflow has its own errors for them
        raise DataError(f"a prepared data set cannot be read: {error}") from error


def _by_hand(entry: Entry, source: Tfds, downloads: Path, error: Exception) -> str:
    prepared = downloads / FOLDER / source.spec.replace(":", "/")
    return (
        f"{entry.name}: tensorflow-datasets could not prepare {source.spec} "
        f"({type(error).__name__}: {error}).\n"
        f"Its archives belong in {(downloads / source.name).resolve()}; a data set prepared on "
        f"another machine in {prepared.resolve()}; then run the same command again."
    )
