"""The benchmark of chairs: which runs it needs, and what it makes of them."""

from pathlib import Path

import pytest

from core.bench import chairs, pipeline_runs
from core.figures.split_results import read_split_run
from core.split.config import SplitKey
from tests.unit.figures.split_recorded import make_split_run


def test_short_runs_are_of_every_context_and_all_edge_is_one() -> None:
    keys = chairs.short_keys(pipeline_runs.config())
    assert len(keys) == len(set(keys)) == 3 * len(chairs.CONTEXTS) + 1
    assert {key.options for key in keys} == {(("steps", chairs.STEPS),)}
    whole = chairs.whole_keys(pipeline_runs.config())
    assert len(whole) == len(chairs.TRAINED) * len(chairs.SEEDS)
    assert {key.seed for key in whole} == set(chairs.SEEDS)


def test_seconds_per_step_are_by_context_and_scheme(tmp_path: Path) -> None:
    taken = [9.0, *[0.5] * 19]
    run = read_split_run(make_split_run(tmp_path / "run", "serial", staleness=0, taken=taken))
    key = SplitKey("local", "chairs", "wifi", "serial", 0)
    assert chairs.step_seconds({key: run}) == {"wifi": {"serial": 0.5}}


def test_time_counts_to_the_first_epoch_as_good_as_the_worst_of_all(tmp_path: Path) -> None:
    folders = [make_split_run(tmp_path / str(seed), "serial", seed=seed) for seed in (0, 1)]
    for folder, (first, last) in zip(folders, ((0.4, 0.2), (0.3, 0.25)), strict=True):
        file = folder / "epochs.csv"
        one, two = (line.split(",") for line in file.read_text().splitlines()[1:])
        one[3], two[3] = str(first), str(last)
        header = file.read_text().splitlines()[0]
        file.write_text("\n".join([header, ",".join(one), ",".join(two)]) + "\n")
    runs = [read_split_run(folder) for folder in folders]
    found = chairs.training(runs)
    assert found["target_loss"] == 0.25
    assert found["serial"]["final_loss"] == {"mean": 0.225, "lowest": 0.2, "highest": 0.25}
    whole = 3600 * runs[0].hours(testing=False)[-1]
    assert found["serial"]["seconds_to_target"]["highest"] == pytest.approx(whole, abs=0.1)
