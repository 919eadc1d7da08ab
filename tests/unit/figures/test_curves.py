"""Accuracy and loss against time: what is drawn, and that nothing covers it."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from core.errors import ConfigError
from core.figures import curves, style
from core.figures.results import Settings, read_run

MakeRun = Callable[..., Path]


def drawn(
    entry: dict[str, Any], folders: Sequence[Path], testing: bool = True
) -> tuple[Figure, pd.DataFrame]:
    settings = Settings({"caltech_birds2011": "elpv", "resnet50": "efficientnet_lite0"}, testing)
    with style.applied():
        return curves.draw(entry, [read_run(folder) for folder in folders], settings)


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
    looks = [style.LOOKS[scheme] for scheme in entry["schemes"]]
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
    figure, _ = drawn(entry | {"y": "test_loss"}, four_runs, testing=False)
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
    folders = [make_run(scheme) for scheme in entry["schemes"]]
    runs = [read_run(folder) for folder in folders]
    with style.applied():
        settings = Settings({"caltech_birds2011": data, "resnet50": "efficientnet_lite0"}, True)
        figure, _ = curves.draw(entry, runs, settings)
        style.add_note(figure, style.provenance(runs, settings.stand_ins))
        figure.draw_without_rendering()
        axes = figure.axes[0]
        legend = axes.get_legend()
        assert legend is not None
        boxes = [
            item.get_window_extent() for item in (axes, legend, axes.xaxis.label, *figure.texts)
        ]
    width, height = figure.get_size_inches() * figure.dpi
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= width and b.y1 <= height for b in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert boxes[0].height > 0.35 * height


def test_unknown_quantity_is_refused(entry: dict[str, Any], four_runs: list[Path]) -> None:
    with pytest.raises(ConfigError, match="y is 'speed', allowed: test_accuracy, test_loss"):
        drawn(entry | {"y": "speed"}, four_runs)


def test_schemes_and_runs_must_match(
    entry: dict[str, Any], four_runs: list[Path], make_run: MakeRun
) -> None:
    with pytest.raises(ConfigError, match="no run of scheme head, bn_bias: add its folder"):
        drawn(entry, four_runs[:2])
    message = f"{four_runs[1]} ran scheme full, not in ['elastic']"
    with pytest.raises(ConfigError, match=re.escape(message)):
        drawn(entry | {"schemes": ["elastic"]}, four_runs)
    again = make_run("full", folder="again")
    message = f"two runs of scheme full, give one: {four_runs[1]}, {again}"
    with pytest.raises(ConfigError, match=re.escape(message)):
        drawn(entry, [*four_runs, again])
