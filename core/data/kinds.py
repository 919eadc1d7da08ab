"""The kinds of data: how each is prepared, and what `fetch` must know of it.

A new kind is a module with its `prepare`, one with its readers, a line here and in
`manifest.SIZES`, and its name in catalog.schema.yaml.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.data import chairs, histories, images, texts
from core.data.arrays import open_arrays
from core.data.catalog import Entry, Source
from core.data.chair_readers import CHAIR_READERS
from core.data.parts import PARTS
from core.data.rating_readers import RATING_READERS
from core.data.readers import READERS
from core.data.text_readers import TEXT_READERS

Reader = Callable[[Entry, Source, Path], Any]


@dataclass(frozen=True)
class Kind:
    """unit: what the size counts. files: that `prepare` writes.

    readers: by kind of source or, of an archive, by layout. prepare: writes the arrays of what was
    read, with entry, size and folder, and returns what the manifest says. opened: opens what is
    in a folder; raises DataError.
    """

    unit: str
    files: Sequence[str]
    readers: Mapping[str, Reader]
    prepare: Callable[[Entry, Any, int, Path], dict[str, Any]]
    opened: Callable[[Path], object]


def _both(open_part: Callable[..., object]) -> Callable[[Path], object]:
    return lambda folder: [open_part(folder, part) for part in PARTS]


KINDS = {
    "images": Kind("pixels", images.FILES, READERS, images.prepare, _both(open_arrays)),
    "text": Kind("words", texts.FILES, TEXT_READERS, texts.prepare, _both(open_arrays)),
    "chairs": Kind(
        "pixels", chairs.FILES, CHAIR_READERS, chairs.prepare, _both(chairs.open_chairs)
    ),
    "ratings": Kind(
        "movies", histories.FILES, RATING_READERS, histories.prepare, histories.open_histories
    ),
}


def reader_of(entry: Entry, source: Source) -> Reader:
    """What reads that source of an entry."""
    readers = KINDS[entry.kind].readers
    of_source = readers.get(type(source).__name__.lower())
    if of_source:
        return of_source
    assert entry.reader is not None  # by the schema
    return readers[entry.reader.layout]
