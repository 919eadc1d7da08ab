"""Readers of chairs: those that are rendered here, and the published archive."""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.data import chair_styles
from core.data.archive import opened
from core.data.catalog import Download, Entry, Generated, Source
from core.data.chairs import Chairs, Seen
from core.data.samples import decode
from core.errors import DataError

# The published images have a wide margin; those who use them cut out the middle.
PUBLISHED_SIZE, CROP = 600, 400  # pixels
WHITE = 250  # of the background, at least; what is darker in any colour is the chair

_LAYOUT = re.compile(r"([^/]+)/renders/(image_\d{3}_p(\d{3})_t(\d{3})_r\d{3}\.png)")


def read_generated(entry: Entry, source: Source, path: Path) -> Chairs:
    """Chairs rendered here, styles as many as the entry has classes, seen from places at equal
    distances on a ring for each elevation."""
    assert isinstance(source, Generated)  # by the registry
    assert entry.classes is not None  # by the schema
    names = tuple(f"style_{style:03d}" for style in range(entry.classes))
    angles = [round(360 * i / source.azimuths, 1) for i in range(source.azimuths)]
    seen = [
        Seen(f"{name}/p{elevation:03d}_t{azimuth:05.1f}", style, azimuth, elevation)
        for style, name in enumerate(names)
        for elevation in source.elevations
        for azimuth in angles
    ]

    def images(places: Sequence[int], size: int) -> Iterator[NDArray[np.uint8]]:
        for place in places:
            _, style, azimuth, elevation = seen[place]
            yield chair_styles.picture(style, azimuth, elevation, size)

    return Chairs(names, seen, images)


def read_seeing_3d_chairs(entry: Entry, source: Source, path: Path) -> Chairs:
    """Rendered chairs: NAME/renders/image_NNN_pELEVATION_tAZIMUTH_rRADIUS.png, angles in degrees.

    The first styles in the order of their names, as many as the entry has: names are hexadecimal
    numbers at random, so that this is no order of anything. Every style must be seen from the same
    places. Raises DataError that names what is missing, and for images of another size.
    """
    assert isinstance(source, Download)  # by the schema
    assert entry.classes is not None
    *nested, folder = source.member
    found: dict[str, dict[str, tuple[float, float]]] = {}
    with opened(path, nested) as archive:
        for name in archive.names():
            if match := _LAYOUT.fullmatch(name.removeprefix(f"{folder}/")):
                style, file, elevation, azimuth = match.groups()
                found.setdefault(style, {})[file] = float(azimuth), float(elevation)
    styles = tuple(sorted(found)[: entry.classes])
    _check_views(path, {style: found[style] for style in styles})
    seen = [
        Seen(f"{style}/{file}", number, *angles)
        for number, style in enumerate(styles)
        for file, angles in sorted(found[style].items())
    ]

    def images(places: Sequence[int], size: int) -> Iterator[NDArray[np.uint8]]:
        with opened(path, nested) as archive:
            for place in places:
                style, file = seen[place].id.split("/")
                name = f"{folder}/{style}/renders/{file}"
                image = decode(io.BytesIO(archive.read(name)), f"{path}, {name}")
                yield _with_mask(image, f"{path}, {name}", size)

    return Chairs(styles, seen, images)


def _check_views(path: Path, found: Mapping[str, Mapping[str, object]]) -> None:
    everything = {file for files in found.values() for file in files}
    for style, files in found.items():
        missing = sorted(everything - set(files))
        if missing:
            raise DataError(
                f"{path}: {style} lacks {len(missing)} of {len(everything)} views, the first is "
                f"{style}/renders/{missing[0]}; the archive is not whole: delete it and fetch again"
            )


def _with_mask(image: Image.Image, name: str, size: int) -> NDArray[np.uint8]:
    """The middle of a published image, (size, size, 4), its mask as alpha: what is not white."""
    if image.size != (PUBLISHED_SIZE, PUBLISHED_SIZE):
        raise DataError(
            f"{name}: {image.width} × {image.height} pixels, expected {PUBLISHED_SIZE} × "
            f"{PUBLISHED_SIZE}"
        )
    margin = (PUBLISHED_SIZE - CROP) // 2
    middle = image.convert("RGB").crop((margin, margin, margin + CROP, margin + CROP))
    mask = (np.asarray(middle).min(axis=2) < WHITE).astype(np.uint8) * np.uint8(255)
    parts = (middle, Image.fromarray(mask))
    small = [part.resize((size, size), Image.Resampling.BILINEAR) for part in parts]
    return np.dstack([np.asarray(part) for part in small])


CHAIR_READERS: dict[str, Callable[[Entry, Source, Path], Chairs]] = {
    "generated": read_generated,
    "seeing_3d_chairs": read_seeing_3d_chairs,
}
