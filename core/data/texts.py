"""Prepared texts: each a row of tokens of one length, as arrays that any framework can map."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.data import manifest
from core.data.catalog import Entry
from core.data.parts import PARTS, check, difference, save, write_labels
from core.data.samples import Text, Texts
from core.errors import DataError
from core.files import require_room

VOCABULARY = 10_000  # tokens, the two that are no words included
PADDING, UNKNOWN = 0, 1
FILES = [f"{part}_{what}.npy" for part in PARTS for what in ("tokens", "labels")]

_WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True)
class TextSplit:
    """One part of a prepared data set of N texts.

    tokens: N x words, int32, mapped read-only: 0 is padding behind a text, 1 a word that is not
    in the vocabulary, 2 its first word.
    labels: N, int64, from 0 to the number of classes minus one.
    ids: N names, the same for the same text in every fetch.
    classes: name of each class, in the order of the labels.
    vocabulary: words by falling frequency in the training part.
    """

    tokens: NDArray[np.int32]
    labels: NDArray[np.int64]
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    vocabulary: tuple[str, ...]


def words_of(text: str) -> list[str]:
    """Words in small letters, without punctuation; an apostrophe inside a word stays."""
    return _WORD.findall(text.lower())


def vocabulary_of(texts: Iterable[str]) -> list[str]:
    """The most frequent words, as many as tokens are left; of two as frequent the first in the
    alphabet, so that the same texts give the same tokens."""
    counts = Counter(word for text in texts for word in words_of(text))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return ranked[: VOCABULARY - UNKNOWN - 1]


def prepare(entry: Entry, texts: Texts, words: int, folder: Path) -> dict[str, Any]:
    """Write the arrays of both parts into `folder`: the first `words` words of every text.

    Returns what the manifest says about them. Raises DataError when the texts are not what the
    catalog promises, StorageError when the disk is full.
    """
    parts = {"train": texts.train, "test": texts.test}
    check(entry, texts.classes, {name: len(part) for name, part in parts.items()})
    vocabulary = vocabulary_of(text.text for text in texts.train)
    tokens = {word: token for token, word in enumerate(vocabulary, start=UNKNOWN + 1)}
    splits = {}
    for name, part in parts.items():
        path = folder / f"{name}_tokens.npy"
        require_room(folder, len(part) * words * 4, path.name)
        save(path, _rows(part, tokens, words))
        labels = np.array([text.label for text in part], np.int64)
        ids = [text.id for text in part]
        path = folder / f"{name}_labels.npy"
        splits[name] = write_labels(path, labels, ids, len(texts.classes))
    classes = list(texts.classes)
    return {"words": words, "classes": classes, "vocabulary": vocabulary, "splits": splits}


def open_text_split(folder: Path, part: Literal["train", "test"]) -> TextSplit:
    """The training or the test part of a prepared folder, mapped rather than read.

    Everything is held against the manifest, and every token against the vocabulary. Raises
    DataError that says how to fetch again.
    """
    content = manifest.read(folder, "text")
    try:
        expected = content["splits"][part]
        split = TextSplit(
            tokens=np.load(folder / f"{part}_tokens.npy", mmap_mode="r", allow_pickle=False),
            labels=np.load(folder / f"{part}_labels.npy", allow_pickle=False),
            ids=tuple(expected["ids"]),
            classes=tuple(content["classes"]),
            vocabulary=tuple(content["vocabulary"]),
        )
        problem = _difference(split, expected, content["words"])
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise DataError(
            f"{folder}: the {part} part is damaged ({problem}); {manifest.refetch(folder, content)}"
        )
    return split


def _difference(split: TextSplit, expected: dict[str, Any], words: int) -> str | None:
    """The first thing that is not as the manifest says."""
    shape, tokens = (expected["number"], words), split.tokens
    if tokens.dtype != np.int32 or tokens.shape != shape:
        return f"tokens are {tokens.dtype} {tokens.shape}, expected {shape} int32"
    last = UNKNOWN + len(split.vocabulary)
    if last >= VOCABULARY or tokens.min() < PADDING or tokens.max() > last:
        return f"a token is outside 0 to {min(last, VOCABULARY - 1)}"
    return difference(split.labels, split.ids, len(split.classes), expected)


def _rows(part: Sequence[Text], tokens: dict[str, int], words: int) -> NDArray[np.int32]:
    rows = np.full((len(part), words), PADDING, np.int32)
    for row, text in zip(rows, part, strict=True):
        found = [tokens.get(word, UNKNOWN) for word in words_of(text.text)[:words]]
        row[: len(found)] = found
    return rows
