"""Readers of text data sets, one per layout; TEXT_READERS finds them by name."""

import re
from collections.abc import Callable
from pathlib import Path

from core.data.archive import opened, read_member
from core.data.catalog import Download, Entry, Fraction, Source
from core.data.samples import Text, Texts, stratified
from core.errors import DataError

LARGEST_RATING = 4


def read_movie_snippets(entry: Entry, source: Source, path: Path) -> Texts:
    """Sentences, one a line: id, mean rating from -4 to 4 and text, with tabs between them.

    Class 0 is a rating below zero, class 1 one above; those rated zero are left out. Raises
    DataError on another layout.
    """
    # All of this by the schema.
    assert isinstance(source, Download)
    assert isinstance(entry.splits, Fraction)
    assert entry.class_names is not None
    table = _text(read_member(path, source.member), f"{path}, {source.member[-1]}")
    found = [
        Text(name, int(rating > 0), text)
        for name, rating, text in _rated(table, f"{path}: {source.member[-1]}")
        if rating != 0
    ]
    ids, labels = [text.id for text in found], [text.label for text in found]
    parts = stratified(ids, labels, entry.splits.test, entry.splits.seed)
    train, test = ([found[position] for position in positions] for positions in parts)
    return Texts(entry.class_names, train, test)


def _rated(table: str, label: str) -> list[tuple[str, float, str]]:
    rows = []
    for number, line in enumerate(table.replace("\r", "").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            name, rating, text = line.split("\t")
            if not abs(float(rating)) <= LARGEST_RATING:
                raise ValueError(rating)
            rows.append((name, float(rating), text))
        except ValueError:
            raise DataError(
                f"{label}, line {number}: expected id, rating from -{LARGEST_RATING} to "
                f"{LARGEST_RATING} and text, found {line[:60]!r}"
            ) from None
    return rows


def read_imdb(entry: Entry, source: Source, path: Path) -> Texts:
    """Reviews, one a file: train/neg/NAME.txt and so on, in the order of these names.

    Raises DataError when a review cannot be read. Whether all are there is seen when they are
    prepared.
    """
    assert isinstance(source, Download)  # by the schema
    assert entry.class_names is not None
    *nested, folder = source.member
    layout = re.compile(rf"{re.escape(folder)}/((train|test)/(neg|pos)/[^/]+\.txt)")
    parts: dict[str, list[Text]] = {"train": [], "test": []}
    with opened(path, nested) as archive:
        for name in archive.names():  # in its own order: no way back in a compressed archive
            if match := layout.fullmatch(name):
                text = _text(archive.read(name), f"{path}, {name}").replace("<br />", " ")
                parts[match[2]].append(Text(match[1], int(match[3] == "pos"), text))
    train, test = (sorted(part) for part in parts.values())
    return Texts(entry.class_names, train, test)


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not a text in UTF-8 ({error.reason})") from None


TEXT_READERS: dict[str, Callable[[Entry, Source, Path], Texts]] = {
    "movie_snippets": read_movie_snippets,
    "imdb": read_imdb,
}
