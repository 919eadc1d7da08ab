import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core import PROJECT
from core.cli import _parser
from core.errors import ConfigError
from core.pages import pictures
from core.pages.cli import write


def drawn(path: Path, size: tuple[int, int], noise: bool = False) -> None:
    """A figure: a red square on a ground that one sees through, or noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0], 4), np.uint8)
    pixels[: size[1] // 2, : size[0] // 2] = (255, 0, 0, 255)
    if noise:
        pixels = np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)
    Image.fromarray(pixels, "RGBA").save(path)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a README that shows two figures, and one of them drawn."""
    (tmp_path / "README.md").write_text(
        "![One](docs/images/one.png)\n![Two](docs/images/two.png) ![One](docs/images/one.png)\n"
    )
    (tmp_path / "docs/images").mkdir(parents=True)
    (tmp_path / "docs/images/two.png").write_bytes(b"as it was")
    drawn(tmp_path / "figures/one.png", (2800, 1400))
    return tmp_path


def test_a_picture_is_remade_and_a_missing_figure_is_named_with_its_command(checkout, caplog):
    caplog.set_level(logging.INFO, "core")
    write(_parser(), checkout)
    with Image.open(checkout / "docs/images/one.png") as made:
        assert made.size == (1400, 700)
        assert made.convert("RGB").getpixel((10, 10)) == (255, 0, 0)
        assert made.convert("RGB").getpixel((1390, 690)) == (255, 255, 255)
    assert (checkout / "docs/images/two.png").read_bytes() == b"as it was"
    for name in ("commands", "expected"):
        page = (PROJECT / f"docs/{name}.md").read_text(encoding="utf-8")
        assert (checkout / f"docs/{name}.md").read_text(encoding="utf-8") == page
    assert caplog.messages == [
        "docs/commands.md: written",
        "docs/expected.md: written",
        "docs/images/one.png: made from figures/one.png",
        "docs/images/two.png: left as it is, since figures/two.png is missing; "
        "`snakemake figures/two.pdf --cores 1` makes it",
    ]


def test_the_same_figure_gives_the_same_bytes_and_a_small_one_is_not_enlarged(tmp_path):
    drawn(tmp_path / "figure.png", (700, 600))
    content = pictures.small(tmp_path / "figure.png")
    assert content == pictures.small(tmp_path / "figure.png")
    (tmp_path / "again.png").write_bytes(content)
    with Image.open(tmp_path / "again.png") as made:
        assert made.size == (700, 600)


def test_a_figure_too_full_to_become_small_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "WIDTHS", (140, 70))
    monkeypatch.setattr(pictures, "LARGEST", 2000)
    drawn(tmp_path / "full.png", (150, 150), noise=True)
    with pytest.raises(
        ConfigError, match=r"full.png: \d+ kB with 70 pixels across; .* at most 2 kB"
    ):
        pictures.small(tmp_path / "full.png")


def test_every_picture_of_the_readme_is_there_and_small_enough_for_git():
    names = pictures.shown((PROJECT / "README.md").read_text(encoding="utf-8"))
    there = sorted((PROJECT / pictures.FOLDER).iterdir())
    assert sorted(names) == [path.stem for path in there]
    for path in there:
        assert path.stat().st_size <= pictures.LARGEST
        with Image.open(path) as image:
            assert image.width <= pictures.WIDTHS[0]
