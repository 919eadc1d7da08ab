from pathlib import Path

import pandas as pd
import pytest

from core import schema
from core.bench.time_to_accuracy import analyse, profiles, run_folders
from core.figures.results import Run
from core.results import TRAINING_SECONDS

CONFIG = Path(__file__).parents[3] / "config/config.yaml"


def recorded(scheme: str, seed: int, seconds: float, accuracies: list[float]) -> Run:
    """A run with epochs of equal length, and as much testing beside."""
    epochs = pd.DataFrame({"test_accuracy": accuracies})
    for part in (*TRAINING_SECONDS, "testing_s"):
        epochs[part] = seconds / len(TRAINING_SECONDS)
    spec = {"seed": seed, "scheme": {"name": scheme}}
    return Run(Path(f"{scheme}-{seed}"), spec, {}, epochs)


RUNS = [
    recorded("elastic", 0, 5, [0.70, 0.80, 0.86]),
    recorded("elastic", 1, 5, [0.60, 0.79, 0.85]),
    recorded("full", 0, 10, [0.73, 0.82, 0.90]),
    recorded("full", 1, 10, [0.50, 0.81, 0.84]),
    recorded("head", 0, 2, [0.60, 0.70, 0.80]),
    recorded("head", 1, 2, [0.65, 0.80, 0.81]),
]


def test_time_runs_to_the_end_of_the_first_epoch_that_is_good_enough_without_testing():
    assert 3600 * RUNS[0].hours_to(70) == pytest.approx(5)
    assert 3600 * RUNS[0].hours_to(70.1) == pytest.approx(10)
    assert 3600 * RUNS[0].hours_to(86) == pytest.approx(15)


def test_accuracy_is_that_of_the_best_epoch_with_its_spread_over_seeds():
    found = analyse(RUNS)["best_accuracy"]
    assert found["full"] == {"mean": 87, "lowest": 84, "highest": 90}
    assert found["head"] == {"mean": 80.5, "lowest": 80, "highest": 81}


def test_targets_are_shares_of_what_every_run_reaches():
    targets = {share: found["accuracy"] for share, found in analyse(RUNS)["to"].items()}
    assert targets == {"90%": 72, "95%": 76, "100%": 80}


def test_the_speed_up_compares_runs_of_the_same_seed():
    found = analyse(RUNS)["to"]["90%"]
    # At 72 %: elastic 10 and 10 s, full 10 and 20 s, head 6 and 4 s.
    assert found["seconds"]["full"] == {"mean": 15, "lowest": 10, "highest": 20}
    assert found["speedup_of_elastic"] == {
        "full": {"mean": 1.5, "lowest": 1, "highest": 2},
        "head": {"mean": 0.5, "lowest": 0.4, "highest": 0.6},
    }


def test_the_runs_are_those_of_both_figures_with_three_seeds():
    folders = run_folders(schema.read_yaml(CONFIG))
    assert len(folders) == len(set(folders)) == 18
    names = {Path(folder).name.rpartition("-seed") for folder in folders}
    assert {seed for *_, seed in names} == {"0", "1", "2"}
    assert {scheme.partition("-")[0] for scheme, *_ in names} == {
        "elastic", "full", "head", "bn_bias", "elastic_weight", "elastic_grad",
    }  # fmt: skip


def test_they_share_one_profile():
    assert profiles(schema.read_yaml(CONFIG)) == [
        "results/demo/local/tensorflow/profiles/efficientnet_lite0-elpv.json"
    ]
