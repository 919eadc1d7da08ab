"""From run folders to files: PDF, PNG and CSV, what they say and what is refused."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core.errors import ConfigError
from core.figures import style
from core.figures.draw import compose, draw
from core.figures.results import Settings, read_run

MakeRun = Callable[..., Path]
INCLUDE = {"testing": "include"}


def face(entry: dict[str, Any], folders: list[Path], stand_ins: dict[str, str]) -> str:
    """The note on the face of the figure, in one line."""
    with style.applied():
        runs = [read_run(folder) for folder in folders]
        figure, _ = compose(entry, runs, Settings(stand_ins, testing=True))
    return figure.texts[-1].get_text().replace("\n", " ")


def test_pdf_embeds_true_type_fonts_and_has_no_date(
    entry: dict[str, Any], four_runs: list[Path], stand_ins: dict[str, str], tmp_path: Path
) -> None:
    draw("fig15a", entry, four_runs, stand_ins, INCLUDE, tmp_path / "f" / "fig15a.pdf")
    pdf = (tmp_path / "f" / "fig15a.pdf").read_bytes()
    assert all(present in pdf for present in (b"%PDF-", b"/FontFile2", b"DejaVuSans"))
    assert not any(absent in pdf for absent in (b"/Type3", b"CreationDate"))


def test_png_is_one_column_at_200_dpi(
    entry: dict[str, Any], four_runs: list[Path], stand_ins: dict[str, str], tmp_path: Path
) -> None:
    draw("fig15a", entry, four_runs, stand_ins, INCLUDE, tmp_path / "fig15a.pdf")
    with Image.open(tmp_path / "fig15a.png") as image:
        assert image.width == 700
    assert sorted(p.suffix for p in tmp_path.glob("fig15a*")) == [".csv", ".pdf", ".png"]


@pytest.mark.parametrize("testing", ["include", "exclude"])
def test_csv_holds_exactly_the_numbers_of_the_picture(
    entry: dict[str, Any],
    four_runs: list[Path],
    stand_ins: dict[str, str],
    tmp_path: Path,
    testing: str,
) -> None:
    draw("fig15a", entry, four_runs, stand_ins, {"testing": testing}, tmp_path / "fig15a.pdf")
    table = pd.read_csv(tmp_path / "fig15a.csv")
    assert ",".join(table) == "scheme,label,rho,seed,epoch,hours,quantity,y,timing,run"
    with style.applied():
        runs = [read_run(folder) for folder in four_runs]
        figure, _ = compose(entry, runs, Settings(stand_ins, testing == "include"))
    seconds = {"include": [22.5, 35.5, 51.75], "exclude": [20.5, 31.5, 45.25]}[testing]
    for i, line in enumerate(figure.axes[0].get_lines()):
        rows = table[table["label"] == line.get_label()]
        assert rows["epoch"].tolist() == [1, 2, 3]
        assert (rows["hours"] / (1 / 3600)).tolist() == np.asarray(line.get_xdata()).tolist()
        assert rows["y"].tolist() == np.asarray(line.get_ydata()).tolist()
        assert (3600 * rows["hours"]).tolist() == pytest.approx(
            [(1 + 0.3 * i) * s for s in seconds]
        )
        assert set(rows["run"]) == {four_runs[i].as_posix()}
    assert table["rho"].dropna().tolist() == [0.5] * 3
    assert set(table["timing"]) == {"measured"}


def test_face_says_scale_device_stand_ins_and_kind_of_times(
    entry: dict[str, Any], four_runs: list[Path], stand_ins: dict[str, str]
) -> None:
    assert face(entry, four_runs, stand_ins) == (
        "demo scale · TensorFlow this host, Intel Xeon Processor @ 2.10GHz, in place of Jetson TX2 "
        "times measured EfficientNet-Lite0 in place of ResNet50 · elpv in place of CUB-200-2011"
    )


def test_published_setting_on_a_board_has_no_stand_ins(
    entry: dict[str, Any], make_run: MakeRun
) -> None:
    published = {
        "scale": "paper",
        "device": {"name": "jetson_tx2", "title": "NVIDIA Jetson TX2", "timing": "simulated"},
        "model": {"name": "resnet50"},
        "data": {"name": "caltech_birds2011"},
    }
    folders = [make_run(scheme, **published) for scheme in entry["schemes"]]
    same = {"caltech_birds2011": "caltech_birds2011", "resnet50": "resnet50"}
    assert (
        face(entry, folders, same)
        == "published setting · TensorFlow · NVIDIA Jetson TX2 · times simulated"
    )


@pytest.mark.parametrize(
    ("processor", "published", "said"),
    [
        ("NVIDIA Jetson TX2 Developer Kit", "jetson_tx2", False),
        ("Raspberry Pi 4 Model B Rev 1.4", "raspberry_pi_4b", False),
        ("Raspberry Pi 4 Model B Rev 1.4", "jetson_tx2", True),
    ],
)
def test_board_that_runs_by_itself_is_the_published_one(
    entry: dict[str, Any],
    make_run: MakeRun,
    stand_ins: dict[str, str],
    processor: str,
    published: str,
    said: bool,
) -> None:
    folder = make_run("full")
    path = folder / "result.json"
    path.write_text(path.read_text().replace("Intel(R) Xeon(R) Processor @ 2.10GHz", processor))
    text = face(entry | {"schemes": ["full"], "device": published}, [folder], stand_ins)
    assert (", in place of Jetson TX2" in text) == said
    assert f"this host, {processor}" in text


def test_device_without_a_known_name_is_named_as_in_the_entry(
    entry: dict[str, Any], make_run: MakeRun, stand_ins: dict[str, str]
) -> None:
    text = face(entry | {"schemes": ["full"], "device": "my_board"}, [make_run()], stand_ins)
    assert ", in place of my_board" in text


def test_times_of_several_kinds_are_each_named(
    entry: dict[str, Any], make_run: MakeRun, stand_ins: dict[str, str]
) -> None:
    folders = [make_run("elastic"), make_run("full", device={"timing": "simulated"})]
    text = face(entry | {"schemes": ["elastic", "full"]}, folders, stand_ins)
    assert "times measured: ElasticTrainer (ρ = 50 %) · times simulated: Full training" in text


def test_drawing_again_in_another_process_gives_the_same_bytes(
    entry: dict[str, Any], four_runs: list[Path], stand_ins: dict[str, str], tmp_path: Path
) -> None:
    draw("fig15a", entry, four_runs, stand_ins, INCLUDE, tmp_path / "a" / "fig15a.pdf")
    code = (
        "import json, sys; from pathlib import Path; from core.figures.draw import draw;"
        "entry, runs, stand_ins, out = json.loads(sys.argv[1]);"
        "runs = [Path(run) for run in runs];"
        "draw('fig15a', entry, runs, stand_ins, {'testing': 'include'}, Path(out))"
    )
    out = tmp_path / "b" / "fig15a.pdf"
    given = json.dumps([entry, [str(folder) for folder in four_runs], stand_ins, str(out)])
    subprocess.run(
        [sys.executable, "-c", code, given],
        check=True,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
    )
    for suffix in (".pdf", ".png", ".csv"):
        one, two = (
            hashlib.sha256((tmp_path / side / f"fig15a{suffix}").read_bytes()).hexdigest()
            for side in "ab"
        )
        assert one == two, suffix


def test_ego_figure_draws_elastic_trainer_alone(
    entry: dict[str, Any], make_run: MakeRun, stand_ins: dict[str, str], tmp_path: Path
) -> None:
    alone = entry | {"schemes": ["elastic"]}
    draw("fig15a_ego", alone, [make_run("elastic")], stand_ins, INCLUDE, tmp_path / "e.pdf")
    assert set(pd.read_csv(tmp_path / "e.csv")["scheme"]) == {"elastic"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"scale": "paper"}, "figure x: runs of more than one scale: demo (.*); paper (.*)"),
        (
            {"device": {"name": "pi", "title": "Raspberry Pi 4B"}},
            "figure x: runs of more than one device: this host, .*; Raspberry Pi 4B",
        ),
        ({"data": {"name": "flowers"}}, "figure x: .*full has data flowers, the figure is of "),
        ({"model": {"name": "vgg16"}}, "figure x: .*full has model vgg16, the figure is of "),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(
    entry: dict[str, Any],
    make_run: MakeRun,
    stand_ins: dict[str, str],
    tmp_path: Path,
    spec: dict[str, Any],
    message: str,
) -> None:
    folders = [make_run("elastic"), make_run("full", **spec)]
    two = entry | {"schemes": ["elastic", "full"]}
    with pytest.raises(ConfigError, match=message):
        draw("x", two, folders, stand_ins, INCLUDE, tmp_path / "x.pdf")
    assert not list(tmp_path.glob("x.*"))


def test_times_of_two_hosts_are_not_put_side_by_side(
    entry: dict[str, Any], make_run: MakeRun, stand_ins: dict[str, str], tmp_path: Path
) -> None:
    folders = [make_run("elastic"), make_run("full")]
    path = folders[1] / "result.json"
    path.write_text(path.read_text().replace("Intel(R) Xeon(R)", "AMD EPYC"))
    with pytest.raises(ConfigError, match=r"more than one device: this host, Intel .*AMD EPYC"):
        draw("x", entry, folders, stand_ins, INCLUDE, tmp_path / "x.pdf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "pie"}, "figure x: kind is 'pie', allowed: curves"),
        ({"kind": None}, "figure x: kind is None, allowed: curves"),
        ({"y": ["speed"]}, "figure x: y is 'speed', allowed: test_accuracy, test_loss"),
        ({"y": ["hours"]}, "figure x: y is 'hours', allowed: test_accuracy, test_loss"),
        (
            {"y": ["test_accuracy", "test_loss"]},
            "figure x: y is test_accuracy, test_loss; kind curves shows one",
        ),
        ({"y": []}, "figure x: y is empty; kind curves shows one"),
        (
            {"model": ["resnet50", "vgg16"]},
            "figure x: model is resnet50, vgg16; kind curves draws one",
        ),
        ({"longer": {}}, "figure x: key longer, which kind curves does not have"),
        (
            {"kind": "bars", "y": ["hours", "test_accuracy", "teraflops"]},
            "figure x: y is hours, test_accuracy, teraflops; kind bars shows one or two",
        ),
    ],
)
def test_bad_entry_is_refused(
    entry: dict[str, Any],
    four_runs: list[Path],
    stand_ins: dict[str, str],
    tmp_path: Path,
    change: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        draw("x", entry | change, four_runs, stand_ins, INCLUDE, tmp_path / "x.pdf")


def test_missing_key_no_run_and_wrong_suffix_are_refused(
    entry: dict[str, Any], four_runs: list[Path], stand_ins: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "x.pdf"
    short = {key: value for key, value in entry.items() if key not in ("y", "model")}
    with pytest.raises(ConfigError, match="figure x: no key model, y, which kind curves needs"):
        draw("x", short, four_runs, stand_ins, INCLUDE, out)
    with pytest.raises(ConfigError, match="figure x: no run to draw"):
        draw("x", entry, [], stand_ins, INCLUDE, out)
    with pytest.raises(ConfigError, match=re.escape("figure x: the output must end in .pdf")):
        draw("x", entry, four_runs, stand_ins, INCLUDE, tmp_path / "x.png")
