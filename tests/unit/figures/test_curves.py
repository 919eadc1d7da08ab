"""Accuracy and loss against time: what is drawn, and that nothing covers it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from core.elastic.schemes import SCHEMES
from core.figures import style
from core.figures.draw import compose
from core.figures.results import Settings, read_run

MakeRun = Callable[..., Path]


def drawn(
    entry: dict[str, Any], folders: Sequence[Path], testing: bool = True
) -> tuple[Figure, pd.DataFrame]:
    settings = Settings({"caltech_birds2011": "elpv", "resnet50": "efficientnet_lite0"}, testing)
    with style.applied():
        return compose(entry, [read_run(folder) for folder in folders], settings)


def test_every_epoch_is_a_marker_at_its_own_time(
    entry: dict[str, Any], four_runs: list[Path]
) -> None:
    for testing, seconds in ((True, [22.5, 35.5, 51.75]), (False, [20.5, 31.5, 45.25])):
        figure, _ = drawn(entry, four_runs, testing)
        lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
        elastic = lines["ElasticTrainer (ρ = 50 %)"]  # the other runs are slower
        assert np.asarray(elastic.get_xdata()).tolist() == pytest.approx(seconds)
        assert np.asarray(elastic.get_ydata()).tolist() == pytest.approx([70, 78, 83])
        assert all(line.get_marker() not in ("", "None", None) for line in lines.values())


def test_curves_come_in_the_order_of_the_entry_with_the_look_of_their_scheme(
    entry: dict[str, Any], four_runs: list[Path]
) -> None:
    figure, _ = drawn(entry, four_runs[::-1])
    lines = figure.axes[0].get_lines()
    looks = [SCHEMES[scheme].look for scheme in entry["schemes"]]
    assert [line.get_color() for line in lines] == [look.colour for look in looks]
    assert [line.get_marker() for line in lines] == [look.marker for look in looks]
    assert [line.get_linestyle() for line in lines] == [look.line for look in looks]
    assert lines[0].get_zorder() == max(line.get_zorder() for line in lines)


def test_title_and_axes_say_what_ran_and_in_which_units(
    entry: dict[str, Any], four_runs: list[Path]
) -> None:
    figure, _ = drawn(entry, four_runs)
    axes = figure.axes[0]
    assert figure.get_suptitle() == "Test accuracy, EfficientNet-Lite0 on elpv"
    assert axes.get_xlabel() == "Training time, testing included (s)"
    assert axes.get_ylabel() == "Test accuracy (%)"
    figure, _ = drawn(entry | {"y": ["test_loss"]}, four_runs, testing=False)
    assert figure.get_suptitle() == "Test loss, EfficientNet-Lite0 on elpv"
    assert figure.axes[0].get_xlabel() == "Training time, testing excluded (s)"
    assert figure.axes[0].get_ylabel() == "Test loss"


@pytest.mark.parametrize(
    ("slower", "unit", "last"), [(1, "s", 51.75), (30, "min", 25.875), (800, "h", 11.5)]
)
def test_unit_of_time_fits_the_longest_run(
    entry: dict[str, Any], make_run: MakeRun, slower: float, unit: str, last: float
) -> None:
    figure, table = drawn(entry | {"schemes": ["full"]}, [make_run(slower=slower)])
    axes = figure.axes[0]
    assert axes.get_xlabel().endswith(f"({unit})")
    assert np.asarray(axes.get_lines()[0].get_xdata())[-1] == pytest.approx(last)
    assert axes.get_xlim()[0] == 0
    assert table["hours"].iloc[-1] == pytest.approx(slower * 51.75 / 3600)


def test_accuracy_axis_stays_below_100_percent_and_does_not_blow_up_noise(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    folder = make_run()
    path = folder / "epochs.csv"
    text = path.read_text()
    for old, new in (("0.7,10", "0.999,10"), ("0.78,10", "1.0,10"), ("0.83,10", "1.0,10")):
        text = text.replace(old, new)
    path.write_text(text)
    figure, table = drawn(entry | {"schemes": ["full"]}, [folder])
    low, high = figure.axes[0].get_ylim()
    assert high == 100
    assert high - low > 2.5
    assert low <= table["y"].min()


@pytest.mark.parametrize(
    "data", ["elpv", "elpv_mono", "a_data_set_with_quite_a_long_name_of_its_own"]
)
def test_no_text_leaves_the_figure_or_meets_the_data_or_another_text(
    entry: dict[str, Any], make_run: MakeRun, data: str
) -> None:
    folders = [make_run(scheme, data={"name": data}) for scheme in entry["schemes"]]
    runs = [read_run(folder) for folder in folders]
    with style.applied():
        settings = Settings({"caltech_birds2011": data, "resnet50": "efficientnet_lite0"}, True)
        figure, _ = compose(entry, runs, settings)
        figure.draw_without_rendering()
        (axes,), (legend,) = figure.axes, figure.legends
        boxes = [
            item.get_window_extent() for item in (axes, legend, axes.xaxis.label, *figure.texts)
        ]
    width, height = figure.get_size_inches() * figure.dpi
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= width and b.y1 <= height for b in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert boxes[0].height > 0.35 * height


def test_budgets_of_one_scheme_are_curves_of_their_own(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    rhos = {"schemes": ["elastic"], "vary": [{"rho": [0.4, 0.7]}]}
    folders = [make_run("elastic", str(rho), own={"rho": rho}) for rho in (0.7, 0.4)]
    figure, table = drawn(entry | rhos, folders)
    labels = [line.get_label() for line in figure.axes[0].get_lines()]
    assert labels == ["ElasticTrainer (ρ = 40 %)", "ElasticTrainer (ρ = 70 %)"]
    assert table["rho"].tolist() == [0.4] * 3 + [0.7] * 3
