"""One measurement at a time on a device."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.files import exclusive


@contextmanager
def alone_on(device: str) -> Iterator[None]:
    """Hold the device of this name: what runs beside a measurement spoils it. A second process
    waits, and so does one of a Snakemake whose predecessor was killed and left its trainer
    behind."""
    name = f"edge-training-{os.getuid()}-{device}.lock"
    with exclusive(Path(tempfile.gettempdir()) / name):
        yield
