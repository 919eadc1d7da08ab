"""The look of figures: schemes told apart, text in its place, files written whole."""

import errno
import itertools
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pytest
import yaml
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from core.elastic.schemes import SCHEMES
from core.errors import ConfigError, StorageError
from core.figures import style
from core.figures.results import read_run

ROOT = Path(__file__).parents[3]


def luminance(colour: str) -> float:
    """Relative luminance (ITU-R BT.709): what a grey print keeps of a colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def lightness(colour: str) -> float:
    """CIE L*, 0 to 100: the luminance as the eye sees it."""
    y = luminance(colour)
    return 116 * y ** (1 / 3) - 16 if y > 0.008856 else 903.3 * y


def test_schemes_of_a_figure_differ_in_grey_and_all_differ_by_marker_and_by_line() -> None:
    looks = {name: scheme.look for name, scheme in SCHEMES.items()}
    for a, b in itertools.combinations(looks.values(), 2):
        assert a.marker != b.marker
        assert a.line != b.line
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    for entry in config["figures"].values():
        # Bars stand beside their names, curves only in a legend.
        least = 15 if entry["kind"] == "curves" else 7
        for a, b in itertools.combinations(entry["schemes"], 2):
            apart = abs(lightness(looks[a].colour) - lightness(looks[b].colour))
            assert apart > least, (a, b)


def test_every_colour_stands_out_from_paper() -> None:
    # 3:1 is the least contrast that WCAG allows for graphics.
    colours = [scheme.look.colour for scheme in SCHEMES.values()]
    for colour in (*colours, *(look.colour for look in style.SERIES)):
        assert 1.05 / (luminance(colour) + 0.05) > 3, colour


def test_budgets_of_a_scheme_go_from_dark_to_light_with_markers_of_their_own(
    make_run: Callable[..., Path],
) -> None:
    rhos = (0.7, 0.4, 0.5)
    folders = [make_run("elastic", f"e{rho}", own={"rho": rho}) for rho in rhos]
    dark, light, middle = style.looks([read_run(f) for f in (folders[1], folders[0], folders[2])])
    lightnesses = [lightness(look.colour) for look in (dark, middle, light)]
    assert lightnesses == sorted(lightnesses)
    assert len({look.marker for look in (dark, middle, light)}) == 3
    assert light.label == "ElasticTrainer (ρ = 70 %)"
    assert 1.05 / (luminance(light.colour) + 0.05) > 3
    (alone,) = style.looks([read_run(folders[0])])
    assert alone.colour == SCHEMES["elastic"].look.colour


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123, "0.0123"), (1.234, "1.23"), (83.06, "83.1"), (850.4, "850"),
     (12345.6, "12,346"), (99.96, "100.0")],
)  # fmt: skip
def test_numbers_have_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert style.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1e-4, "0.0001"), (0.1, "0.1"), (1, "1"), (1e6, "1,000,000")]
)
def test_ticks_have_no_exponent(value: float, text: str) -> None:
    assert style.plain(value) == text


def test_labels_name_the_budget_in_percent() -> None:
    assert style.label("elastic", 0.5) == "ElasticTrainer (ρ = 50 %)"
    assert style.label("elastic", 0.533) == "ElasticTrainer (ρ = 53.3 %)"
    assert style.label("elastic", 0.29) == "ElasticTrainer (ρ = 29 %)"
    labels = [style.label(scheme, None) for scheme in ("full", "head", "bn_bias")]
    assert labels == ["Full training", "Traditional TL", "BN+Bias"]


def test_scheme_without_a_look_is_named_with_those_that_have_one() -> None:
    with pytest.raises(ConfigError, match="unknown scheme 'freeze'; known: elastic, full, head"):
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
