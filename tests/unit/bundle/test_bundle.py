import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.bundle import archive
from core.bundle.cli import LICENCE
from core.bundle.contents import contents
from core.cli import main
from core.errors import DataError
from core.planning.configuration import PROJECT, read
from core.planning.jobs import planned
from core.spec import RunSpec

RUN = "results/demo/local/tensorflow/efficientnet_lite0-elpv/elastic-rho0.5-seed0"


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a finished run, a figure, and what does not belong into a bundle."""
    folder = tmp_path / "campaign"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (run,) = planned(read([], []), ["fig15a_ego"])
    assert run.folder.as_posix() == RUN
    result = {
        "spec": run.spec,
        "provenance": {
            "digest": RunSpec(run.spec).digest, "kind": "measured", "device": "local", "recipe": 2,
        },
        "commit": "0123456789abcdef",
    }  # fmt: skip
    files = {
        f"{RUN}/spec.yaml": "spec",
        f"{RUN}/result.json": json.dumps(result),
        f"{RUN}/epochs.csv": "epoch\n1\n",
        f"{RUN}.snapshots/step-1.safetensors": "weights",
        f"{RUN}/.result.json.12.tmp": "half",
        "results/data/elpv-96/manifest.json": "{}",
        "results/data/elpv-96/train_images.npy": "pixels",
        "results/downloads/elpv.whl": "archive",
        "results/claims.md": "# Claims",
        "figures/fig15a_ego.csv": "a,b\n",
        "logs/run.log": "here",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    os.utime(folder / RUN / "spec.yaml", (1.25e9, 1.25e9 + 0.5))
    return folder


@pytest.fixture
def bundle(campaign: Path, tmp_path: Path) -> Path:
    out = tmp_path / "campaign.tar.gz"
    archive.write(contents(read([], ["seed=0"]), logs=True), LICENCE, out)
    return out


def names(bundle: Path) -> set[str]:
    with tarfile.open(bundle) as packed:
        return set(packed.getnames())


def test_a_bundle_holds_results_and_not_what_can_be_fetched_or_goes_on(bundle: Path):
    held = names(bundle)
    ours = {name for name in held if name.startswith(("results", "figures", "logs", "provenance"))}
    assert ours == {
        f"{RUN}/spec.yaml", f"{RUN}/result.json", f"{RUN}/epochs.csv", "results/claims.md",
        "figures/fig15a_ego.csv", "logs/run.log", "provenance/results/data/elpv-96/manifest.json",
    }  # fmt: skip
    others = {"configuration.yaml", "config/claims.yaml", "envs/main.txt", "envs/tensorflow.txt"}
    others |= {"config/devices/jetson_tx2.yaml", "config/contexts/wifi.yaml"}
    assert others | {"LICENSE", "ro-crate-metadata.json", "checksums.sha256"} <= held
    assert not any("hosts.yaml" in name for name in held)


def test_logs_can_be_left_out(campaign: Path):
    assert not any(name.startswith("logs") for name in contents(read([], []), logs=False))


def test_it_unpacks_to_the_same_bytes_at_the_same_times(bundle: Path, campaign: Path):
    there = bundle.with_name("there")
    archive.unpack(bundle, there)
    for name in archive.verify(there):
        if (campaign / name).exists():
            assert (there / name).read_bytes() == (campaign / name).read_bytes()
    assert (there / RUN / "spec.yaml").stat().st_mtime == 1.25e9 + 0.5
    with pytest.raises(DataError, match="there is not empty: name a new folder"):
        archive.unpack(bundle, there)


def test_the_crate_describes_every_file_and_what_made_the_results(bundle: Path):
    with tarfile.open(bundle) as packed:
        file = packed.extractfile("ro-crate-metadata.json")
        assert file
        crate = json.load(file)
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    assert len(entities) == len(crate["@graph"])
    descriptor, root = entities["ro-crate-metadata.json"], entities["./"]
    assert descriptor["about"] == {"@id": "./"}
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert {"name", "description", "datePublished", "license"} <= root.keys()
    parts = {part["@id"] for part in root["hasPart"]}
    assert parts == names(bundle) - {"ro-crate-metadata.json", "checksums.sha256"}
    assert all(entities[part]["@type"] == "File" for part in parts)
    (action,) = [entities[each["@id"]] for each in root["mentions"]]
    assert action["object"] == [{"@id": f"{RUN}/spec.yaml"}]
    assert {"@id": f"{RUN}/result.json"} in action["result"]
    assert "commit 0123456789abcdef" in action["description"]
    used = [ref["@id"] for e in crate["@graph"] for ref in _references(e)]
    assert {ref for ref in used if ref not in entities} == {descriptor["conformsTo"]["@id"]}


def _references(entity: dict[str, Any]) -> list[dict[str, str]]:
    values = [v for value in entity.values() for v in (value if type(value) is list else [value])]
    return [value for value in values if isinstance(value, dict)]


def repacked(bundle: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    """The same archive with each file as `change` gives it back, or without it."""
    out = bundle.with_name("changed.tar.gz")
    with tarfile.open(bundle) as old, tarfile.open(out, "w:gz") as new:
        for entry in old:
            file = old.extractfile(entry)
            assert file
            if (changed := change(entry.name, file.read())) is not None:
                entry.name, content = changed
                entry.pax_headers = {}
                entry.size = len(content)
                new.addfile(entry, io.BytesIO(content))
    return out


def one_byte(wanted: str) -> Callable[[str, bytes], tuple[str, bytes]]:
    def change(name: str, content: bytes) -> tuple[str, bytes]:
        return name, bytes([content[0] ^ 1]) + content[1:] if name == wanted else content

    return change


@pytest.mark.parametrize(
    "name", [f"{RUN}/result.json", f"{RUN}/epochs.csv", "envs/main.txt", "ro-crate-metadata.json"]
)
def test_a_changed_byte_is_named(bundle: Path, name: str):
    with pytest.raises(DataError, match=f"{name} was changed since it was bundled"):
        archive.verify(repacked(bundle, one_byte(name)))


def test_what_is_missing_and_what_does_not_belong_is_named(bundle: Path):
    lost = repacked(bundle, lambda n, c: None if n == "LICENSE" else (n, c))
    with pytest.raises(DataError, match="LICENSE is missing"):
        archive.verify(lost)
    added = repacked(bundle, lambda n, c: ("results/x.csv", c) if n == "LICENSE" else (n, c))
    with pytest.raises(DataError, match="LICENSE is missing"):
        archive.verify(added)
    bare = repacked(bundle, lambda n, c: None if n == "checksums.sha256" else (n, c))
    with pytest.raises(DataError, match=r"has no checksums\.sha256: it is no bundle"):
        archive.verify(bare)
    with tarfile.open(bundle) as old:
        listed = old.extractfile("checksums.sha256")
        assert listed
        lines = listed.read().decode().splitlines()
    short = "\n".join(line for line in lines if not line.endswith("  LICENSE"))

    def unlisted(name: str, content: bytes) -> tuple[str, bytes]:
        return name, short.encode() if name == "checksums.sha256" else content

    with pytest.raises(DataError, match="LICENSE does not belong to the bundle"):
        archive.verify(repacked(bundle, unlisted))


@pytest.mark.parametrize("name", ["../evil", "/evil", "results/../../evil"])
def test_a_name_that_leads_elsewhere_is_refused_and_nothing_is_written(bundle: Path, name: str):
    bad = repacked(bundle, lambda n, c: (name, c) if n == "LICENSE" else (n, c))
    there = bundle.with_name("there")
    with pytest.raises(DataError, match="which is no file below it"):
        archive.unpack(bad, there)
    assert not there.exists()
    assert not (bundle.parent / "evil").exists()


def test_what_is_no_file_is_refused(bundle: Path):
    out = bundle.with_name("link.tar.gz")
    with tarfile.open(out, "w:gz") as packed:
        entry = tarfile.TarInfo("results/link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(entry)
    with pytest.raises(DataError, match="holds results/link, which is no file below it"):
        archive.verify(out)


@pytest.mark.parametrize("content", [b"", b"no archive", gzip.compress(b"no tar at all")])
def test_what_is_no_bundle_is_an_error_that_names_it(tmp_path: Path, content: bytes):
    path = tmp_path / "it.tar.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"it\.tar\.gz (cannot be read as|has no checksums)"):
        archive.verify(path)


@pytest.mark.parametrize("made", [float("inf"), float("nan"), -1.0])
def test_a_time_that_is_none_is_refused_before_anything_is_written(bundle: Path, made: float):
    out = bundle.with_name("time.tar.gz")
    with tarfile.open(out, "w:gz", format=tarfile.PAX_FORMAT) as packed:
        entry = tarfile.TarInfo("results/late")
        entry.pax_headers = {"mtime": str(made)}
        packed.addfile(entry)
    with pytest.raises(DataError, match="holds results/late, which is no file below it with a"):
        archive.unpack(out, bundle.with_name("there"))
    assert not bundle.with_name("there").exists()


def test_what_is_unpacked_is_not_unpacked_again(bundle: Path):
    there = bundle.with_name("there")
    archive.unpack(bundle, there)
    with pytest.raises(DataError, match="there is unpacked already"):
        archive.unpack(there, bundle.with_name("again"))


def test_a_truncated_bundle_is_an_error(bundle: Path):
    cut = bundle.with_name("cut.tar.gz")
    cut.write_bytes(bundle.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"cut\.tar\.gz"):
        archive.verify(cut)
    with pytest.raises(DataError, match="does not exist"):
        archive.verify(bundle.with_name("none.tar.gz"))


def test_a_result_whose_spec_is_not_the_one_that_ran_is_not_bundled(campaign: Path):
    path = campaign / RUN / "result.json"
    result = json.loads(path.read_text())
    result["spec"]["training"]["epochs"] = 99
    path.write_text(json.dumps(result))
    with pytest.raises(DataError, match=r"result\.json: its spec has the digest .* ran: it was"):
        contents(read([], []), logs=True)
    for digest in (None, 5):
        path.write_text(json.dumps(result | {"provenance": {"digest": digest}}))
        with pytest.raises(DataError, match=f"and {digest} ran: it was changed"):
            contents(read([], []), logs=True)
    path.write_text("{}")
    with pytest.raises(DataError, match=r"result\.json is not the result of a run"):
        contents(read([], []), logs=True)


def test_what_goes_while_it_is_bundled_is_left_out_unless_a_run_had_finished_with_it(
    campaign: Path, tmp_path: Path
):
    out = tmp_path / "one.tar.gz"
    found = contents(read([], []), logs=True)
    (campaign / "results/claims.md").unlink()
    archive.write(found, LICENCE, out)
    assert "results/claims.md" not in names(out)
    assert archive.verify(out)
    (campaign / RUN / "epochs.csv").unlink()
    with pytest.raises(DataError, match=r"epochs\.csv was removed meanwhile: its run is trained"):
        archive.write(found, LICENCE, tmp_path / "two.tar.gz")
    assert not (tmp_path / "two.tar.gz").exists()


def test_without_a_finished_run_there_is_nothing_to_bundle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="holds no finished run to bundle"):
        contents(read([], []), logs=True)


def test_the_verbs(campaign: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    out = tmp_path / "b.tar.gz"
    assert main(["bundle", "--out", str(out), "--no-logs", "--config", "seed=3"]) == 0
    assert main(["verify", str(out)]) == 0
    assert main(["verify", str(out), "--into", str(tmp_path / "new")]) == 0
    assert read([tmp_path / "new/configuration.yaml"], [])["seed"] == 3
    assert (tmp_path / "new/envs/main.txt").read_bytes() == (PROJECT / "envs/main.txt").read_bytes()
    assert "as they were bundled" in caplog.text
    (tmp_path / "new/LICENSE").write_text("mine")
    assert main(["verify", str(tmp_path / "new")]) == DataError.exit_code
