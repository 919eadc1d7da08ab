"""The run spec: one file that says everything about one run."""

import copy
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from core import RECIPE, schema
from core.elastic.schemes import SCHEMES
from core.errors import ConfigError
from core.files import write_text


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
class RunSpec:
    """A checked run spec. `content` has the shape of core/schemas/run.schema.yaml."""

    content: dict[str, Any]

    @classmethod
    def load(cls, path: Path) -> "RunSpec":
        """Read and check. Raises ConfigError that names the key, or the recipe that differs."""
        content = schema.read_yaml(path)
        schema.check(content, "run", [path])
        if content["recipe"] != RECIPE:
            raise ConfigError(
                f"{path}: recipe {content['recipe']} is not that of this version of core "
                f"({RECIPE}); delete the spec and let Snakemake write it again"
            )
        check_scheme(content, path)
        return cls(content)

    def save(self, path: Path) -> None:
        write_text(path, yaml.safe_dump(self.content, sort_keys=False, allow_unicode=True))

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    @property
    def digest(self) -> str:
        """Names what the run computes: the same for the same spec, on any machine.

        What changes no number is left out: how often snapshots are written, and the device's
        title.
        """
        content = copy.deepcopy(self.content)
        del content["training"]["snapshot_minutes"], content["device"]["title"]
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
