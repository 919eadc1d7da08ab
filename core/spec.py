"""The run spec: one file that says everything about one run."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from core import RECIPE, schema
from core.elastic.schemes import SCHEMES
from core.errors import ConfigError
from core.federated.schemes import check_scheme as check_federated_scheme
from core.files import write_text
from core.split.schemes import check_scheme as check_split_scheme

# What alters no number of the training: words, how often snapshots are written, and what is
# recorded beside it.
_WORDING = ("title", "snapshot_minutes", "measure", "meter")


def check_scheme(content: dict[str, Any], path: Path) -> None:
    """Raises ConfigError unless the scheme has the settings that it takes, and no others."""
    scheme = content["scheme"]
    if scheme["name"] not in SCHEMES:
        known = schema.suggestion(scheme["name"], list(SCHEMES))
        raise ConfigError(f"{path}: scheme.name = {scheme['name']!r}: unknown scheme ({known})")
    own = {key: value for key, value in scheme.items() if key != "name"}
    section = SCHEMES[scheme["name"]].settings
    if section:
        schema.check(own, section, [path])
    elif own:
        raise ConfigError(f"{path}: scheme {scheme['name']} has no settings, not {list(own)}")


@dataclass(frozen=True)
class Kind:
    """schema: of core/schemas, that a spec of this kind has. device: section with the device that
    a run is counted on. check: what no schema can say. Raises ConfigError."""

    schema: str
    device: str
    check: Callable[[dict[str, Any], Path], None]


KINDS = {
    "elastic": Kind("run", "device", check_scheme),
    "split": Kind("split_run", "edge", check_split_scheme),
    "federated": Kind("federated_run", "server", check_federated_scheme),
}


@dataclass(frozen=True)
class RunSpec:
    """A checked run spec. `content` has the shape that the schema of its kind says."""

    content: dict[str, Any]

    @classmethod
    def load(cls, path: Path, kind: str | None = None) -> "RunSpec":
        """Read and check. kind: the one that it must be of. Raises ConfigError that names the key,
        or the recipe that differs."""
        spec = cls.checked(schema.read_yaml(path), path)
        if kind not in (None, spec["kind"]):
            raise ConfigError(f"{path}: kind is {spec['kind']!r}; this command takes {kind!r}")
        return spec

    @classmethod
    def checked(cls, content: Any, path: Path) -> "RunSpec":
        """The spec with this content, checked. path: what errors name."""
        name = content.get("kind") if isinstance(content, dict) else None
        # Of a kind that there is not, the schema of the first one says so.
        where = [path] if path.exists() else []  # else it comes from the configuration
        schema.check(content, KINDS.get(str(name), KINDS["elastic"]).schema, where)
        if content["recipe"] != RECIPE:
            raise ConfigError(
                f"{path}: recipe {content['recipe']} is not that of this version of core "
                f"({RECIPE}); delete the spec and let Snakemake write it again"
            )
        KINDS[content["kind"]].check(content, path)
        return cls(content)

    def save(self, path: Path) -> None:
        write_text(path, yaml.safe_dump(self.content, sort_keys=False, allow_unicode=True))

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    @property
    def device(self) -> str:
        """Name of the device that the run is counted on: that of the edge, or of the server."""
        return str(self[KINDS[self["kind"]].device]["name"])

    @property
    def digest(self) -> str:
        """Names what the run computes: the same for the same spec, on any machine.

        What changes no number is left out: titles, how often snapshots are written, how the run is
        measured.
        """
        text = json.dumps(_without_wording(self.content), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def _without_wording(content: Any) -> Any:
    if isinstance(content, list):
        return [_without_wording(item) for item in content]
    if not isinstance(content, dict):
        return content
    return {k: _without_wording(v) for k, v in content.items() if k not in _WORDING}
