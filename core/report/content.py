"""What the page says: figures with the claims about them, and every run with where it came from."""

import base64
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import config as settings
from core.claims.table import Row
from core.declared import Config
from core.errors import CoreError
from core.planning.estimate import whole_seconds


@dataclass(frozen=True)
class Picture:
    """A figure that was drawn. png, csv: as data URIs. claims: rows about it."""

    name: str
    png: str
    csv: str | None
    claims: list[Row]


@dataclass(frozen=True)
class RunLine:
    """A finished run, in words."""

    folder: str
    scale: str
    device: str
    timing: str
    hours: float
    resumed: int
    commit: str
    digest: str  # of its spec
    versions: str
    processor: str
    peak_mib: float | None
    joules: float | None


def pictures(config: Config, folder: Path, claims: Sequence[Row]) -> list[Picture]:
    """The configured figures whose picture is there, in the order of the configuration."""
    found = []
    for name in settings.figures(config):
        png, table = folder / f"{name}.png", folder / f"{name}.csv"
        if png.exists():
            data = _uri(table, "text/csv") if table.exists() else None
            own = [row for row in claims if row["figure"] == name]
            found.append(Picture(name, _uri(png, "image/png"), data, own))
    return found


def _uri(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def runs(results: Path) -> list[RunLine]:
    """Every finished run below a folder; one that cannot be read is left out."""
    found = []
    for path in sorted(results.glob("*/*/**/result.json")):
        try:
            found.append(_line(path))
        except (CoreError, OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _line(path: Path) -> RunLine:
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    origin, spec = result["provenance"], result["spec"]
    measure = result.get("measure") or {}
    energy, memory = measure.get("energy") or {}, measure.get("memory") or {}
    return RunLine(
        folder=path.parent.as_posix(),
        scale=str(spec["scale"]),
        device=str(origin["device"]),
        timing=str(origin["kind"]),
        hours=whole_seconds(path.parent) / 3600,
        resumed=int(result.get("resumed", 0)),
        commit=str(result.get("commit") or "not known"),
        digest=str(origin.get("digest", "not known")),
        versions=", ".join(f"{k} {v}" for k, v in (result.get("versions") or {}).items()),
        processor=str((result.get("machine") or {}).get("processor") or "not known"),
        peak_mib=None if memory.get("why") else memory.get("peak_mib", result.get("peak_mib")),
        joules=energy.get("joules"),
    )


def totals(lines: Sequence[RunLine]) -> dict[str, Any]:
    """Sums over all runs."""
    joules = [line.joules for line in lines if line.joules is not None]
    return {
        "runs": len(lines),
        "hours": sum(line.hours for line in lines),
        "timings": dict(Counter(line.timing for line in lines)),
        "scales": dict(Counter(line.scale for line in lines)),
        "joules": sum(joules) if joules else None,
        "commits": sorted({line.commit[:12] for line in lines}),
        "versions": sorted({line.versions for line in lines if line.versions}),
        "processors": sorted({line.processor for line in lines}),
    }
