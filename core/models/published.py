"""Reading fetched weights into a network."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten

from safetensors import SafetensorError

from core.errors import DataError


@contextmanager
def published_weights(name: str, folder: Path) -> Iterator[Path]:
    """The file in `folder`, to be read into the network called `name`.

    Raises DataError that says how to fetch again, for whatever shows that it does not fit.
    """
    try:
        yield folder / "weights.safetensors"
    except (OSError, RuntimeError, KeyError, ValueError, SafetensorError) as error:
        reason = shorten(str(error), 400, placeholder=" …")  # may name every array
        raise DataError(
            f"weights in {folder} do not fit {name} ({reason}); delete the folder and fetch "
            f"them again: python -m core fetch {folder.name} --out {folder}"
        ) from None
