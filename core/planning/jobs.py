"""What is there and what is to be done: runs of figures, with their specs and their states."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from core import config as settings
from core.data import catalog
from core.declared import Config
from core.errors import ConfigError
from core.planning.configuration import DEVICES
from core.schema import suggestion
from core.spec import RunSpec
from core.split.sides import CLOUD, is_alone
from core.training import run_folder

DOWNLOADS = Path("results/downloads")
State = Literal["finished", "under way", "to do"]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Planned:
    """A run: where it goes, what it computes, how far it is. device: that its folder is named
    after. rows: of its finished epochs."""

    folder: Path
    device: str
    spec: dict[str, Any]
    state: State
    rows: Rows

    @property
    def epochs(self) -> int:
        return int(self.spec["training"]["epochs"])

    @property
    def kind(self) -> str:
        return str(self.spec["kind"])

    @property
    def devices(self) -> tuple[str, ...]:
        """All that it takes while it runs: of split training, that of the cloud too."""
        if self.kind != "split" or is_alone(self.spec):
            return (self.device,)
        return tuple(dict.fromkeys((self.device, str(self.spec[CLOUD]["name"]))))

    def entries(self) -> Iterator[tuple[str, Path]]:
        """Data set and weights of the catalog, with the folder of each."""
        yield self.spec["data"]["name"], Path(self.spec["data"]["folder"])
        if self.spec["model"].get("weights"):
            folder = Path(self.spec["model"]["weights"])
            yield folder.name, folder

    def profiles(self) -> list[Path]:
        """Those that it needs."""
        found = self.spec.get("profile", {})
        if isinstance(found, str):
            return [Path(found)]
        return [Path(path) for path in found.values() if self.spec["scheme"]["cut"] is None]


def planned(config: Config, names: Sequence[str], seeds: int = 1) -> list[Planned]:
    """The runs of these figures, each once with each of so many seeds."""
    return [
        looked_at(Path(key.folder(config)), key.device, settings.run_spec(config, key, DEVICES))
        for key in settings.runs(config, names, seeds)
    ]


def figures_of(config: Config, targets: Sequence[str]) -> list[str]:
    """Names of figures, from names of figures or groups, with or without `figures/` and `.pdf`;
    all without any. Raises ConfigError."""
    known, groups = settings.figures(config), settings.targets(config)
    wanted: dict[str, None] = {}
    for target in targets or known:
        name = target.removeprefix("figures/").removesuffix(".pdf")
        if name not in known and name not in groups:
            every = suggestion(name, [*known, *groups])
            raise ConfigError(f"there is no figure or group {target!r} ({every})")
        wanted |= dict.fromkeys(groups.get(name, (name,)))
    return list(wanted)


def looked_at(folder: Path, device: str, spec: dict[str, Any]) -> Planned:
    """How far a run is."""
    result = _json(folder / "result.json")
    digest = RunSpec(spec).digest
    if "spec" in result and RunSpec(result["spec"]).digest == digest:
        return Planned(folder, device, spec, "finished", [])
    rows = _rows_of_snapshot(run_folder.snapshots(folder), digest)
    return Planned(folder, device, spec, "under way" if rows else "to do", rows)


def _rows_of_snapshot(folder: Path, digest: str) -> Rows:
    """Of the newest snapshot of a spec that says so; training arrays are not read."""
    files = folder.rglob("step-*.safetensors")  # of every side, of which one counts epochs
    for file in sorted(files, key=lambda file: file.name, reverse=True):
        try:
            with safe_open(file, "numpy") as content:
                metadata = content.metadata() or {}
            if metadata["spec"] == digest:
                return list(json.loads(metadata["progress"])["rows"])
        except (SafetensorError, OSError, KeyError, ValueError, TypeError):
            continue
    return []


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def missing_fetches(runs: Sequence[Planned]) -> dict[str, int | None]:
    """Data sets and weights that are not there, with the bytes to download for each: an archive
    that is here, or that another one brings, is not counted again. None where nobody said."""
    found: dict[str, int | None] = {}
    here = {path.name for path in DOWNLOADS.rglob("*")} if DOWNLOADS.is_dir() else set()
    for run in runs:
        for name, folder in run.entries():
            missing = run.state != "finished" and not (folder / "manifest.json").exists()
            if missing and name not in found:
                found[name] = _download(catalog.entry(name).sources, here)
    return found


def _download(sources: Sequence[Any], here: set[str]) -> int | None:
    """Bytes of the first source that says how many; its file is then among those `here`."""
    for source in sources:
        if size := getattr(source, "size", None):
            name = Path(source.filename).name
            fresh = name not in here
            here.add(name)
            return int(size) if fresh else 0
    return None
