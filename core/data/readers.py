"""Readers of image data sets, one per layout; READERS finds them by name."""

import inspect
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from core.data.archive import opened
from core.data.catalog import Download, Entry, Fraction, Local, Source, Torchvision
from core.data.samples import Images, Part, Sample, decode, stratified
from core.data.tfds_reader import read_tfds
from core.errors import ConfigError, DataError, MissingPackageError
from core.vision import torchvision

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def read_elpv(entry: Entry, source: Source, path: Path) -> Images:
    """Solar cells: `labels.csv` (path, probability of a defect, module type) and its images.

    Class 1 is a probability of at least one half. Raises DataError on another layout.
    """
    # All of this by the schema.
    assert isinstance(source, Download)
    assert isinstance(entry.splits, Fraction)
    assert entry.reader is not None
    assert entry.class_names is not None
    *nested, folder = source.member
    with opened(path, nested) as archive:
        table = archive.read(f"{folder}/labels.csv").decode("utf-8", errors="replace")
    rows = [row for row in _elpv_rows(table, path) if entry.reader.module_type in (None, row[2])]
    ids, labels = [row[0] for row in rows], [int(row[1] >= 0.5) for row in rows]

    def part(positions: Sequence[int]) -> Part:
        return Part(len(positions), samples(positions))

    def samples(positions: Sequence[int]) -> Iterator[Sample]:
        with opened(path, nested) as archive:
            for position in positions:
                name = ids[position]
                image = decode(io.BytesIO(archive.read(f"{folder}/{name}")), f"{path}, {name}")
                yield Sample(name, labels[position], image)

    train, test = stratified(ids, labels, entry.splits.test, entry.splits.seed)
    return Images(entry.class_names, part(train), part(test))


def _elpv_rows(table: str, path: Path) -> list[tuple[str, float, str]]:
    rows = []
    for number, line in enumerate(table.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            name, probability, module_type = line.split()
            rows.append((name, float(probability), module_type))
        except ValueError:
            raise DataError(
                f"{path}: labels.csv, line {number}: expected path, probability and module type, "
                f"found {line!r}"
            ) from None
    return rows


def read_folder(entry: Entry, source: Source, path: Path) -> Images:
    """Class folders: train/<class>/ and test/<class>/, labels in the order of their names.

    Raises DataError when a part is missing or both do not have the classes of the catalog.
    """
    assert isinstance(source, Local)  # by the registry
    classes = _class_folders(path / "train")
    if _class_folders(path / "test") != classes or len(classes) != entry.classes:
        raise DataError(
            f"{path}: train/ has {len(classes)} class folders and test/ has "
            f"{len(_class_folders(path / 'test'))}; both need the same {entry.classes}"
        )

    def part(name: str) -> Part:
        files = [
            (label, file)
            for label, folder in enumerate(classes)
            for file in sorted((path / name / folder).rglob("*"))
            if file.suffix.lower() in _SUFFIXES and file.is_file()
        ]
        return Part(len(files), samples(files))

    def samples(files: Sequence[tuple[int, Path]]) -> Iterator[Sample]:
        for label, file in files:
            yield Sample(file.relative_to(path).as_posix(), label, decode(file, str(file)))

    return Images(tuple(classes), part("train"), part("test"))


def read_tiny_imagenet(entry: Entry, source: Source, path: Path) -> Images:
    """Tiny ImageNet: train/WNID/images/*.JPEG and val/, whose labels are in val_annotations.txt.

    The first classes in the order of their WordNet ids, as many as the entry has; the published
    validation part is the test part. Raises DataError on another layout.
    """
    assert isinstance(source, Download)  # by the schema
    *nested, folder = source.member
    layout = re.compile(rf"{re.escape(folder)}/(train/([^/]+)/images/[^/]+\.JPEG)")
    with opened(path, nested) as archive:
        found = sorted(m.groups() for name in archive.names() if (m := layout.fullmatch(name)))
        table = archive.read(f"{folder}/val/val_annotations.txt").decode("utf-8", errors="replace")
    classes = sorted({wnid for _, wnid in found})[: entry.classes]
    labels = {wnid: label for label, wnid in enumerate(classes)}
    train = [(name, labels[wnid]) for name, wnid in found if wnid in labels]
    annotated = _tiny_imagenet_rows(table, path)
    test = [(f"val/images/{name}", labels[wnid]) for name, wnid in annotated if wnid in labels]

    def samples(files: Sequence[tuple[str, int]]) -> Iterator[Sample]:
        with opened(path, nested) as archive:
            for name, label in files:
                content = io.BytesIO(archive.read(f"{folder}/{name}"))
                yield Sample(name, label, decode(content, f"{path}, {name}"))

    parts = (Part(len(files), samples(files)) for files in (train, test))
    return Images(tuple(classes), *parts)


def _tiny_imagenet_rows(table: str, path: Path) -> list[tuple[str, str]]:
    """(File, WordNet id) of each image, in the order of the table."""
    rows = []
    for number, line in enumerate(table.splitlines(), start=1):
        columns = line.split("\t")
        if len(columns) != 6:
            raise DataError(
                f"{path}: val_annotations.txt, line {number}: expected file, class and box in 6 "
                f"columns, found {line[:60]!r}"
            )
        rows.append((columns[0], columns[1]))
    return rows


def _class_folders(path: Path) -> list[str]:
    if not path.is_dir():
        raise DataError(f"{path}: not there; a data set needs train/<class>/ and test/<class>/")
    return sorted(
        folder.name for folder in path.iterdir() if folder.is_dir() and folder.name[0] != "."
    )


def read_torchvision(entry: Entry, source: Source, path: Path) -> Images:
    """A class of torchvision.datasets, downloaded by torchvision into `path`.

    Raises MissingPackageError without torchvision, ConfigError when it has no such class,
    DataError when the download fails.
    """
    assert isinstance(source, Torchvision)  # by the registry
    try:
        datasets = torchvision("datasets")
    except ImportError as error:
        raise MissingPackageError(
            f"{entry.name} comes through torchvision, which does not load here ({error}); "
            "fetch it in the main environment"
        ) from None
    factory = getattr(datasets, source.dataset, None)
    if factory is None:
        raise ConfigError(f"{entry.name}: torchvision.datasets has no {source.dataset!r}")
    train, test = (_torchvision_part(factory, path, name) for name in ("train", "test"))
    classes = getattr(train, "classes", None) or range(entry.classes or 0)
    return Images(
        tuple(str(name) for name in classes),
        Part(len(train), _torchvision_samples(train, "train")),
        Part(len(test), _torchvision_samples(test, "test")),
    )


def _torchvision_part(factory: Callable[..., Any], path: Path, name: str) -> Any:
    # torchvision's classes say either train=True or split="train".
    if "train" in inspect.signature(factory).parameters:
        which: dict[str, Any] = {"train": name == "train"}
    else:
        which = {"split": name}
    try:
        return factory(str(path), download=True, **which)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{name} part of {factory.__name__}: torchvision could not fetch it ({error}); "
            f"put its files by hand into {path}"
        ) from error


def _torchvision_samples(part: Any, name: str) -> Iterator[Sample]:
    for position in range(len(part)):
        image, label = part[position]
        yield Sample(f"{name}/{position:06d}", int(label), image)


READERS: dict[str, Callable[[Entry, Source, Path], Images]] = {
    "elpv": read_elpv,
    "local": read_folder,
    "tfds": read_tfds,
    "tiny_imagenet": read_tiny_imagenet,
    "torchvision": read_torchvision,
}
