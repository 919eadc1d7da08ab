"""Every figure of the shipped configuration, drawn from recorded runs with plausible numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image

from core.elastic import config as elastic_settings
from core.figures import KINDS, check_entry, style
from core.figures.draw import compose, draw
from core.figures.results import Settings, read_run

ROOT = Path(__file__).parents[3]
CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
FIGURES = elastic_settings.figures(CONFIG)


# One of each kind always; all of them take a minute.
FIRST = {figure.entry["kind"]: name for name, figure in reversed(FIGURES.items())}.values()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FIRST else pytest.mark.slow) for n in FIGURES]
)
def test_figure_is_drawn_with_its_numbers(
    name: str,
    shipped: dict[str, Any],
    make_figure_runs: Callable[..., list[Path]],
    tmp_path: Path,
) -> None:
    entry, folders = FIGURES[name].entry, make_figure_runs(shipped, name)
    out = tmp_path / f"{name}.pdf"
    draw(name, entry, folders[::-1], shipped["stand_ins"], shipped["time_axis"], out)
    table = pd.read_csv(out.with_suffix(".csv"))
    assert set(table["scheme"]) == {"elastic"} if name.endswith("_ego") else len(table) > 0
    assert b"/FontFile2" in out.read_bytes()
    with Image.open(out.with_suffix(".png")) as image:
        assert image.width in (700, 1400)  # one column or two at 200 dots per inch


@pytest.mark.parametrize("name", FIRST)
def test_every_kind_gives_the_same_bytes_again_whatever_the_order_of_runs(
    name: str,
    shipped: dict[str, Any],
    make_figure_runs: Callable[..., list[Path]],
    tmp_path: Path,
) -> None:
    folders = make_figure_runs(shipped, name)
    for side, given in (("a", folders), ("b", folders[::-1])):
        out = tmp_path / side / f"{name}.pdf"
        draw(name, FIGURES[name].entry, given, shipped["stand_ins"], shipped["time_axis"], out)
    for suffix in (".pdf", ".png", ".csv"):
        one, two = ((tmp_path / side / f"{name}{suffix}").read_bytes() for side in "ab")
        assert one == two, suffix


@pytest.mark.parametrize("name", ["fig19b", "fig21a", "table2"])
def test_published_setting_is_drawn_without_stand_ins(
    name: str,
    shipped: dict[str, Any],
    make_figure_runs: Callable[..., list[Path]],
    tmp_path: Path,
) -> None:
    published = yaml.safe_load((ROOT / "config/paper.yaml").read_text(encoding="utf-8"))
    config = shipped | published | {"device": "published"}
    for section in ("training", "elastic"):
        config[section] = shipped[section] | published[section]
    figure = elastic_settings.figures(config)[name]
    folders, out = make_figure_runs(config, name), tmp_path / f"{name}.pdf"
    with style.applied():
        runs = [read_run(folder) for folder in folders]
        picture, table = compose(figure.entry, runs, Settings(config["stand_ins"], testing=True))
    note = picture.texts[-1].get_text()
    assert note.startswith("published setting · TensorFlow · NVIDIA Jetson TX2 · times measured")
    assert "in place of" not in note
    draw(name, figure.entry, folders, config["stand_ins"], config["time_axis"], out)
    if name == "fig19b":
        assert table["model"].nunique() == 4
        assert table["label"].str.contains("24 epochs").sum() == 1
    if name == "fig21a":
        assert len(table) == 12 * 214
    if name == "table2":
        assert table["target (%)"].tolist() == [60, 64, 68, 85, 87, 89, 77, 78, 79]


def test_each_kind_is_used_and_every_entry_is_one_that_its_kind_draws() -> None:
    for figure in FIGURES.values():
        check_entry(figure.entry)
    assert {figure.entry["kind"] for figure in FIGURES.values()} == set(KINDS)
