"""Runs as jobs of Kubernetes, whose API a stand-in speaks: the same numbers, also when pods die."""

import csv
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.bench.slurm_cluster import wait

from .conftest import ROOT, snakemake_command
from .kubernetes import Cluster, Pod

PROFILE = ROOT / "profiles" / "kubernetes"
RUN = "results/tiny/local/federated/5g/centralised-seed0"
TRAINING = {"batch": 64, "epochs": 2, "steps": 12, "snapshot_minutes": 1e-6}
TINY = {"scale": "tiny", "federated": {"training": TRAINING}}


def shipped() -> dict[str, Any]:
    """What cluster.yaml makes, by kind."""
    return {
        part["kind"]: part for part in yaml.safe_load_all((PROFILE / "cluster.yaml").read_text())
    }


def test_what_the_cluster_is_given_is_what_the_profile_asks_for() -> None:
    made, profile = shipped(), yaml.safe_load((PROFILE / "profile.yaml").read_text())
    [volume] = profile["kubernetes-shared-persistent-volumes"]
    claim, _, path = volume.partition(":")
    assert made["PersistentVolumeClaim"]["metadata"]["name"] == claim
    assert made["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    pod = made["Pod"]["spec"]
    [shell], [mounted] = pod["containers"], pod["volumes"]
    assert mounted["persistentVolumeClaim"]["claimName"] == claim
    assert shell["volumeMounts"] == [{"name": mounted["name"], "mountPath": path}]
    assert shell["image"] == profile["container-image"]
    account = made["ServiceAccount"]["metadata"]["name"]
    assert pod["serviceAccountName"] == account
    assert made["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", "name": account}]
    assert made["RoleBinding"]["roleRef"]["name"] == made["Role"]["metadata"]["name"]


@pytest.fixture
def cluster(tmp_path: Path, environment: dict[str, str]) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    # Of this machine's environment, pods have what leads to packages.
    known = {name: environment[name] for name in environment if name.startswith(("PIP_", "DATA_"))}
    cluster = Cluster(folder, shipped()["Role"], known | {"PATH": os.defpath})
    cluster.start()
    yield cluster
    cluster.stop()


def on_kubernetes(folder: Path, *words: str) -> list[str]:
    command = [word for word in snakemake_command(folder, *words) if not word.startswith("--cores")]
    return [
        *command[:-1],
        f"--workflow-profile={PROFILE}",
        "--seconds-between-status-checks=1",
        "--latency-wait=5",
        "--kubernetes-shared-persistent-volumes",
        *(f"checkout:{ROOT}", f"work:{folder}"),
    ]


def numbers(folder: Path) -> list[dict[str, str]]:
    """Of every epoch, without times."""
    with (folder / RUN / "epochs.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if not k.endswith("_s")} for row in rows]


@pytest.mark.slow
def test_jobs_whose_pods_are_lost_or_killed_go_on_in_others_with_the_numbers_of_a_local_run(
    cluster: Cluster, environment: dict[str, str], tmp_path: Path
) -> None:
    there, here, log = tmp_path / "there", tmp_path / "here", tmp_path / "snakemake.log"
    there.mkdir()
    config = there / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    words = (f"{RUN}/result.json", f"--configfile={config}")
    reached = environment | {"KUBECONFIG": str(cluster.kubeconfig), "PYTHONPATH": str(PROFILE)}
    with log.open("w") as said:
        command = on_kubernetes(there, *words)
        running = subprocess.Popen(command, env=reached, stdout=said, stderr=said)

    def until(come: Callable[[], bool]) -> None:
        wait(lambda: come() or running.poll() is not None, 300)
        assert running.poll() is None, log.read_text()

    try:
        until(lambda: len(cluster.pods) == 1)  # fetches the data set
        cluster.running().lose()
        until(lambda: any((there / f"{RUN}.snapshots").rglob("step-*")))
        cluster.running().kill()
        assert running.wait(300) == 0, log.read_text()
    finally:
        running.kill()
    result = json.loads((there / RUN / "result.json").read_text())
    assert result["resumed"] == 1
    # Each once more than on a cluster that loses nothing; specs are written where Snakemake runs.
    assert [pod.exit_code for pod in cluster.pods.values()] == [137, 0, 137, 0]
    assert cluster.refused == []
    assert cluster.deleted == {name for name, pod in cluster.pods.items() if not pod.lost}
    for pod in cluster.pods.values():
        assert_reads_volumes_only(pod)

    shutil.copytree(there / "results/data", here / "results/data")
    subprocess.run(snakemake_command(here, *words), env=environment, check=True)
    assert numbers(here) == numbers(there)


def assert_reads_volumes_only(pod: Pod) -> None:
    """What its command names lies on a volume; it asks for one core and, by its memory, a node."""
    inside = pod.job["spec"]["template"]["spec"]
    [container] = inside["containers"]
    claims = {each["name"]: each.get("persistentVolumeClaim") for each in inside["volumes"]}
    mounted = [m["mountPath"] for m in container["volumeMounts"] if claims[m["name"]]]
    named = re.findall(r"(?<![\w.=:/-])/[\w.-]+/[^\s'\"]*", " ".join(container["args"]))
    assert named
    assert [path for path in named if not path.startswith(tuple(mounted))] == []
    assert container["resources"]["requests"]["memory"] == "5000M"
    assert "limits" not in container["resources"]
    assert pod.job["spec"]["backoffLimit"] == 0  # Snakemake tries again, not the cluster
