"""What Snakemake says before anything runs: plans, and errors in what was asked for."""

from pathlib import Path

import pytest
import yaml

from core import config as settings

from .conftest import ROOT, Call

PAPER = f"--configfile={ROOT / 'config' / 'paper.yaml'}"


def demo() -> settings.Config:
    content: settings.Config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    return content


@pytest.mark.parametrize("scale", [[], [PAPER], [PAPER, "--config", "device=jetson_tx2"]])
def test_every_figure_can_be_planned_at_each_scale(snakemake: Call, scale: list[str]) -> None:
    targets = [f"figures/{name}.pdf" for name in settings.figures(demo())]
    planned = snakemake(*targets, "--dry-run", "--quiet", *scale)
    assert planned.returncode == 0, planned.stdout
    assert len(targets) == 12


def test_the_published_experiment_is_planned_with_its_own_data_and_model(snakemake: Call) -> None:
    words = ("figures/fig15a.pdf", "--dry-run", PAPER, "--config", "device=jetson_tx2")
    said = snakemake(*words).stdout
    assert "Training elastic-rho0.533-seed0 of resnet50-caltech_birds2011 on jetson_tx2." in said
    assert "Fetching and preparing data set caltech_birds2011 at 224 pixels." in said
    assert "Fetching pretrained weights of resnet50." in said


def test_a_device_out_of_reach_ends_the_workflow_before_anything_runs(
    snakemake: Call, tmp_path: Path
) -> None:
    ended = snakemake("figures/fig15a.pdf", PAPER, "--config", "device=jetson_tx2")
    assert ended.returncode != 0
    assert "device = 'jetson_tx2': runs cannot be sent to a device yet" in ended.stdout
    assert "On the device itself, use `--config device=local`" in ended.stdout
    assert not (tmp_path / "results").exists()


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
        "figures: {f: {kind: curves, y: test_loss, model: resnet50, dataset: stanford_dogs,"
        " schemes: [fulll]}}",
        "figures.f.schemes.0 = 'fulll': unknown scheme (known: elastic, full, head, bn_bias",
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
    assert "there is no figure 'fig15z' (known: fig15a, fig15a_ego," in ended.stdout


def test_each_device_has_one_slot_in_the_default_profile() -> None:
    profile = yaml.safe_load((ROOT / "profiles" / "default" / "profile.yaml").read_text())
    devices = settings.read_devices(ROOT / "config" / "devices")
    assert sorted(profile["resources"]) == [f"slot_{name}=1" for name in sorted(devices)]


def test_figures_of_one_setting_share_their_runs() -> None:
    figures = settings.figures(demo())
    assert figures["fig15a"].runs == figures["fig15d"].runs
    assert set(figures["fig15a_ego"].runs) < set(figures["fig15a"].runs)


def test_a_run_is_named_by_what_it_is_and_read_back_from_its_name() -> None:
    for figure in settings.figures(demo()).values():
        for key in figure.runs:
            assert settings.RunKey.parse(key.task, key.name) == key
