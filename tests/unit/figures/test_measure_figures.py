"""Figures of energy and memory: what is drawn, and what is said where something is not known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from core.errors import ConfigError, DataError
from core.figures import style
from core.figures.bars import joules
from core.figures.measured import NO_ACCELERATOR, OLD
from tests.unit.figures.measured_recorded import NO_SENSOR, record, record_trace, section
from tests.unit.figures.split_recorded import make_split_run
from tests.unit.figures.test_kinds import drawn, note, of_kind, texts
from tests.unit.figures.test_split_figures import drawn as split_drawn
from tests.unit.figures.test_split_figures import entry_of, face

MakeRun = Callable[..., Path]
SCHEMES = ["elastic", "full"]


def bars(entry: dict[str, Any], *y: str) -> dict[str, Any]:
    return of_kind(entry, "bars", y=list(y), schemes=SCHEMES, vary=[{"rho": [0.5]}])


def widths(figure: Figure, panel: int) -> list[float]:
    return [bar.get_width() for bar in figure.axes[panel].patches]


def test_energy_beside_accuracy_says_how_it_was_measured(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    folders = [
        record(make_run("elastic"), section(31_500)), record(make_run("full"), section(97_200))
    ]  # fmt: skip
    figure, table = drawn(bars(entry, "test_accuracy", "energy"), folders)
    assert widths(figure, 1) == pytest.approx([31.5, 97.2])
    assert figure.axes[1].get_xlabel() == "Energy,\ntesting included (kJ)"
    energy = table[table["quantity"] == "energy, testing included (J)"]
    assert energy["y"].tolist() == [31_500, 97_200]
    assert set(energy["missing"]) == {""}
    assert "energy measured: RAPL, package-0" in note(figure)
    assert "not known" not in texts(figure)


@pytest.mark.parametrize(
    ("longest", "unit"), [(0, "J"), (9999, "J"), (10_001, "kJ"), (2e7, "MJ"), (1e12, "MJ")]
)
def test_energies_have_a_unit_that_fits(longest: float, unit: str) -> None:
    assert joules(longest)[0] == unit


def test_without_a_sensor_there_is_no_bar_but_the_reason(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    folders = [record(make_run(scheme), section(None)) for scheme in SCHEMES]
    figure, table = drawn(bars(entry, "test_accuracy", "energy"), folders)
    assert widths(figure, 1) == []
    assert texts(figure)[-2:] == ["not known", "not known"]
    assert f"no energy: {NO_SENSOR}" in note(figure)
    energy = table[table["quantity"].str.startswith("energy")]
    assert energy["y"].isna().all()
    assert set(energy["missing"]) == {NO_SENSOR}


def test_a_run_without_energy_beside_one_with_it_is_named(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    folders = [record(make_run("elastic"), section(50)), make_run("full")]  # of before sampling
    figure, _ = drawn(bars(entry, "energy"), folders)
    assert widths(figure, 0) == [50]
    assert texts(figure) == ["50.0", "not known"]
    assert f"no energy (Full training): {OLD}" in note(figure)


def test_simulated_energy_says_so_and_of_which_run_it_is(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    stated = section(60, kind="simulated", meter="stated 5 W × time")
    folders = [record(make_run("elastic"), section(50)), record(make_run("full"), stated)]
    figure, _ = drawn(bars(entry, "energy"), folders)
    assert "energy measured: RAPL, package-0 (ElasticTrainer (ρ = 50 %))" in note(figure)
    assert "energy simulated: stated 5 W × time (Full training)" in note(figure)


def test_peak_memory_of_processes_and_with_the_accelerator(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    folders = [
        record(make_run("elastic"), section(peak_mib=1024, accelerator=2048)),
        record(make_run("full"), section(peak_mib=1536)),
    ]
    figure, _ = drawn(bars(entry, "memory", "total_memory"), folders)
    assert widths(figure, 0) == pytest.approx([1, 1.5])
    assert widths(figure, 1) == pytest.approx([3])
    assert figure.get_suptitle().startswith("Peak memory, ")
    said = f"no peak memory with accelerator (Full training): {NO_ACCELERATOR}"
    assert said in note(figure)


def test_a_peak_of_a_part_of_the_run_is_none_of_the_run(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    late = section()
    late["memory"]["why"] = "sampling began at step 40 of the run: what was before is not known"
    folders = [record(make_run(scheme), late) for scheme in SCHEMES]
    figure, _ = drawn(bars(entry, "memory"), folders)
    assert texts(figure) == ["not known", "not known"]
    assert "no peak memory: sampling began at step 40" in note(figure)


@pytest.mark.parametrize("value", [-1, "much", float("inf"), True])
def test_a_damaged_number_is_refused(
    entry: dict[str, Any], make_run: MakeRun, value: object
) -> None:
    folders = [record(make_run(scheme), section()) for scheme in SCHEMES]
    path = folders[0] / "result.json"
    result = json.loads(path.read_text())
    result["measure"]["energy"]["joules"] = value
    path.write_text(json.dumps(result))
    with pytest.raises(DataError, match=r"joules is .* must be a number of 0 or more"):
        drawn(bars(entry, "energy"), folders)
    result["measure"]["energy"] |= {"joules": 1, "kind": "guessed"}
    path.write_text(json.dumps(result))
    with pytest.raises(DataError, match=r"measure\.energy\.kind is 'guessed', allowed: measured"):
        drawn(bars(entry, "energy"), folders)


def test_a_run_that_was_throttled_says_so_on_every_figure_of_it(
    entry: dict[str, Any], make_run: MakeRun, tmp_path: Path
) -> None:
    hot = section(throttled=["core too hot"])
    folders = [record(make_run("elastic"), hot), make_run("full")]
    figure, _ = drawn(entry | {"schemes": SCHEMES}, folders)
    assert "throttled: ElasticTrainer (ρ = 50 %) (core too hot)" in note(figure)
    run = record(make_split_run(tmp_path / "split"), section(), hot)
    figure, _ = split_drawn(entry_of("weights"), [run])
    assert "throttled: Feature replay (core too hot)" in face(figure)


# Split training


def of_sides(root: Path, of: str, *cloud: float) -> list[Path]:
    folders = []
    for scheme, more in zip(("replay", "serial"), cloud, strict=True):
        folder = make_split_run(root / scheme, scheme)
        folders.append(record(folder, section(100, 512, of=of), section(more, 2048)))
    alone = record(make_split_run(root / "alone", "all_edge"), section(70, 256, of="edge"))
    return [*folders, alone]


def entry_of_sides(kind: str) -> dict[str, Any]:
    return entry_of(kind, schemes=["replay", "serial", "all_edge"])


def test_each_side_has_its_panel(tmp_path: Path) -> None:
    folders = of_sides(tmp_path, "edge", 300, 400)
    figure, table = split_drawn(entry_of_sides("energy"), folders)
    assert [axes.get_xlabel() for axes in figure.axes] == ["Edge (J)", "Cloud (J)"]
    assert widths(figure, 0) == [100, 100, 70]
    assert widths(figure, 1) == [300, 400]
    assert texts(figure)[-1] == "none"  # no cloud takes part
    assert table["y"].isna().sum() == 1
    figure, _ = split_drawn(entry_of_sides("memory"), folders)
    assert widths(figure, 0) == [0.5, 0.5, 0.25]
    assert widths(figure, 1) == [2, 2]


def test_two_sides_on_one_machine_are_one_number(tmp_path: Path) -> None:
    figure, _ = split_drawn(entry_of_sides("energy"), of_sides(tmp_path, "both sides", 1, 1))
    assert [axes.get_xlabel() for axes in figure.axes] == ["Both sides, one machine (J)"]
    assert widths(figure, 0) == [100, 100, 70]


def test_sides_of_which_nothing_is_known_say_why(tmp_path: Path) -> None:
    folders = [make_split_run(tmp_path / s, s) for s in ("replay", "serial", "all_edge")]
    for kind in ("energy", "memory"):
        figure, table = split_drawn(entry_of_sides(kind), folders)
        assert table["y"].isna().all()
        assert widths(figure, 0) == []
        assert OLD in face(figure)


# Traces


def trace_entry(entry: dict[str, Any]) -> dict[str, Any]:
    return of_kind(entry, "measure_trace", schemes=["elastic"])


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_trace_shows_power_memory_temperature_and_events(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    run = record_trace(record(make_run("elastic"), section()), throttled=True)
    figure, table = drawn(trace_entry(entry), [run])
    titles = [axes.get_ylabel() for axes in figure.axes]
    assert titles == ["Power (W)", "Memory (GiB)", "Temperature (°C)"]
    power, memory, heat = (axes.lines[0].get_ydata() for axes in figure.axes)
    assert len(power) == len(memory) == len(heat) == 41
    assert power[1] == 6
    assert memory[-1] == pytest.approx(1400 / 1024)
    assert figure.axes[2].get_xlim() == (0, 20)
    assert labels(figure) == [
        "selection", "end of an epoch", "snapshot", "resumed", "cut or codecs moved",
    ]  # fmt: skip
    assert "energy measured: RAPL, package-0" in note(figure)
    assert "shaded: throttled (too hot)" in note(figure)
    assert table["event"].tolist().count("epoch") == 1
    assert table["power (W)"].notna().sum() == 41


def test_panels_of_what_no_sensor_gave_say_so(entry: dict[str, Any], make_run: MakeRun) -> None:
    run = record(make_run("elastic"), section(None))
    record_trace(run, power=False, celsius=False)
    figure, _ = drawn(trace_entry(entry), [run])
    said = [text.replace("\n", " ") for text in texts(figure)]
    assert said == [f"no power: {NO_SENSOR}", "no temperature: this machine shows no sensor of it"]
    assert len(figure.axes[1].lines[0].get_ydata()) == 41


def test_a_run_without_a_trace_is_drawn_with_three_reasons(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    figure, table = drawn(trace_entry(entry), [make_run("elastic")])
    said = [text.replace("\n", " ") for text in texts(figure)]
    assert len(said) == 3
    assert all("trace.csv is not in the folder of the run" in text for text in said)
    assert len(table) == 1


def test_a_damaged_trace_is_refused(entry: dict[str, Any], make_run: MakeRun) -> None:
    run = make_run("elastic")
    (run / "trace.csv").write_text("time,watts\n")
    with pytest.raises(DataError, match="is no trace"):
        drawn(trace_entry(entry), [run])


def test_a_trace_is_of_one_run(entry: dict[str, Any], make_run: MakeRun) -> None:
    folders = [make_run("elastic", f"e{rho}", own={"rho": rho}) for rho in (0.4, 0.5)]
    two = trace_entry(entry) | {"vary": [{"rho": [0.4, 0.5]}]}
    with pytest.raises(ConfigError, match="2 runs, kind measure_trace draws one"):
        drawn(two, folders)


def test_both_sides_of_split_training_are_in_one_trace(tmp_path: Path) -> None:
    run = record_trace(record(make_split_run(tmp_path / "a"), section()))
    record_trace(run, "trace_cloud.csv", power=False)
    figure, table = split_drawn(entry_of("trace"), [run])
    assert labels(figure)[:2] == ["edge", "cloud"]
    assert set(table["side"]) == {"edge", "cloud"}
    (run / "trace_cloud.csv").unlink()  # the cloud was another machine
    figure, _ = split_drawn(entry_of("trace"), [run])
    assert labels(figure)[:1] == ["edge"]


@pytest.mark.filterwarnings("error::UserWarning")
def test_no_text_of_a_trace_leaves_it(entry: dict[str, Any], make_run: MakeRun) -> None:
    figure, _ = drawn(trace_entry(entry), [make_run("elastic")])
    with style.applied():
        figure.draw_without_rendering()
    width = figure.get_size_inches()[0] * figure.dpi
    for axes in figure.axes:
        for text in axes.texts:
            box = text.get_window_extent()
            assert 0 <= box.x0 < box.x1 <= width
