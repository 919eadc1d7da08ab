"""Every kind of figure of split training: what is drawn, its numbers, what its face says."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure
from PIL import Image

from core.bench.simulator import STALENESS, UPLINKS
from core.data.chairs import row_of
from core.errors import ConfigError, DataError
from core.figures import cli, style
from core.figures.draw import compose, draw, family
from core.figures.results import Settings
from core.figures.split_decision import link_seconds
from core.figures.split_kinds import SPLIT_KINDS, check_split_entry
from core.figures.split_results import LOADS, read_split_run
from core.split.contexts import Context, load
from core.split.decision import initial
from core.split.published import published
from core.split.simulate import SimulatedLink
from core.split.traces import MBIT
from tests.unit.figures.measured_recorded import record, record_trace, section
from tests.unit.figures.split_recorded import context, make_profile, make_split_run

ROOT = Path(__file__).parents[3]
SCHEMES = ["context_aware", "replay", "serial", "all_edge"]
MOVES = [
    {"step": 8, "seconds": 17.0, "cut": 9, "uplink": "int8", "downlink": "none"},
    {"step": 14, "seconds": 23.0, "cut": 18, "uplink": "int4", "downlink": "int8"},
]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator finds the contexts there."""
    monkeypatch.chdir(ROOT)


def entry_of(kind: str, **changes: Any) -> dict[str, Any]:
    entry = {"task": "cifar10_mobilenet_v3", "schemes": ["replay"], "contexts": ["wifi"]}
    return {"kind": f"split_{kind}", **entry, **changes}


def drawn(
    entry: Mapping[str, Any], paths: Sequence[Path], testing: bool = False
) -> tuple[Figure, pd.DataFrame]:
    with style.applied():
        given = [family(entry).read(path) for path in paths]
        return compose(entry, given, Settings({}, testing))


def face(figure: Figure) -> str:
    return figure.texts[-1].get_text().replace("\n", " ")


def throughput(root: Path) -> tuple[dict[str, Any], list[Path]]:
    """Each scheme takes its own time, in LTE twice of it."""
    folders = [
        make_split_run(
            root / f"{name}-{scheme}", scheme, name, staleness=0, taken=[9.0, *[times * s] * 19]
        )
        for name, times in (("wifi", 1), ("lte", 2))
        for scheme, s in zip(SCHEMES[:-1], (0.5, 1.0, 2.0), strict=True)
    ]
    alone = make_split_run(root / "alone", "all_edge", staleness=0, taken=[9.0, *[4.0] * 19])
    return entry_of("throughput", schemes=SCHEMES, contexts=["wifi", "lte"]), [*folders, alone]


def codecs(root: Path) -> tuple[dict[str, Any], list[Path]]:
    folders = [
        make_split_run(
            root / f"{name}-{feedback}", "compressed", "wifi", uplink=name, feedback=feedback,
            up_bytes=nbytes, accuracies=[0.5, accuracy + 0.1 * (feedback == "published")],
        )
        for name, nbytes, accuracy in (("none", 4 << 20, 0.8), ("int8", 1 << 20, 0.7))
        for feedback in ("published", "none")
    ]  # fmt: skip
    vary = {"uplink": ["none", "int8"], "feedback": ["published", "none"]}
    return entry_of("codecs", schemes=["compressed"], vary=vary), folders


def replay(root: Path) -> tuple[dict[str, Any], list[Path]]:
    folders = []
    for k in (0, 1, 3):
        taken = [5.0, *[2 / (1 + k)] * 39]
        accuracies = [0.6, 0.8 - k / 100]
        folders.append(
            make_split_run(root / f"k{k}", staleness=k, taken=taken, accuracies=accuracies)
        )
    return entry_of("replay", vary={"staleness": [0, 1, 3]}), folders


def decision(root: Path, **changes: Any) -> tuple[dict[str, Any], list[Path]]:
    folder = make_split_run(
        root / "moving", "context_aware", "lte_moving", choices=MOVES, uplink="int8", **changes
    )
    return entry_of("decision", schemes=["context_aware"], contexts=["lte_moving"]), [folder]


def generated(root: Path) -> tuple[dict[str, Any], list[Path]]:
    """A run of a generator, with seven samples and the way between two styles."""
    changes: dict[str, Any] = {"model": {"name": "chairs", "weights": None}}
    changes["data"] = {"name": "chairs_rendered", "folder": "none", "size": 16, "classes": 3}
    folder = make_split_run(root / "chairs", "context_aware", accuracies=[None, None], **changes)
    random = np.random.default_rng(0)
    rows = [row_of(style, 30 * style, 20) for style in (*range(7), *np.linspace(0, 1, 4))]
    shapes = {"generated": 7, "wanted": 7, "between": 4}
    arrays = {k: random.integers(0, 256, (n, 16, 16, 4), np.uint8) for k, n in shapes.items()}
    np.savez(folder / "samples.npz", **arrays, inputs=np.array(rows, np.float32))
    entry = entry_of("x", task="chairs", schemes=["context_aware"]) | {"kind": "chairs_samples"}
    return entry, [folder]


def example(kind: str, root: Path) -> tuple[dict[str, Any], list[Path]]:
    """An entry of each kind and what it is drawn from."""
    if kind == "split_profile":
        paths = [make_profile(root / f"{side}.json", slower=4) for side in ("edge", "cloud")]
        return {"kind": kind, "task": "cifar10_mobilenet_v3"}, paths
    if kind == "split_simulated":
        return {"kind": kind, "networks": ["vgg19_bn"], "contexts": ["wifi", "iot"]}, []
    if kind == "split_accuracy":
        entry, folders = throughput(root)
        return entry | {"kind": kind}, folders
    if kind == "split_loss":
        entry, folders = throughput(root)
        return entry | {"kind": kind}, folders
    if kind == "split_weights":
        return entry_of("weights"), [make_split_run(root / "weights")]
    if kind == "chairs_samples":
        return generated(root)
    if kind == "split_trace":
        run = record(make_split_run(root / "trace"), section())
        return entry_of("trace"), [record_trace(record_trace(run), "trace_cloud.csv")]
    if kind in ("split_energy", "split_memory"):
        entry, folders = throughput(root)
        for folder, joules in zip(folders, (90, 120, 300, 50, 60, 70, 200), strict=True):
            record(folder, section(joules), section(2 * joules))
        return entry | {"kind": kind, "contexts": ["wifi"]}, [*folders[:3], folders[-1]]
    makers = {
        "split_throughput": throughput,
        "split_codecs": codecs,
        "split_replay": replay,
        "split_decision": decision,
    }
    return makers[kind](root)


@pytest.mark.parametrize("kind", SPLIT_KINDS)
def test_every_kind_is_drawn_and_gives_the_same_bytes_again(kind: str, tmp_path: Path) -> None:
    entry, paths = example(kind, tmp_path)
    for side in "ab":
        order = paths if side == "a" or kind == "split_profile" else paths[::-1]
        out = tmp_path / side / "figure.pdf"
        draw("figure", entry, order, {}, {"testing": "exclude"}, out)
    for suffix in (".pdf", ".png", ".csv"):
        one, two = ((tmp_path / side / f"figure{suffix}").read_bytes() for side in "ab")
        assert one == two, suffix
    assert b"/FontFile2" in out.read_bytes()
    with Image.open(out.with_suffix(".png")) as image:
        assert image.width in (700, 1400)  # one column or two at 200 dots per inch
    timings = set(pd.read_csv(out.with_suffix(".csv"))["timing"].dropna())
    assert timings == {
        "split_profile": {"measured"},
        "split_simulated": {"simulated"},
    }.get(kind, {"emulated"})


@pytest.mark.parametrize("kind", SPLIT_KINDS)
@pytest.mark.filterwarnings("error::UserWarning")
def test_no_text_leaves_the_figure_or_meets_another_one(kind: str, tmp_path: Path) -> None:
    entry, paths = example(kind, tmp_path)
    figure, _ = drawn(entry, paths)
    with style.applied():
        figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [item.get_window_extent() for item in (*figure.legends, *figure.texts)]
    boxes += [axes.get_tightbbox() for axes in figure.axes if axes.axison]
    assert all(b.x0 >= -1 and b.y0 >= -1 for b in boxes)
    assert all(b.x1 <= width + 1 and b.y1 <= height + 1 for b in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(axes.get_window_extent().height > 0.4 * figure.dpi for axes in figure.axes)


def test_throughput_has_a_bar_for_each_scheme_in_each_context(tmp_path: Path) -> None:
    entry, folders = throughput(tmp_path)
    figure, table = drawn(entry, folders)
    assert table["seconds per step"].tolist() == pytest.approx([0.5, 1, 2, 4, 1, 2, 4, 4])
    assert table["drawn in"].tolist() == ["wifi"] * 4 + ["lte"] * 4
    assert table["scheme"].tolist() == SCHEMES * 2
    heights = [patch.get_height() for patch in figure.axes[0].patches]
    assert sorted(heights) == pytest.approx([0.5, 1, 1, 2, 2, 4, 4, 4])
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels == ["Wi-Fi\n20 / 40", "LTE\n20 / 40"]
    assert figure.axes[0].get_yscale() == "linear"
    assert "All-edge sends nothing: one run, drawn in every context" in face(figure)


def test_throughput_is_logarithmic_where_bars_differ_by_much(tmp_path: Path) -> None:
    folders = [
        make_split_run(tmp_path / scheme, scheme, staleness=0, taken=[s] * 20)
        for scheme, s in (("replay", 0.1), ("serial", 30.0))
    ]
    figure, _ = drawn(entry_of("throughput", schemes=["replay", "serial"]), folders)
    assert figure.axes[0].get_yscale() == "log"
    low, high = figure.axes[0].get_ylim()
    assert low < 0.1 < 30 < high


def test_accuracy_is_drawn_over_the_training_time(tmp_path: Path) -> None:
    entry, folders = example("split_accuracy", tmp_path)
    figure, table = drawn(entry, folders)
    own = table[(table["scheme"] == "replay") & (table["drawn in"] == "lte")]
    assert (3600 * own["hours"]).tolist() == pytest.approx([9 + 9 * 2, 9 + 19 * 2])
    assert own["test_accuracy (%)"].tolist() == pytest.approx([60, 80])
    assert [axes.get_title() for axes in figure.axes] == ["Wi-Fi", "LTE"]
    lines = {line.get_label(): line for line in figure.axes[1].get_lines()}
    assert np.asarray(lines["Feature replay"].get_xdata()).tolist() == pytest.approx([27, 47])
    assert "All-edge" in lines
    _, tested = drawn(entry, folders, testing=True)
    assert (3600 * (tested["hours"] - table["hours"])).tolist()[:2] == pytest.approx([3, 6])


def test_replay_shows_speed_and_accuracy_over_k(tmp_path: Path) -> None:
    figure, table = drawn(*replay(tmp_path))
    assert table["staleness"].tolist() == [0, 1, 3]
    assert table["K"].tolist() == [0, 1, 3]
    assert table["seconds per step"].tolist() == pytest.approx([2, 1, 0.5])
    assert table["best test_accuracy (%)"].tolist() == pytest.approx([80, 79, 77])
    assert [text.get_text() for text in figure.axes[1].get_xticklabels()] == ["0", "1", "3"]


def test_codecs_are_filled_with_error_feedback_and_open_without(tmp_path: Path) -> None:
    figure, table = drawn(*codecs(tmp_path))
    (axes,) = figure.axes
    points = [line for line in axes.get_lines() if len(line.get_xdata()) == 1]
    assert [line.get_ydata()[0] for line in points] == pytest.approx([80, 70])
    assert [line.get_markerfacecolor() for line in points] == ["#b04357", "white"]
    assert table["up_mib per step"].tolist() == [4, 4, 1, 1]
    exact = next(line for line in axes.get_lines() if "as they are" in str(line.get_label()))
    assert exact.get_label() == "as they are (4.00 MiB)"
    assert exact.get_ydata()[0] == pytest.approx(90)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"int8", "error feedback: published", "without error feedback"} < set(legend)


def test_decision_shows_rates_cut_and_codecs(tmp_path: Path) -> None:
    entry, folders = decision(tmp_path)
    figure, table = drawn(entry, folders)
    rates, cuts, _ = figure.axes
    steps = next(line for line in cuts.get_lines() if line.get_drawstyle() == "steps-post")
    assert np.asarray(steps.get_ydata()).tolist() == [5, 9, 18, 18]
    assert np.asarray(steps.get_xdata()).tolist() == pytest.approx([0, 17, 23, 29])
    assert table["first after a decision"].to_numpy().nonzero()[0].tolist() == [8, 14]
    assert table["uplink estimated (Mbit/s)"].iloc[5] == pytest.approx(19.2)
    assert np.isnan(table["uplink estimated (Mbit/s)"].iloc[0])
    labels = {line.get_label() for line in rates.get_lines()}
    assert {"uplink, asked of the emulation", "downlink, estimated"} < labels
    assert "dotted: 2 decisions to change cut or codecs" in face(figure)
    said = (
        "the edge took 1.5, the cloud 1 times as long as profiled, 1.2 times that beside each other"
    )
    assert said in face(figure).replace("\n", " ")
    assert table["mutual load"].tolist() == [1.25] * 20
    # The link started 5 s before the first step; 3.5 s of test and snapshot after the first epoch.
    up, _ = Context.of(context("lte_moving")).traces()
    at = [t + 5 + (3.5 if t >= 19 else 0) for t in table["seconds"]]
    expected = [up.rate(t) / MBIT for t in at]
    assert table["uplink asked (Mbit/s)"].tolist() == pytest.approx(expected)


def test_decisions_of_a_run_that_kept_no_loads_are_drawn_without(tmp_path: Path) -> None:
    entry, (folder,) = decision(tmp_path)
    path = folder / "iterations.csv"
    pd.read_csv(path, keep_default_na=False).drop(columns=list(LOADS)).to_csv(path, index=False)
    figure, table = drawn(entry, [folder])
    assert "as long as profiled" not in face(figure)
    assert table["edge load"].isna().all()


def test_asked_rates_of_an_interrupted_run_are_not_known(tmp_path: Path) -> None:
    entry, (folder,) = decision(tmp_path)
    path = folder / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"link": {"began_unix": 2000.0}}))  # started again
    assert link_seconds(read_split_run(folder), np.array([1.0])) is None
    path.write_text(json.dumps(result | {"legs": [{}, {}]}))
    assert link_seconds(read_split_run(folder), np.array([1.0])) is None
    figure, table = drawn(entry, [folder])
    assert table["uplink asked (Mbit/s)"].isna().all()
    assert not any("asked" in str(line.get_label()) for line in figure.axes[0].get_lines())
    del result["choices"]
    path.write_text(json.dumps(result))
    with pytest.raises(DataError, match="has no choices; delete the folder of this run"):
        drawn(entry, [folder])


def test_profile_shows_both_devices_at_the_speed_that_is_emulated(tmp_path: Path) -> None:
    edge = make_profile(tmp_path / "edge.json", slowdown=3.0)
    cloud = make_profile(tmp_path / "cloud.json")
    figure, table = drawn({"kind": "split_profile", "task": "t"}, [edge, cloud])
    own = table[(table["side"] == "edge") & (table["what"] == "backward")]
    assert own["y"].tolist() == pytest.approx([60, 150, 6])
    sizes = table[table["what"] == "features"]
    # Raw images in bytes, then float32.
    assert sizes["y"].tolist() == pytest.approx([3 / 32, 2.0, 0.25])
    assert sizes["at"].tolist() == ["0", "1", "2"]
    int8 = table[(table["at"] == "int8") & (table["what"] == "encode")]
    assert dict(zip(int8["side"], int8["y"], strict=True)) == pytest.approx(
        {"edge": 1.2, "cloud": 0.4}
    )
    assert "edge: this host, AMD EPYC, emulated 3× slower" in face(figure)
    assert "times emulated" in face(figure)


def test_weights_are_bands_between_quantiles(tmp_path: Path) -> None:
    figure, table = drawn(entry_of("weights"), [make_split_run(tmp_path / "a")])
    assert [axes.get_title() for axes in figure.axes] == ["block 0", "block 1", "block 2"]
    row = table[(table["epoch"] == 2) & (table["block"] == 1)].iloc[0]
    assert (row["quantile 0.05"], row["quantile 0.5"]) == pytest.approx((-1.8, 0))
    low, high = figure.axes[1].get_ylim()
    assert low <= -1.96
    assert high >= 1.96


def test_weights_of_one_epoch_or_damaged_ones_are_refused(tmp_path: Path) -> None:
    folder = make_split_run(tmp_path / "a")
    path = folder / "result.json"
    result = json.loads(path.read_text())
    short = json.loads(path.read_text())
    short["weights"][1]["blocks"]["2"].pop()
    path.write_text(json.dumps(short))
    with pytest.raises(DataError, match="weights of block 2 after epoch 2 have 10 numbers, not 11"):
        drawn(entry_of("weights"), [folder])
    path.write_text(json.dumps(result | {"weights": result["weights"][:1]}))
    with pytest.raises(ConfigError, match=r"kept the weights of 1 epochs.*training\.weights_after"):
        drawn(entry_of("weights"), [folder])


def test_simulated_times_are_those_of_the_formula_and_say_so(tmp_path: Path) -> None:
    entry, _ = example("split_simulated", tmp_path)
    figure, table = drawn(entry, [])
    assert set(table["timing"]) == {"simulated"}
    assert "Simulated time" in figure.get_suptitle()
    assert face(figure).startswith("simulated from the published profiles")
    costs = published("vgg19_bn", "Pi", UPLINKS)
    link = SimulatedLink.of(load(ROOT / "config/contexts/wifi.yaml")).mean()
    found = initial(costs, link, UPLINKS, ("none",), STALENESS, 10_000)
    rows = table[(table["edge"] == "Pi") & (table["context"] == "wifi")].set_index("scheme")
    assert rows.loc["context_aware", "seconds per step"] == pytest.approx(
        found.total_s / 10_000, rel=0.01
    )
    assert rows.loc["context_aware", "cut"] == found.choice.cut


def test_context_that_moves_or_is_none_is_not_simulated() -> None:
    for name, message in (
        ("lte_moving", "context lte_moving has no constant rates; kind split_simulated needs it"),
        ("loopback", "context loopback has no constant rates"),
        ("lan", "unknown context 'lan'; known: 5g, "),
    ):
        with pytest.raises(ConfigError, match=message):
            drawn({"kind": "split_simulated", "networks": ["vgg19_bn"], "contexts": [name]}, [])


def test_face_says_scale_devices_stand_ins_and_kinds_of_times(tmp_path: Path) -> None:
    figure, _ = drawn(entry_of("weights"), [make_split_run(tmp_path / "a")])
    assert face(figure).startswith(
        "demo scale · PyTorch · edge: this host, AMD EPYC, emulated 4× slower · cloud: this host · "
        "times emulated elpv in place of CIFAR-10"
    )
    changes = {"scale": "paper", "data": {"name": "cifar10"}, "timing": "measured"}
    changes |= {"edge": {"name": "jetson_tx2", "title": "NVIDIA Jetson TX2", "slowdown": 1}}
    figure, _ = drawn(entry_of("weights"), [make_split_run(tmp_path / "b", **changes)])
    assert face(figure).startswith(
        "published setting · PyTorch · edge: NVIDIA Jetson TX2 · cloud: this host · times measured"
    )
    assert "in place of" not in face(figure)


def test_times_of_several_kinds_are_told_apart(tmp_path: Path) -> None:
    entry, folders = throughput(tmp_path)
    path = folders[-1] / "result.json"
    spec = json.loads(path.read_text())
    spec["spec"]["timing"] = "measured"
    path.write_text(json.dumps(spec))
    figure, _ = drawn(entry, folders)
    assert "times measured: All-edge" in face(figure)
    assert "times emulated: Context-aware, Feature replay, Serial split" in face(figure)


def test_too_short_a_run_names_the_figure_and_writes_nothing(tmp_path: Path) -> None:
    folder = make_split_run(tmp_path / "a", staleness=5, taken=[1.0] * 12)
    with pytest.raises(ConfigError, match=r"figure x: .*iterations\.csv: no 2 steps in a row"):
        draw("x", entry_of("throughput"), [folder], {}, {"testing": "exclude"}, tmp_path / "x.pdf")
    assert not list(tmp_path.glob("x.*"))


def test_verb_needs_no_stand_ins_and_no_runs_where_its_kind_has_none(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    entry, _ = example("split_simulated", tmp_path)
    out = tmp_path / "simulated.pdf"
    words = ["--name", "simulated", "--entry", json.dumps(entry), "--out", str(out)]
    assert cli.main(parser.parse_args(words)) == 0
    assert sorted(p.suffix for p in tmp_path.glob("simulated*")) == [".csv", ".pdf", ".png"]


def test_loss_is_drawn_over_the_training_time(tmp_path: Path) -> None:
    entry, folders = example("split_loss", tmp_path)
    _, table = drawn(entry, folders)
    assert set(table["test_loss"]) == {0.5}
    assert set(table["scheme"]) == set(SCHEMES)


def test_samples_are_beside_what_was_wanted_and_say_what_they_are(tmp_path: Path) -> None:
    entry, (folder,) = generated(tmp_path)
    figure, table = drawn(entry, [folder])
    images = [axes for axes in figure.axes if axes.get_images()]
    assert len(images) == 7 + 7 + 4
    assert len(table) == 7 + 4
    assert table["squared error"].notna().sum() == 7
    assert table["style"].tolist()[-4:] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert "parametric chairs in place of Seeing 3D chairs" in face(figure)
    assert "views that were not trained" in face(figure)


def test_samples_that_are_missing_or_damaged_are_named(tmp_path: Path) -> None:
    entry, (folder,) = generated(tmp_path)
    content = dict(np.load(folder / "samples.npz"))
    np.savez(folder / "samples.npz", **content | {"wanted": content["wanted"][:, :8]})
    with pytest.raises(DataError, match=r"samples\.npz: wanted are no images of"):
        drawn(entry, [folder])
    (folder / "samples.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"samples\.npz cannot be read"):
        drawn(entry, [folder])
    (folder / "samples.npz").unlink()
    with pytest.raises(DataError, match="delete the folder, and the run is made again"):
        drawn(entry, [folder])


def test_every_kind_is_used_by_the_shipped_configuration() -> None:
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    entries = config["split"]["figures"].values()
    for entry in entries:
        check_split_entry(entry)
    assert {entry["kind"] for entry in entries} == set(SPLIT_KINDS)
