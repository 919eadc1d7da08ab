"""The look of figures: schemes told apart, text in its place, files written whole."""

import errno
import itertools
import re
from pathlib import Path

import matplotlib
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from core.errors import ConfigError, StorageError
from core.figures import style


def luminance(colour: str) -> float:
    """Relative luminance (ITU-R BT.709): what a grey print keeps of a colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def lightness(colour: str) -> float:
    """CIE L*, 0 to 100: the luminance as the eye sees it."""
    y = luminance(colour)
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def test_schemes_differ_in_grey_by_marker_and_by_line() -> None:
    for a, b in itertools.combinations(style.LOOKS.values(), 2):
        assert abs(lightness(a.colour) - lightness(b.colour)) > 15, (a.label, b.label)
        assert a.marker != b.marker
        assert a.line != b.line


def test_every_colour_stands_out_from_paper() -> None:
    # 3:1 is the least contrast that WCAG allows for graphics.
    for look in style.LOOKS.values():
        assert 1.05 / (luminance(look.colour) + 0.05) > 3, look.label


def test_labels_name_the_budget_in_percent() -> None:
    assert style.label("elastic", 0.5) == "ElasticTrainer (ρ = 50 %)"
    assert style.label("elastic", 0.533) == "ElasticTrainer (ρ = 53.3 %)"
    assert style.label("elastic", 0.29) == "ElasticTrainer (ρ = 29 %)"
    labels = [style.label(scheme, None) for scheme in ("full", "head", "bn_bias")]
    assert labels == ["Full training", "Traditional TL", "BN+Bias"]


def test_scheme_without_a_look_is_named_with_those_that_have_one() -> None:
    with pytest.raises(
        ConfigError, match=r"scheme 'freeze' has no look in .*: elastic, full, head"
    ):
        style.label("freeze", None)


def test_unknown_names_stay_as_they_are() -> None:
    assert style.human("resnet50") == "ResNet50"
    assert style.human("my_photos") == "my_photos"


def test_long_lines_are_broken_inside_the_figure() -> None:
    figure = style.new_figure()
    long = " ".join(["Processor"] * 40)
    style.add_title(figure, long)
    style.add_note(figure, [long, "short"])
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    for text in figure.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y0 >= 0
        assert box.y1 <= height
        assert " ".join(text.get_text().split("\n")).startswith(long)


def test_readers_own_settings_do_not_change_a_figure() -> None:
    matplotlib.rcParams["font.size"] = 40
    try:
        with style.applied():
            assert matplotlib.rcParams["font.size"] == style.RC["font.size"]
        assert matplotlib.rcParams["font.size"] == 40
    finally:
        matplotlib.rcdefaults()


def test_full_disk_keeps_the_old_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "fig.pdf"
    style.save(style.new_figure(), out)
    before = out.read_bytes()

    def full_disk(self: Figure, path: Path, **_: object) -> None:
        path.write_bytes(b"%PDF")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full_disk)
    with pytest.raises(StorageError, match=re.escape(f"the disk is full: {out} was not written")):
        style.save(style.new_figure(), out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fig.pdf", "fig.png"]
    assert out.read_bytes() == before
