"""The pictures that a page shows, from figures that were drawn: small enough for git.

A picture has at most 1400 pixels across, twice what a forge shows of it, 256 colours and 200 kB:
each new one stays in the history for good.
"""

import io
import re
from pathlib import Path

from PIL import Image

from core.errors import ConfigError
from core.files import replacing

FOLDER = "docs/images"
WIDTHS = (1400, 1050, 700)  # pixels; the first that keeps a picture small enough
LARGEST = 200_000  # bytes
COLOURS = 256


def shown(page: str) -> list[str]:
    """Names of the pictures in a page of the project's folder, which are those of figures."""
    return list(dict.fromkeys(re.findall(rf"\]\({FOLDER}/(\w+)\.png\)", page)))


def remake(root: Path, name: str) -> bool:
    """Make a picture below `root` from figure `name`; False, with nothing done, where that was not
    drawn. Raises ConfigError if it does not become small enough."""
    drawn = root / f"figures/{name}.png"
    if not drawn.exists():
        return False
    content = small(drawn)
    with replacing(root / FOLDER / f"{name}.png") as temporary:
        temporary.write_bytes(content)
    return True


def small(path: Path) -> bytes:
    """A figure as PNG of at most LARGEST bytes. Raises ConfigError."""
    with Image.open(path) as opened:
        white = Image.new("RGBA", opened.size, "white")
        figure = Image.alpha_composite(white, opened.convert("RGBA")).convert("RGB")
    for width in WIDTHS:
        content = _png(figure, min(width, figure.width))
        if len(content) <= LARGEST:
            return content
    raise ConfigError(
        f"{path}: {len(content) / 1000:.0f} kB with {width} pixels across; a picture of a page has "
        f"at most {LARGEST / 1000:.0f} kB. Show a simpler figure"
    )


def _png(figure: Image.Image, width: int) -> bytes:
    height = round(figure.height * width / figure.width)
    scaled = figure.resize((width, height), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    few = scaled.quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(file, "PNG", optimize=True)
    return file.getvalue()
