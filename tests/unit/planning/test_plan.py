import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import config as settings
from core.cli import main
from core.config import campaign
from core.elastic.schemes import SCHEMES
from core.elastic.timing import Tensor, Timing
from core.errors import ConfigError
from core.planning import plan
from core.planning.configuration import PROJECT, read
from core.planning.estimate import Estimate, estimate
from core.planning.jobs import figures_of, missing_fetches, planned
from core.planning.room import room, snapshot_bytes
from core.results import TRAINING_SECONDS, seconds
from core.spec import RunSpec
from core.training.snapshot import Snapshot, Snapshots

PAPER = PROJECT / "config/paper.yaml"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def row(taken: float, testing: float = 1.0) -> dict[str, Any]:
    """Of an epoch that trains so many seconds."""
    found: dict[str, Any] = dict.fromkeys(TRAINING_SECONDS, taken / len(TRAINING_SECONDS))
    return found | {"testing_s": testing, "epoch": 1, "test_accuracy": 0.5}


def finish(folder: Path, spec: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "epochs.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (folder / "result.json").write_text(json.dumps({"spec": json.loads(json.dumps(spec))}))


def by_scheme(runs: list[Any]) -> dict[str, Any]:
    return {run.spec["scheme"]["name"]: run for run in runs}


# The configuration.


def test_files_and_words_go_over_one_another_as_in_snakemake(tmp_path: Path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("training: {epochs: 7}\nelastic: {rho: 0.6}\n")
    config = read([mine], ["seed=3", "training={batch: 8}"])
    shipped = read([], [])
    assert config["training"] == shipped["training"] | {"epochs": 7, "batch": 8}
    assert (config["elastic"]["rho"], config["seed"]) == (0.6, 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["seed"], "write KEY=VALUE"), (["sead=3"], "unknown key 'sead'"), (["seed={"], "--config")],
)
def test_a_configuration_that_the_workflow_would_refuse_is_refused(words: list[str], said: str):
    with pytest.raises(ConfigError, match=said):
        read([], words)


@pytest.mark.parametrize("content", ["- seed", "seed"])
def test_a_file_without_settings_is_refused(tmp_path: Path, content: str):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(ConfigError, match=r"mine\.yaml: must be sections and settings"):
        read([tmp_path / "mine.yaml"], [])


@pytest.mark.parametrize("content", ["5", "[1]", "{"])
def test_a_damaged_record_or_result_counts_as_none(content: str):
    (run,) = planned(read([], []), ["fig15a_ego"])
    run.folder.mkdir(parents=True)
    (run.folder / "result.json").write_text(content)
    plan.RECORD.write_text(content)
    assert planned(read([], []), ["fig15a_ego"])[0].state == "to do"
    assert plan.recorded() == {}


def test_targets_are_figures_or_groups_by_any_of_their_names():
    config = read([], [])
    assert figures_of(config, ["figures/fig15a.pdf", "fig19a"]) == ["fig15a", "fig19a"]
    assert figures_of(config, ["fig19"]) == ["fig19a", "fig19b", "fig19c", "fig19d"]
    assert "split_replay" in figures_of(config, [])
    with pytest.raises(ConfigError, match=r"no figure or group 'fig99' \(known: "):
        figures_of(config, ["fig99"])


def test_a_run_that_several_figures_share_is_planned_once():
    config = read([], [])
    names = [run.folder for run in planned(config, ["fig15a", "fig15d", "fig17a"])]
    figures = settings.figures(config)
    keys = {key for name in ("fig15a", "fig15d", "fig17a") for key in figures[name].runs}
    assert len(names) == len(set(names)) == len(keys)


# States.


def test_a_run_counts_as_finished_only_with_the_settings_of_now():
    config = read([], [])
    (run,) = planned(config, ["fig15a_ego"])
    assert run.state == "to do"
    finish(run.folder, run.spec, [row(1)])
    assert planned(config, ["fig15a_ego"])[0].state == "finished"
    assert planned(read([], ["training={epochs: 9}"]), ["fig15a_ego"])[0].state == "to do"


def test_a_run_under_way_goes_by_its_own_epochs():
    (run,) = planned(read([], []), ["fig15a_ego"])
    digest = RunSpec(run.spec).digest
    Snapshots(run.folder.with_name(run.folder.name + ".snapshots"), "x", digest).save(
        60, Snapshot({"a": np.zeros(3)}, {"rows": [row(100), row(80)]})
    )
    (run,) = planned(read([], []), ["fig15a_ego"])
    assert run.state == "under way"
    found = estimate(run)
    assert found.how == "own epochs"
    assert found.hours == pytest.approx(3 * (101 + 81) / 2 / 3600)  # of five epochs


def test_snapshots_of_other_settings_are_no_progress():
    (run,) = planned(read([], []), ["fig15a_ego"])
    rows = [row(1)] * run.epochs
    snapshots = run.folder.with_name(run.folder.name + ".snapshots")
    Snapshots(snapshots, "x", RunSpec(run.spec).digest).save(60, Snapshot({}, {"rows": rows}))
    finish(run.folder, run.spec, rows)
    changed = planned(read([], ["training={test_batch: 9}"]), ["fig15a_ego"])[0]
    assert (changed.state, changed.rows) == ("to do", [])


# Estimates.


def test_a_run_like_finished_ones_takes_their_time_in_the_ratio_of_the_budgets():
    config = read([], [])
    runs = planned(config, ["fig17a"])
    elastic = [run for run in runs if run.spec["scheme"]["name"] == "elastic"]
    done, other = elastic[0], elastic[-1]
    finish(done.folder, done.spec, [row(50), row(50)])
    runs = planned(config, ["fig17a"])
    found = estimate(next(r for r in runs if r.folder == other.folder))
    ratio = other.spec["scheme"]["rho"] / done.spec["scheme"]["rho"]
    assert found.how == "like runs"
    assert found.hours == pytest.approx(5 * ratio * 51 / 3600)


@pytest.fixture
def profiled() -> Callable[[], dict[str, Any]]:
    """The runs of figure 15a with data and a profile: full step 2 s, forward 0.8 s."""

    def make() -> dict[str, Any]:
        runs = by_scheme(planned(read([], []), ["fig15a"]))
        spec = runs["full"].spec
        folder = Path(spec["data"]["folder"])
        folder.mkdir(parents=True)
        np.save(folder / "train_labels.npy", np.zeros(320, np.int64))
        np.save(folder / "test_labels.npy", np.zeros(64, np.int64))
        tensors = tuple(
            Tensor(f"t{i}", (2,), kind, i == 3, f"t{i}")
            for i, kind in enumerate(("kernel", "bias", "norm", "kernel"))
        )
        quarter = np.full(4, 0.1)
        timing = Timing(tensors, quarter, quarter, quarter, 0.8, 2.0, 0.0, 0.0)
        timing.save(Path(spec["profile"]))
        return runs

    return make


def test_a_profile_gives_the_step_of_each_scheme(profiled):
    runs = profiled()
    steps = {scheme: estimate(run) for scheme, run in runs.items()}
    assert {found.how for found in steps.values()} == {"profile"}
    testing = 64 / 32 * 0.8
    whole = {scheme: 3600 * found.hours / 5 - testing for scheme, found in steps.items()}
    assert whole["elastic"] == pytest.approx(10 * 0.5 * 2.0)
    timing = Timing.load(Path(runs["full"].spec["profile"]))
    for scheme in ("full", "head", "bn_bias"):
        mask = np.array(SCHEMES[scheme].trains(timing.tensors))
        assert whole[scheme] == pytest.approx(10 * timing.predict(mask))


def test_finished_runs_of_other_schemes_calibrate_a_profile_that_was_measured_beside_other_work(
    profiled,
):
    runs = profiled()
    before = {scheme: estimate(run).hours for scheme, run in runs.items()}
    # The profile says twice of what an epoch of `full` takes, and a little less of `head`.
    for scheme, share in (("full", 0.5), ("head", 0.6)):
        taken = share * 3600 * before[scheme] / 5
        finish(runs[scheme].folder, runs[scheme].spec, [row(taken - 1)] * 5)
    after = {scheme: estimate(runs[scheme]) for scheme in ("elastic", "bn_bias")}
    assert {(found.how, found.runs) for found in after.values()} == {("calibrated", 2)}
    for scheme, found in after.items():
        assert found.hours == pytest.approx(0.55 * before[scheme])
    said = plan.text(plan.summary([runs["elastic"]], {runs["elastic"].folder: after["elastic"]}))
    assert "calibrated: what the profile says, by 2 finished runs of other schemes" in said
    # Runs of its own scheme know more.
    finish(runs["elastic"].folder.with_name("elastic-rho0.5-seed7"), runs["elastic"].spec, [row(9)])
    assert estimate(runs["elastic"]).how == "like runs"


def test_runs_of_other_settings_and_damaged_ones_calibrate_nothing(profiled):
    runs = profiled()
    wider = by_scheme(planned(read([], ["training={batch: 16}"]), ["fig15a"]))["full"]
    finish(wider.folder, wider.spec, [row(9)] * 5)
    damaged = runs["head"].folder
    damaged.mkdir(parents=True)
    (damaged / "result.json").write_text("{}")
    assert estimate(runs["elastic"]).how == "profile"


def test_the_paper_tells_of_its_own_setting_and_of_nothing_else():
    config = read([PAPER], ["device=published"])
    runs = by_scheme(planned(config, ["fig15a"]))
    found = {scheme: estimate(run) for scheme, run in runs.items()}
    assert found["full"].how == "published"
    assert found["full"].hours == pytest.approx(3.59, abs=0.01)
    assert found["elastic"].hours == pytest.approx(1.92, rel=0.02)
    (demo,) = planned(read([], []), ["fig15a_ego"])
    assert estimate(demo).how == "unknown"
    assert estimate(demo).hours is None


def test_an_archive_that_several_data_sets_share_is_counted_once(tmp_path: Path):
    runs = planned(read([], []), ["fig15a", "fig15b"])
    found = missing_fetches(runs)
    assert found["elpv"] == 90801454
    assert found["elpv_mono"] == 0
    here = tmp_path / "results/downloads/elpv_dataset-1.0.0.post1-py3-none-any.whl"
    here.parent.mkdir(parents=True)
    here.touch()
    assert missing_fetches(runs)["elpv"] == 0


# The verb.


def test_estimates_are_held_against_what_runs_took(profiled, capsys):
    run = profiled()["full"]
    plan._record([run], {run.folder: estimate(run)})
    kept = json.loads(plan.RECORD.read_text())
    assert plan.checked(kept) == "no run that was planned has finished yet"
    time.sleep(0.01)
    finish(run.folder, run.spec, [row(20, testing=5)] * 5)
    # Ten steps without what the deepest tensor would hand on (0.1 of 2 s), and testing.
    planned_s, taken_s = 5 * (10 * 1.9 + 1.6), 5 * 25.0
    found = plan.errors(kept)[run.folder.as_posix()]
    assert found[:2] == pytest.approx((planned_s / 3600, taken_s / 3600))
    assert "profile: median error 18% over 1 runs, worst 18%" in plan.checked(kept)
    assert "median error 18% over 1 runs" in plan.checked(kept).splitlines()[-1]


def test_a_plan_needs_no_framework_and_says_what_is_missing():
    program = (
        "import sys; from core.cli import main; code = main(sys.argv[1:]);"
        "assert not {'torch', 'tensorflow'} & set(sys.modules); sys.exit(code)"
    )
    words = ["plan", "fig15a", "split_weights", "--json"]
    ended = subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True, text=True, env={"PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    content = json.loads(ended.stdout)
    assert (content["finished"], len(content["runs"]), content["unknown"]) == (0, 5, 5)
    assert content["human_minutes"] == plan.COMMAND_MINUTES
    assert set(content["fetches"]) == {"elpv", "efficientnet_lite0", "movie_snippets"}
    said = plan.text(content)
    assert "5 runs have no estimate before their device is profiled" in said
    assert "elpv, 91 MB" in said


def test_seconds_of_epochs_count_training_testing_and_snapshots_whatever_was_trained():
    assert seconds([row(10, testing=2) | {"snapshot_s": 1}] * 2) == pytest.approx(26)
    split = {"training_s": "5", "snapshot_s": "1", "testing_s": "", "moving_s": "3"}
    assert seconds([split]) == pytest.approx(6)


def test_a_run_that_differs_in_the_seed_alone_tells_more_than_one_of_other_settings():
    def codecs(seed: int) -> list[Any]:
        return planned(read([], [f"seed={seed}"]), ["split_codecs"])

    fast, slow = codecs(seed=7)[:2]
    assert fast.spec["scheme"] != slow.spec["scheme"]
    split = {"training_s": 5, "snapshot_s": 0, "testing_s": 0}
    finish(fast.folder, fast.spec, [split])
    asked = next(run for run in codecs(0) if run.spec["scheme"] == slow.spec["scheme"])
    assert estimate(asked).hours == pytest.approx(asked.epochs * 5 / 3600)  # the only one there is
    finish(slow.folder, slow.spec, [split | {"training_s": 50}])
    found = estimate(asked)
    assert (found.how, found.hours) == ("like runs", pytest.approx(asked.epochs * 50 / 3600))


# Room, and what is kept.


def test_the_published_scale_with_settings_of_ones_own_is_refused():
    with pytest.raises(ConfigError, match="scale = paper is the published setting"):
        read([], ["scale=paper"])


def test_a_finished_run_of_another_figure_or_seed_tells_of_this_one_and_one_of_other_steps_not():
    (run,) = planned(read([], ["seed=7"]), ["fig15a_ego"])
    finish(run.folder, run.spec, [row(50), row(70)])
    (other,) = planned(read([], []), ["fig15a_ego"])
    assert estimate(other).how == "like runs"
    assert estimate(other).hours == pytest.approx(5 * 61 / 3600)
    (wider,) = planned(read([], ["training={batch: 16}"]), ["fig15a_ego"])
    assert estimate(wider).how == "unknown"


def test_a_split_run_takes_both_of_its_devices_and_one_without_a_cloud_takes_one(capsys):
    words = ["--config", "split={edge: {device: jetson_tx2}, cloud: {device: raspberry_pi_5}}"]
    config = read([], words[1:])
    runs = by_scheme(planned(config, ["split_accuracy"]))
    assert runs["replay"].devices == ("jetson_tx2", "raspberry_pi_5")
    assert runs["all_edge"].devices == ("jetson_tx2",)
    assert main(["plan", "split_accuracy", *words, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert set(content["device_hours"]) == {"jetson_tx2", "raspberry_pi_5"}
    assert content["human_minutes"] == 2 + 2 * 30
    assert main(["plan", "split_accuracy", *words]) == 0
    assert "jetson_tx2 + raspberry_pi_5 to do" in capsys.readouterr().out


def test_the_disk_holds_data_as_prepared_weights_archives_and_two_snapshots_of_each_run():
    runs = planned(read([PAPER], ["device=published"]), ["fig15a_ego"])
    weights = 94765736
    found = room(runs)
    images = (5994 + 5794) * 224 * 224 * 3
    assert found["bytes"] == images + 2 * weights + 2 * 2 * weights
    assert found["unknown"] == 1  # the archive of the data set
    said = plan.text(plan.summary(runs, {run.folder: estimate(run) for run in runs}))
    assert "disk: 2.3 GB and 1 things of unknown size; free here: " in said


def test_a_profile_says_how_large_snapshots_are(profiled):
    # Four tensors of two numbers each, with a slot for each number, twice.
    assert snapshot_bytes(profiled()["full"]) == 4 * 2 * 4 * 2 * 2


def test_samples_are_those_that_were_published_while_the_data_are_not_here():
    runs = by_scheme(planned(read([PAPER], []), ["fig15a"]))
    spec = runs["full"].spec
    tensors = (Tensor("t", (2,), "kernel", True, "t"),)
    one = np.full(1, 0.4)
    timing = Timing(tensors, one, one, one, 0.8, 2.0, 0.0, 0.0)
    timing.save(Path(spec["profile"]))
    found = estimate(runs["full"])
    assert found.how == "profile"
    step = timing.predict(np.ones(1, dtype=bool))
    assert found.hours == pytest.approx(12 * (5994 // 4 * step + 5794 / 4 * 0.8) / 3600)


def test_the_first_estimate_is_kept_until_one_of_a_better_kind_or_other_settings():
    (run,) = planned(read([], []), ["fig15a_ego"])

    def kept(hours: float, how: Any, one: Any = run) -> float:
        plan._record([one], {one.folder: Estimate(hours, how)})
        return float(plan.recorded()[run.folder.as_posix()]["hours"])

    assert kept(4, "published") == 4
    assert kept(5, "published") == 4
    assert kept(3, "profile") == 3
    assert kept(2, "published") == 3
    (other,) = planned(read([], ["training={epochs: 9}"]), ["fig15a_ego"])
    assert kept(9, "published", other) == 9


def test_an_outcome_of_other_settings_is_not_held_against_a_plan():
    (run,) = planned(read([], []), ["fig15a_ego"])
    plan._record([run], {run.folder: Estimate(1.0, "profile")})
    (other,) = planned(read([], ["training={epochs: 9}"]), ["fig15a_ego"])
    time.sleep(0.01)
    finish(other.folder, other.spec, [row(20)])
    assert plan.errors(plan.recorded()) == {}
    finish(run.folder, run.spec, [row(20)])
    assert list(plan.errors(plan.recorded())) == [run.folder.as_posix()]


def test_a_campaign_is_planned_with_each_of_its_seeds(capsys):
    once = read([], ["seeds=1"])
    every = figures_of(once, [])
    folders = {key.folder(once) for key in campaign(once)}
    assert folders == {run.folder.as_posix() for run in planned(once, every)}
    config = read([], ["seeds=2", "seed=5"])
    runs = planned(config, every, config["seeds"])
    assert {run.spec["seed"] for run in runs} == {5, 6}
    assert len(runs) == 2 * len(folders) == len(campaign(config))
    assert main(["plan", "campaign", "--config", "seeds=2", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 2 * len(folders)
