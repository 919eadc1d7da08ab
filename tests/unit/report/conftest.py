"""A small campaign as it lies in a folder when it is over: runs, and a figure of them."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from core import config as settings
from core.figures.draw import draw
from core.planning.configuration import DEVICES, read

FIGURE = "fig15a"
SECONDS = "data_s forward_s backward_update_s compile_s selection_s testing_s".split()
OTHERS = (
    "train_loss train_accuracy test_loss selected_tensors selected_parameters multiply_adds"
    " snapshot_s"
).split()


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a campaign whose runs trained for three epochs at demo scale."""
    monkeypatch.chdir(tmp_path)
    config = read([], [])
    figure = settings.figures(config)[FIGURE]
    for number, key in enumerate(figure.runs, start=1):
        record(Path(key.folder(config)), settings.run_spec(config, key, DEVICES), number)
    testing = {"testing": config["time_axis"]["testing"]}
    folders = [Path(folder) for folder in figure.folders(config)]
    draw(FIGURE, figure.entry, folders, config["stand_ins"], testing, Path(f"figures/{FIGURE}.pdf"))
    return tmp_path


def record(folder: Path, spec: dict[str, Any], number: int) -> None:
    """A finished run, slower and better than those with smaller numbers."""
    folder.mkdir(parents=True)
    origin = {"device": "local", "kind": "measured", "digest": f"{number:064x}"}
    content = {
        "spec": spec,
        "provenance": origin,
        "versions": {"tensorflow": "2.15.1", "numpy": "1.26.4"},
        "commit": "0123456789abcdef",
        "machine": {"processor": "A processor of the tests"},
        "resumed": number - 1,
        "measure": {"memory": {"peak_mib": 900.0 + number}},
        "best": {"epoch": 3, "test_accuracy": 0.7 + number / 20},
        "tensors": ["head/kernel"],
        "selections": [],
    }
    (folder / "result.json").write_text(json.dumps(content))
    with (folder / "epochs.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["epoch", "test_accuracy", *OTHERS, *SECONDS])
        table.writeheader()
        for epoch in (1, 2, 3):
            row = dict.fromkeys(OTHERS, 0.5) | dict.fromkeys(SECONDS, float(number))
            accuracy = 0.4 + 0.1 * epoch + number / 20
            table.writerow(row | {"epoch": epoch, "test_accuracy": accuracy})
