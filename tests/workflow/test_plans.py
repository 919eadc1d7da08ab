"""What Snakemake says before anything runs: plans, and errors in what was asked for."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from core import config as settings
from core.elastic import config as elastic_settings
from core.federated import config as federated_settings
from core.split import config as split_settings

from .conftest import ROOT, Call, jobs_planned

PAPER = f"--configfile={ROOT / 'config' / 'paper.yaml'}"


BOARD = ["--config", "device=published"]


def demo() -> settings.Config:
    content: settings.Config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    return content


def wanted(own: settings.Config) -> dict[str, int]:
    """Jobs of the plan of everything, counted from the configuration."""
    figures = elastic_settings.figures(own)
    keys = {key for figure in figures.values() for key in figure.runs}
    measured = {(key.device, key.task) for key in keys}
    models = {elastic_settings.MODELS[key.model].weights[own["framework"]] for key in keys}
    return {
        **wanted_of_split(own),
        **wanted_of_federated(own),
        "dataset": len({(key.dataset, None) for key in keys} | sizes_of_split(own)) + 1,
        "figure": len(settings.figures(own)),
        "run": len(keys),
        "run_spec": len(keys),
        "profile": len(measured),
        "profile_spec": len(measured),
        "weights": len(models),
    }


def sizes_of_split(own: settings.Config) -> set[tuple[str, int]]:
    """Data sets of split training, each in each size."""
    figures = split_settings.figures(own).values()
    tasks = [own["split"]["tasks"][key.task] for figure in figures for key in figure.runs]
    return {(task["dataset"], task["size"]) for task in tasks}


def wanted_of_federated(own: settings.Config) -> dict[str, int]:
    """The same of federated training."""
    figures = federated_settings.figures(own)
    keys = {key for figure in figures.values() for key in figure.runs}
    return {
        "federated_run": len(keys),
        "federated_run_spec": len(keys),
    }


def wanted_of_split(own: settings.Config) -> dict[str, int]:
    """The same of split training."""
    figures = split_settings.figures(own)
    keys = {key for figure in figures.values() for key in figure.runs}
    chosen = {key.task for key in keys if key.scheme in ("context_aware", "jointdnn")}
    chosen |= {figure.entry["task"] for figure in figures.values() if figure.profiles}
    return {
        "split_run": len(keys),
        "split_run_spec": len(keys),
        "split_profile": 2 * len(chosen),
        "split_profile_spec": 2 * len(chosen),
    }


def laid_over(base: Any, over: Any) -> Any:
    """As Snakemake lays one configuration over another."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return base | {key: laid_over(base.get(key), value) for key, value in over.items()}


@pytest.mark.parametrize(
    ("scale", "framework", "device"),
    [
        ("demo", "tensorflow", "local"),
        ("demo", "torch", "published"),
        ("paper", "torch", "local"),
        ("paper", "tensorflow", "published"),
    ],
)
def test_everything_can_be_planned_and_each_run_is_planned_once(
    snakemake: Call, scale: str, framework: str, device: str
) -> None:
    layer = [PAPER] if scale == "paper" else []
    own = demo()
    if layer:
        paper = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text())
        own = laid_over(own, paper)
    own |= {"framework": framework, "device": device}
    planned = snakemake(
        *("--dry-run", "--quiet", "rules", *layer),
        *("--config", f"framework={framework}", f"device={device}"),
    )
    assert planned.returncode == 0, planned.stdout
    jobs = jobs_planned(planned.stdout)
    assert jobs.pop("all") == 1
    assert jobs == wanted(own)


def test_the_campaign_is_every_figure_and_every_run_with_several_seeds(snakemake: Call) -> None:
    own = demo()
    jobs = jobs_planned(snakemake("campaign", "--dry-run", "--quiet", "rules").stdout)
    assert jobs.pop("campaign") == 1
    once = wanted(own)
    for name in ("run", "run_spec", "split_run", "split_run_spec"):
        once[name] *= own["seeds"]
    assert jobs == once
    assert own["seeds"] == 3


def test_groups_are_targets_that_share_what_their_figures_share(snakemake: Call) -> None:
    planned = snakemake("fig15", "fig19", "fig20", "--dry-run", "--quiet", "rules", PAPER)
    jobs = jobs_planned(planned.stdout)
    assert (jobs["fig15"], jobs["fig19"], jobs["fig20"]) == (1, 1, 1)
    assert jobs["figure"] == 6 + 4 + 2
    # Four schemes on three data sets; Figure 19: another budget for ResNet50, and three more
    # models with four schemes each; Figure 20: two more ways to select on two data sets.
    assert jobs["run"] == 4 * 3 + 1 + 3 * 4 + 2 * 2
    assert jobs["profile"] == 3 + 3
    assert jobs["weights"] == 4


def test_the_group_of_all_figures_holds_groups(snakemake: Call) -> None:
    planned = snakemake("elastic", "--dry-run", "--quiet", "rules", *BOARD)
    assert planned.returncode == 0, planned.stdout
    figures = settings.targets(demo())["elastic"]
    everywhere = demo() | {"device": "published"}
    keys = {key for name in figures for key in elastic_settings.figures(everywhere)[name].runs}
    jobs = jobs_planned(planned.stdout)
    assert (jobs["figure"], jobs["run"]) == (len(figures), len(keys))
    assert not {"fig15", "fig19"} & set(jobs)  # the figures are planned, not their groups


def test_the_published_experiment_is_planned_with_its_own_data_models_and_boards(
    snakemake: Call,
) -> None:
    words = ("figures/fig15a.pdf", "figures/fig19c.pdf", "--dry-run", PAPER, *BOARD)
    said = snakemake(*words).stdout
    assert "Training elastic-rho0.533-seed0 of resnet50-caltech_birds2011 on jetson_tx2." in said
    task = "mobilenet_v2-caltech_birds2011 on raspberry_pi_4b."
    assert f"Training elastic-rho0.4-seed0 of {task}" in said
    assert f"Training full-epochs24-seed0 of {task}" in said
    assert f"Profiling {task}" in said
    assert "Fetching and preparing data set caltech_birds2011 in size 224." in said
    assert "Fetching pretrained weights of vit_b16." in said
    # The same run trains on each board once.
    for board in ("jetson_tx2", "raspberry_pi_4b"):
        assert said.count(f"Training full-seed0 of resnet50-caltech_birds2011 on {board}.") == 1


def test_the_framework_decides_on_environment_weights_and_folder(snakemake: Call) -> None:
    words = ("figures/fig15a_ego.pdf", "--dry-run", "--printshellcmds", PAPER)
    said = snakemake(*words, "--config", "framework=torch").stdout
    assert "Fetching pretrained weights of resnet50_torch." in said
    assert '"$ENVS_ON" local main --log logs/paper/local/torch/' in said
    assert '"$ENVS_ON" local tensorflow' not in said


def test_a_model_with_an_image_size_of_its_own_gets_its_data_in_that_size(
    snakemake: Call, tmp_path: Path
) -> None:
    own = "model_training: {efficientnet_lite1: {image_size: 64}}"
    (tmp_path / "mine.yaml").write_text(own)
    words = ("figures/fig19a.pdf", "--dry-run", f"--configfile={tmp_path / 'mine.yaml'}")
    planned = snakemake(*words)
    assert "data set elpv in size 64." in planned.stdout
    assert "data set elpv in size 96." in planned.stdout
    assert jobs_planned(planned.stdout)["dataset"] == 2


def test_a_device_out_of_reach_ends_the_workflow_before_anything_runs(
    snakemake: Call, tmp_path: Path
) -> None:
    ended = snakemake("figures/fig15a.pdf", PAPER, "--config", "device=jetson_tx2")
    assert ended.returncode != 0
    assert "device = 'jetson_tx2': write into config/hosts.yaml where it is" in ended.stdout
    assert "On the device itself, use `--config device=local`" in ended.stdout
    assert not (tmp_path / "results").exists()
    # A job by itself says so too: `published` names a board for each figure.
    words = ["jetson_tx2", "main", "run", "spec.yaml", "--out", "x"]
    alone = subprocess.run([ROOT / "envs/on", *words], cwd=tmp_path, capture_output=True, text=True)
    assert alone.returncode == 2
    assert "jetson_tx2: config/hosts.yaml does not say where it is" in alone.stderr


def test_claims_are_written_from_what_is_there_and_train_nothing(
    snakemake: Call, tmp_path: Path
) -> None:
    ended = snakemake("claims", PAPER, "--config", "device=published")
    assert ended.returncode == 0, ended.stdout
    rows = json.loads((tmp_path / "results/claims.json").read_text())
    assert {row["verdict"] for row in rows} == {"not run"}
    planned = snakemake("-n", "claims", PAPER, "--config", "device=published").stdout
    assert jobs_planned(planned) == {}


BAD = {
    "unknown key": ("elastic: {roh: 0.5}", "unknown key 'elastic.roh' (known: ", "'rho'?"),
    "wrong type": ("training: {epochs: ten}", "training.epochs = 'ten': must be of type integer"),
    "rho of zero": ("elastic: {rho: 0}", "elastic.rho = 0: must be above 0 and at most 1"),
    "rho above one": ("elastic: {rho: 1.2}", "elastic.rho = 1.2: must be above 0 and at most 1"),
    "unknown device": ("device: jetson_tx3", "device = 'jetson_tx3': unknown device", "jetson_tx2"),
    "unknown model": (
        "stand_ins: {resnet50: resnet51}",
        "stand_ins.resnet50 = 'resnet51': unknown model",
        "did you mean 'resnet50'?",
    ),
    "unknown data set": (
        "stand_ins: {caltech_birds2011: elvp}",
        "stand_ins.caltech_birds2011 = 'elvp': unknown data set",
        "did you mean 'elpv'?",
    ),
    "unknown scheme": (
        "figures: {f: {kind: curves, y: [test_loss], model: [resnet50], dataset: [stanford_dogs],"
        " device: jetson_tx2, schemes: [fulll]}}",
        "figures.f.schemes.0 = 'fulll': unknown scheme (known: elastic, full, head, bn_bias",
    ),
    "figure of the form of an older version": (
        "figures: {fig15a: {y: test_loss}}",
        "figures.fig15a.y = 'test_loss': must be of type array",
    ),
    "group of an unknown figure": (
        "groups: {fig15: [fig15a, fg15b]}",
        "groups.fig15.1 = 'fg15b': unknown figure or group",
        "did you mean 'fig15b'?",
    ),
    "patches that do not fill the image": (
        "{stand_ins: {vit_b16: vit_b16}, training: {image_size: 100}}",
        "training.image_size = 100: ViT-B/16, for figure fig19a, takes multiples of 16: 96 or 112",
    ),
    "unknown framework": ("framework: caffe", "framework = 'caffe': must be one of tensorflow"),
    "unpublished paper setting": (
        "scale: paper",
        "scale = paper is the published setting, but stand_ins.caltech_birds2011 is 'elpv'",
    ),
    "optimiser without its settings": (
        "training: {optimiser: null}",
        "training.optimiser = None: must be of type object",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_in_the_configuration_is_named_before_anything_runs(
    snakemake: Call, tmp_path: Path, case: str
) -> None:
    text, *expected = BAD[case]
    (tmp_path / "mine.yaml").write_text(text)
    ended = snakemake("figures/fig15a.pdf", f"--configfile={tmp_path / 'mine.yaml'}")
    assert ended.returncode != 0
    for part in expected:
        assert part in ended.stdout
    if case != "unpublished paper setting":
        assert "mine.yaml: " in ended.stdout
    assert "Traceback" not in ended.stdout
    assert not (tmp_path / "results").exists()


def test_a_mistake_on_the_command_line_is_said_to_be_there(snakemake: Call) -> None:
    ended = snakemake("figures/fig15a.pdf", "--config", "device=lokal")
    assert "--config on the command line: device = 'lokal': unknown device" in ended.stdout


def test_an_unknown_figure_is_answered_with_those_there_are(snakemake: Call) -> None:
    ended = snakemake("figures/fig15z.pdf")
    assert ended.returncode != 0
    assert (
        "there is no figure 'fig15z' (known: chairs_loss, chairs_samples, din_auc," in ended.stdout
    )


ADDED = {
    "core/data/catalog.yaml": """
parts:
  kind: images
  title: Parts on our conveyor belt
  task: "classification: kind of a part"
  classes: 2
  splits: {how: published, train: 16, test: 8}
  licence: ours
  citation: none
  sources:
    - {kind: local}
""",
    "core/elastic/schemes.py": """
SCHEMES["biases"] = Scheme(
    Look("Biases", "#123456", "h", "-"), lambda tensors: [t.kind == "bias" for t in tensors]
)
""",
    "core/models/__init__.py": """
MODELS["mine"] = Model("Mine", _same("efficientnet_lite0"))
""",
    "config/devices/my_board.yaml": """
title: My board
processor: 4 × Cortex-A55
memory_gib: 4
threads: {intra_op: 0, inter_op: 1}
timing: measured
sensors: [none]
""",
    "mine.yaml": """
device: published
stand_ins: {caltech_birds2011: parts, resnet50: mine}
groups: {ours: [mine]}
figures:
  mine:
    kind: bars
    y: [hours]
    dataset: [caltech_birds2011]
    model: [resnet50]
    device: my_board
    schemes: [biases, elastic]
    vary: [{rho: [0.4, 0.6]}]
""",
}


def test_what_is_added_by_an_entry_each_is_planned_without_touching_a_rule(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    checkout = tmp_path / "checkout"
    for part in ("core", "config", "rules", "workflow", "profiles"):
        shutil.copytree(ROOT / part, checkout / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", checkout)
    for name, text in ADDED.items():
        with (checkout / name).open("a", encoding="utf-8") as file:
            file.write(text)
    words = ("ours", "--dry-run", "--cores=1", "--configfile=mine.yaml")
    planned = subprocess.run(
        ["snakemake", *words], cwd=checkout, env=environment, capture_output=True, text=True
    )
    said = planned.stdout + planned.stderr
    assert planned.returncode == 0, said
    assert jobs_planned(said)["run"] == 3
    assert "Training biases-seed0 of mine-parts on my_board." in said
    assert "Training elastic-rho0.6-seed0 of mine-parts on my_board." in said
    assert "Fetching and preparing data set parts in size 96." in said


@pytest.mark.parametrize(("name", "local"), [("default", 1), ("slurm", 100), ("kubernetes", 100)])
def test_each_board_has_one_slot_in_every_profile(name: str, local: int) -> None:
    profile = yaml.safe_load((ROOT / "profiles" / name / "profile.yaml").read_text())
    devices = settings.read_devices(ROOT / "config" / "devices")
    slots = {device: local if device == "local" else 1 for device in devices}
    assert sorted(profile["resources"]) == sorted(f"slot_{d}={n}" for d, n in slots.items())
