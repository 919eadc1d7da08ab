"""Opening a prepared data set without asking whether it holds images or texts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core.data import manifest
from core.data.images import open_split
from core.data.texts import open_text_split


@dataclass(frozen=True)
class Arrays:
    """One part of a prepared data set of N samples.

    inputs: N x size x size x 3, uint8 RGB, or N x words, int32 tokens; mapped read-only.
    labels: N, int64, from 0 to the number of classes minus one.
    ids: N names, the same for the same sample in every fetch.
    classes: name of each class, in the order of the labels.
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64]
    ids: tuple[str, ...]
    classes: tuple[str, ...]


def open_arrays(folder: Path, part: Literal["train", "test"]) -> Arrays:
    """The training or the test part of a prepared folder. Raises DataError as `open_split` and
    `open_text_split` do, and for a folder of weights."""
    if manifest.read(folder, "images", "text")["kind"] == "text":
        texts = open_text_split(folder, part)
        return Arrays(texts.tokens, texts.labels, texts.ids, texts.classes)
    images = open_split(folder, part)
    return Arrays(images.images, images.labels, images.ids, images.classes)
