"""Whole runs through the command line: stopped in every way, they end as if they never were."""

import csv
import json
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from core import machine
from core.elastic import run as elastic_run
from core.elastic.run import snapshot_folder
from core.elastic.timing import Timing
from core.spec import RunSpec

METRICS = (
    *("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy"),
    *("selected_tensors", "selected_parameters", "multiply_adds"),
)
STEPS = 18  # three epochs of six batches


@pytest.fixture
def profiled(spec: RunSpec, tmp_path: Path) -> RunSpec:
    """The spec with a profile of round numbers, so that the selection does not depend on noise."""
    train = elastic_run.open_split(Path(spec["data"]["folder"]), "train")
    backend = elastic_run.make_backend(spec, train)
    n = len(backend.tensors)
    thirds = {k: np.full(n, 0.6 / (3 * n)) for k in ("t_dw", "t_reach", "t_through")}
    whole = {"forward": 0.4, "full": 1.0, "spread": 0.0, "closure": 0.0}
    context = {key: spec["training"][key] for key in ("batch", "image_size")}
    context |= {"machine": machine.describe(), "taken_s": 0.0, "solver": []}
    timing = Timing(tuple(backend.tensors), **thirds, **whole, context=context)
    timing.save(Path(spec["profile"]))
    spec.save(tmp_path / "spec.yaml")
    return spec


def start(core_command: list[str], spec: Path, out: Path) -> subprocess.Popen[str]:
    command = [*core_command, "run", str(spec), "--out", str(out)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for_step(process: subprocess.Popen[str], out: Path, step: int) -> None:
    """Until a snapshot of at least this step is there."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        found = [int(f.name[5:14]) for f in snapshot_folder(out).glob("step-*.safetensors")]
        if found and max(found) >= step:
            return
        time.sleep(0.005)
    raise AssertionError(f"step {step} never came: {process.communicate()[1]}")


def assert_same_end(one: Path, other: Path) -> None:
    rows = []
    for out in (one, other):
        with (out / "epochs.csv").open() as file:
            rows.append([[row[name] for name in METRICS] for row in csv.DictReader(file)])
    assert rows[0] == rows[1]
    first, second = (
        load_file(max(snapshot_folder(out).glob("step-*.safetensors"))) for out in (one, other)
    )
    assert first.keys() == second.keys()
    assert [k for k in first if first[k].tobytes() != second[k].tobytes()] == []


@pytest.mark.slow
def test_a_run_stopped_in_every_way_ends_with_the_same_bits(profiled, core_command, tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    spec = tmp_path / "spec.yaml"
    process = start(core_command, spec, unbroken)
    _, said = process.communicate()
    assert process.returncode == 0, said

    seed = random.randrange(10**6)
    chance = random.Random(seed)
    ways = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
    chance.shuffle(ways)
    stops = sorted(chance.sample(range(1, STEPS - 1), len(ways)))
    print(f"seed {seed}: {list(zip(ways, stops, strict=True))}")
    for way, step in zip(ways, stops, strict=True):
        process = start(core_command, spec, broken)
        wait_for_step(process, broken, step)
        process.send_signal(way)
        _, said = process.communicate()
        assert process.returncode == (-way if way == signal.SIGKILL else 128 + way), said
        assert not (broken / "result.json").exists()
    process = start(core_command, spec, broken)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert "going on from a snapshot" in said

    assert_same_end(unbroken, broken)
    result = json.loads((broken / "result.json").read_text())
    assert result["selections"] == json.loads((unbroken / "result.json").read_text())["selections"]
    assert result["resumed"] == len(ways)
    assert "torch" in result["versions"]


@pytest.mark.slow
def test_a_run_that_exits_in_the_middle_of_a_step_ends_with_the_same_bits(
    profiled, tmp_path, monkeypatch
):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    elastic_run.run(profiled, unbroken)
    make, at = elastic_run.make_backend, random.randrange(1, STEPS)

    def exiting(*arguments):
        """Ends between the gradients of a step and its update."""
        backend = make(*arguments)
        update = backend._update

        def dying(*arguments):
            if backend._done == at:
                raise SystemExit(1)
            update(*arguments)

        backend._update = dying
        return backend

    monkeypatch.setattr(elastic_run, "make_backend", exiting)
    with pytest.raises(SystemExit):
        elastic_run.run(profiled, broken)
    monkeypatch.undo()
    elastic_run.run(profiled, broken)
    assert_same_end(unbroken, broken)


@pytest.mark.slow
def test_by_layers_a_run_selects_whole_layers_only(profiled, tmp_path):
    profiled.content["scheme"] |= {"granularity": "layer", "rho": 0.6}
    profiled.content["training"]["epochs"] = 1
    elastic_run.run(profiled, tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    layers = [t.layer for t in Timing.load(Path(profiled["profile"])).tensors]
    chosen = set(result["selections"][0]["tensors"])
    assert 0 < len(chosen) < len(layers)
    for layer in set(layers):
        members = {i for i, of in enumerate(layers) if of == layer}
        assert members <= chosen or not members & chosen, layer
    assert any(layers.count(layers[i]) > 1 for i in chosen)


@pytest.mark.slow
def test_a_profile_measured_through_the_command_line_closes_and_can_be_read(
    spec, core_command, tmp_path
):
    spec.save(tmp_path / "spec.yaml")
    command = [*core_command, "profile", str(tmp_path / "spec.yaml"), "--repeats", "3"]
    subprocess.run([*command, "--out", spec["profile"]], check=True)
    timing = Timing.load(Path(spec["profile"]))
    parts = timing.t_dw.sum() + timing.t_reach.sum() + timing.t_through.sum()
    assert parts == pytest.approx(timing.full - timing.forward)
    assert "torch" in timing.context["versions"]
    assert timing.context["framework"] == "torch"
