"""Numbers of every kind beside `curves`, against those worked out by hand."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from core.errors import ConfigError, DataError
from core.figures import style
from core.figures.draw import compose
from core.figures.results import Settings, read_run
from core.figures.selections import prediction_layer

MakeRun = Callable[..., Path]

# A run of conftest.py, in seconds and without testing: 20.5, 11 and 13.75 an epoch.
ENDS = (20.5, 31.5, 45.25)
LESS = {"rho": 0.4}
STAND_INS = {
    "caltech_birds2011": "elpv",
    "oxford_iiit_pet": "elpv_mono",
    "resnet50": "efficientnet_lite0",
    "vit_b16": "efficientnet_lite0",
    "mobilenet_v2": "efficientnet_lite1",
}


def drawn(
    entry: dict[str, Any], folders: Sequence[Path], testing: bool = True, **stand_ins: str
) -> tuple[Figure, pd.DataFrame]:
    runs = [read_run(folder) for folder in folders]
    with style.applied():
        return compose(entry, runs, Settings(STAND_INS | stand_ins, testing))


def of_kind(entry: dict[str, Any], kind: str, **changes: Any) -> dict[str, Any]:
    """The entry as one of another kind."""
    return {key: value for key, value in entry.items() if key != "y"} | {"kind": kind} | changes


def note(figure: Figure) -> str:
    return figure.texts[-1].get_text().replace("\n", " ")


def texts(figure: Figure) -> list[str]:
    """Every text in the axes."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]


# bars


def test_bars_show_best_accuracy_and_hours_without_testing_of_each_run(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    bars = of_kind(
        entry, "bars", y=["test_accuracy", "hours"], schemes=["elastic", "full"],
        vary=[{"rho": [0.4, 0.7]}],
    )  # fmt: skip
    folders = [
        make_run("elastic", "e7", own={"rho": 0.7}, better=1.1),
        make_run("elastic", "e4", own={"rho": 0.4}),
        make_run("full", slower=2),
    ]
    figure, table = drawn(bars, folders, testing=True)
    accuracy = table[table["quantity"] == "best test_accuracy (%)"]
    hours = table[table["quantity"] == "hours, testing excluded"]
    assert accuracy["rho"].tolist()[:2] == [0.4, 0.7]
    assert accuracy["y"].tolist() == pytest.approx([83, 91.3, 83])
    assert (3600 * hours["y"]).tolist() == pytest.approx([45.25, 45.25, 90.5])
    left, right = figure.axes
    assert [bar.get_width() for bar in left.patches] == pytest.approx([83, 91.3, 83])
    assert [bar.get_width() for bar in right.patches] == pytest.approx([45.25, 45.25, 90.5])
    assert left.get_xlabel() == "Test accuracy,\nbest epoch (%)"
    assert right.get_xlabel() == "Training time,\ntesting excluded (s)"
    assert texts(figure) == ["83.0", "91.3", "83.0", "45.2", "45.2", "90.5"]
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == ["ElasticTrainer (ρ = 40 %)", "ElasticTrainer (ρ = 70 %)", "Full training"]


def test_bars_of_teraflops_are_multiply_adds_of_the_whole_run(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    bars = of_kind(entry, "bars", y=["teraflops"], schemes=["full", "head"])
    figure, table = drawn(bars, [make_run("full"), make_run("head", dearer=0.25)])
    assert table["y"].tolist() == pytest.approx([8, 2])  # 3 + 3 + 2, and a quarter
    assert figure.axes[0].get_xlabel() == "Training TFLOPs,\nmultiply-adds × 10¹²"
    assert "multiply-adds counted in the graph of the step" in note(figure)


def test_models_with_one_stand_in_are_one_group_and_the_note_says_so(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    bars = of_kind(
        entry, "bars", y=["hours"], schemes=["elastic", "full"],
        model=["resnet50", "mobilenet_v2", "vit_b16"], longer={"mobilenet_v2": {"full": 2}},
    )  # fmt: skip
    small = {"name": "efficientnet_lite1"}
    folders = [
        make_run("elastic"), make_run("full"), make_run("elastic", "e1", model=small),
        make_run("full", "f1", model=small, longer=2),
    ]  # fmt: skip
    figure, table = drawn(bars, folders)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == [
        "ElasticTrainer (ρ = 50 %)", "Full training",
        "ElasticTrainer (ρ = 50 %)", "Full training, 6 epochs",
        "EfficientNet-Lite0", "EfficientNet-Lite1",
    ]  # fmt: skip
    assert "EfficientNet-Lite0 in place of ResNet50 and ViT-B/16 (drawn once)" in note(figure)
    longer = "trained longer: Full training of EfficientNet-Lite1 (6 epochs) others 3 epochs"
    assert longer in note(figure).replace(" · ", " ")
    assert table["epochs"].tolist() == [3, 3, 3, 6]
    assert (3600 * table["y"]).tolist() == pytest.approx([45.25, 45.25, 45.25, 90.5])


def test_usual_and_longer_run_of_a_shared_stand_in_stand_side_by_side(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    bars = of_kind(
        entry, "bars", y=["hours"], schemes=["full"], model=["resnet50", "mobilenet_v2"],
        longer={"mobilenet_v2": {"full": 2}},
    )  # fmt: skip
    folders = [make_run("full", "long", longer=2), make_run("full")]
    _, table = drawn(bars, folders, mobilenet_v2="efficientnet_lite0")
    assert table["label"].tolist() == ["Full training", "Full training, 6 epochs"]


# epochs


def test_epochs_show_the_teraflops_of_each(entry: dict[str, Any], make_run: MakeRun) -> None:
    costs = of_kind(entry, "epochs", y=["teraflops"], schemes=["elastic", "full"])
    figure, table = drawn(costs, [make_run("full"), make_run("elastic", dearer=0.5)])
    assert table["epoch"].tolist() == [1, 2, 3, 1, 2, 3]
    assert table["y"].tolist() == pytest.approx([1.5, 1.5, 1, 3, 3, 2])
    axes = figure.axes[0]
    assert axes.get_ylabel() == "TFLOPs of an epoch\n(multiply-adds × 10¹²)"
    assert axes.get_ylim()[0] == 0
    lines = [np.asarray(line.get_ydata()).tolist() for line in axes.get_lines()]
    assert lines == [pytest.approx([1.5, 1.5, 1]), pytest.approx([3, 3, 2])]


# selections


def test_map_repeats_a_selection_until_the_next_one(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    figure, table = drawn(of_kind(entry, "selections", schemes=["elastic"]), [make_run("elastic")])
    grid = table.pivot_table(index="epoch", columns="tensor", values="selected")
    assert grid.to_numpy().tolist() == [[0, 1, 0, 1, 1], [0, 1, 0, 1, 1], [0, 0, 1, 0, 1]]
    assert table.groupby("epoch")["selected_in"].first().tolist() == [1, 1, 3]
    assert table["name"][table["head"] == 1].unique().tolist() == ["head/kernel", "head/bias"]
    counts = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert counts == ["3", "3", "2"]
    assert "prediction layer" in texts(figure)
    filled = figure.axes[0].collections[1].get_paths()  # of the first epoch, after its ground
    edges = [(path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in filled]
    assert edges == [(1.5, 2.5), (3.5, 5.5)]  # tensors 2, and 4 to 5


@pytest.mark.parametrize(
    ("names", "head"),
    [
        (["a/kernel", "head/kernel", "head/bias"], [False, True, True]),
        (["blocks.0.weight", "head.weight", "head.bias"], [False, True, True]),
        (["blocks.0.weight", "head.weight"], [False, True]),
    ],
)
def test_prediction_layer_is_the_last_layer_in_both_frameworks(
    names: list[str], head: list[bool]
) -> None:
    assert prediction_layer(names) == head


def test_map_is_of_one_run_that_selects(entry: dict[str, Any], make_run: MakeRun) -> None:
    full, one, two = make_run("full"), make_run("elastic"), make_run("elastic", "e", own=LESS)
    maps = of_kind(entry, "selections", schemes=["elastic"])
    with pytest.raises(ConfigError, match=re.escape("2 runs, kind selections draws one: ")):
        drawn(maps, [one, two])
    message = "schemes is elastic, full; kind selections draws one"
    with pytest.raises(ConfigError, match=message):
        drawn(maps | {"schemes": ["elastic", "full"]}, [one, full])
    message = f"{full} ran scheme full, which selects no tensors"
    with pytest.raises(ConfigError, match=re.escape(message)):
        drawn(of_kind(entry, "selections", schemes=["full"]), [full])


# tradeoff


@pytest.fixture
def sweeps(entry: dict[str, Any]) -> dict[str, Any]:
    vary = [{"interval": [1, 2]}, {"probe_batches": [1, 4]}]
    return of_kind(entry, "tradeoff", schemes=["elastic"], vary=vary)


def test_each_panel_varies_one_setting_and_shares_the_usual_run(
    sweeps: dict[str, Any], make_run: MakeRun
) -> None:
    folders = [
        make_run("elastic", "usual"),
        make_run("elastic", "often", own={"interval": 1}, better=1.1),
        make_run("elastic", "careful", own={"probe_batches": 4}, better=1.2),
    ]
    figure, table = drawn(sweeps, folders)
    by = table.set_index(["setting", "value", "quantity"])["y"]
    accuracy, overhead = "best test_accuracy (%)", "overhead (% of training time)"
    assert by["interval", 1, accuracy] == pytest.approx(91.3)
    assert by["interval", 2, accuracy] == by["probe_batches", 1, accuracy] == pytest.approx(83)
    assert by["probe_batches", 4, accuracy] == pytest.approx(99.6)
    # Compiling 9 + 1, selecting 0.5 + 0.25 seconds, of 45.25.
    assert by["interval", 2, overhead] == pytest.approx(100 * 10.75 / 45.25)
    assert len(table) == 8
    below = figure.axes[2:]
    assert [axes.get_xlabel() for axes in below] == ["Interval (epochs)", "Probe batches"]


@pytest.mark.parametrize(
    "vary", [[{"interval": [1, 2], "rho": [0.4, 0.5]}], [{"probe_batches": [4]}]]
)
def test_sweep_without_a_curve_is_refused(
    sweeps: dict[str, Any], make_run: MakeRun, vary: list[dict[str, list[float]]]
) -> None:
    folder = make_run("elastic")
    message = "kind tradeoff needs one setting in each, with at least two values"
    with pytest.raises(ConfigError, match=message):
        drawn(sweeps | {"vary": vary}, [folder])
    del sweeps["vary"]
    with pytest.raises(ConfigError, match="no key vary, which kind tradeoff needs"):
        drawn(sweeps, [folder])


def test_sweep_whose_runs_differ_in_more_is_refused(
    sweeps: dict[str, Any], make_run: MakeRun
) -> None:
    folders = [
        make_run("elastic", "a", own={"interval": 1}),
        make_run("elastic", "b", own={"interval": 2, "probe_batches": 4}),
    ]
    with pytest.raises(ConfigError, match=r"0 groups of runs vary interval over \[1, 2\]"):
        drawn(sweeps, folders)


# solver


def test_solver_relates_importance_to_the_finest_resolution(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    solver = of_kind(entry, "solver", schemes=["elastic"], model=["resnet50", "vit_b16"])
    figure, table = drawn(solver, [make_run("elastic")])
    assert table["resolution"].tolist() == [100, 100, 1000, 1000]
    assert table["y"].tolist() == pytest.approx([0.001, 60, 0.004, 100])
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "log"]
    assert figure.axes[0].get_yscale() == "log"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["EfficientNet-Lite0"]


def test_run_without_the_solver_of_its_profile_is_named(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    path = make_run("elastic") / "result.json"
    path.write_text(path.read_text().replace('"solver"', '"old"'))
    message = re.escape(f"{path} has no profiling.solver; delete the folder")
    with pytest.raises(DataError, match=message):
        drawn(of_kind(entry, "solver", schemes=["elastic"]), [path.parent])


# tables


def test_overhead_is_profiling_over_training_without_testing(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    overheads = of_kind(
        entry, "overhead_table", schemes=["elastic"], model=["resnet50", "mobilenet_v2"]
    )
    small = make_run("elastic", "small", model={"name": "efficientnet_lite1"}, slower=10)
    figure, table = drawn(overheads, [make_run("elastic"), small])
    assert table["profiling_s"].tolist() == [9.05, 9.05]
    assert (3600 * table["training_hours"]).tolist() == pytest.approx([45.25, 452.5])
    assert table["overhead (%)"].tolist() == pytest.approx([20, 2])
    cells = texts(figure)
    assert "Training\n(min)" in cells
    assert all(cell in cells for cell in ("EfficientNet-Lite1", "9.05", "7.54", "2.00", "20.0"))


@pytest.fixture
def speedups(entry: dict[str, Any]) -> dict[str, Any]:
    targets = {"caltech_birds2011": [75, 80, 99]}
    return of_kind(entry, "speedup_table", schemes=["elastic", "full", "head"], targets=targets)


def test_speedup_is_over_the_fastest_baseline_that_gets_there(
    speedups: dict[str, Any], make_run: MakeRun
) -> None:
    birds = {"name": "caltech_birds2011"}
    folders = [
        make_run("elastic", data=birds, slower=0.5),
        make_run("full", data=birds, slower=1.5),
        make_run("head", data=birds, better=0.95),  # 66.5, 74.1, 78.85 %
    ]
    figure, table = drawn(speedups, folders, caltech_birds2011="caltech_birds2011")
    # ElasticTrainer has 78 % after epoch 2 and 83 % after 3, the others as the factors say.
    assert (3600 * table["hours"]).tolist() == pytest.approx(
        [ENDS[1] / 2, ENDS[2] / 2, float("nan")], nan_ok=True
    )
    assert (3600 * table["baseline_hours"]).tolist() == pytest.approx(
        [ENDS[2], 1.5 * ENDS[2], float("nan")], nan_ok=True
    )
    assert table["baseline"].tolist() == ["Traditional TL", "Full training", ""]
    assert table["speedup"].tolist() == pytest.approx(
        [ENDS[2] / (ENDS[1] / 2), 3, float("nan")], nan_ok=True
    )
    assert set(table["target_is"]) == {"published"}
    cells = texts(figure)
    assert cells[-5:] == ["99.0", "not reached", "not reached", "–", "–"]
    assert "3.00 ×" in cells
    assert "testing" in note(figure)
    assert "stand-ins" not in note(figure)


def test_targets_on_a_stand_in_are_what_every_scheme_reaches(
    speedups: dict[str, Any], make_run: MakeRun
) -> None:
    pets = {"dataset": ["caltech_birds2011", "oxford_iiit_pet"]}
    folders = [
        make_run(scheme, f"{scheme}-{data}", better=better, data={"name": data})
        for data in ("elpv", "elpv_mono")
        for scheme, better in (("elastic", 1), ("full", 1.1), ("head", 0.9))
    ]
    figure, table = drawn(speedups | pets, folders)
    best = 83 * 0.9
    assert table["target (%)"].tolist() == pytest.approx(2 * [0.9 * best, 0.95 * best, best])
    assert table["dataset"].tolist() == 3 * ["elpv"] + 3 * ["elpv_mono"]
    # 74.7 % is the last epoch of the prediction layer itself.
    assert table["baseline"].tolist()[2] == "Full training"
    assert "90, 95, 100 % of what every scheme reaches" in note(figure)
    assert all(name in texts(figure) for name in ("elpv", "elpv (mono)"))


def test_speedup_needs_elastic_trainer_and_a_baseline(
    speedups: dict[str, Any], make_run: MakeRun
) -> None:
    message = r"schemes is full; kind speedup_table needs elastic and others"
    with pytest.raises(ConfigError, match=message):
        drawn(speedups | {"schemes": ["full"]}, [make_run("full")])


def test_table_too_wide_for_one_column_takes_two(entry: dict[str, Any], make_run: MakeRun) -> None:
    overheads = of_kind(entry, "overhead_table", schemes=["elastic"])
    name = "a_model_whose_name_alone_is_nearly_as_wide_as_a_column_of_a_page"
    folder = make_run("elastic", model={"name": name})
    figure, _ = drawn(overheads, [folder], resnet50=name)
    assert figure.get_figwidth() == 7
    figure, _ = drawn(overheads, [make_run("elastic", "short")])
    assert figure.get_figwidth() == 3.5
