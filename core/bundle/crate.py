"""The description of a bundle as an RO-Crate (version 1.1): what each file is, what made it."""

import mimetypes
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from core import __version__

METADATA = "ro-crate-metadata.json"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
PROFILE = "https://w3id.org/ro/crate/1.1"
SOFTWARE = "#edge-training"
TYPES = {".yaml": "application/yaml", ".log": "text/plain", ".md": "text/markdown"}

Entity = dict[str, Any]


def metadata(
    sizes: Mapping[str, int], results: Mapping[str, Mapping[str, Any]], licence: str, at: float
) -> dict[str, Any]:
    """The crate. sizes: bytes of each file but this one. results: content of each result.json by
    its name. licence: an address. at: seconds since 1970."""
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    kinds = sorted({str(each["provenance"]["kind"]) for each in results.values()})
    scales = sorted({str(each["spec"]["scale"]) for each in results.values()})
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": "Training at the edge: a campaign",
        "description": (
            f"{len(results)} finished runs with what they are drawn and judged from. "
            f"Scale: {', '.join(scales)}. Times are {', '.join(kinds)}."
        ),
        "datePublished": date,
        "license": {"@id": licence},
        "hasPart": [{"@id": quote(name)} for name in sizes],
        "mentions": [{"@id": _action(name)} for name in results],
    }
    descriptor = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": {"@id": PROFILE},
        "about": {"@id": "./"},
    }
    software = {
        "@id": SOFTWARE,
        "@type": "SoftwareApplication",
        "name": "edge-training",
        "version": __version__,
    }
    terms = {"@id": licence, "@type": "CreativeWork", "name": licence.rsplit("/", 1)[-1]}
    files = [_file(name, size) for name, size in sizes.items()]
    runs = [_run(name, result, sizes) for name, result in results.items()]
    return {"@context": CONTEXT, "@graph": [descriptor, root, software, terms, *files, *runs]}


def _file(name: str, size: int) -> Entity:
    ending = name[name.rfind(".") :]
    kind = TYPES.get(ending) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return {
        "@id": quote(name),
        "@type": "File",
        "name": name,
        "contentSize": str(size),
        "encodingFormat": kind,
    }


def _run(name: str, result: Mapping[str, Any], files: Mapping[str, int]) -> Entity:
    """What made a result: the code, from the run's spec."""
    folder = name.removesuffix("result.json")
    spec = folder + "spec.yaml"
    made = [path for path in files if path.startswith(folder) and path != spec]
    origin = result["provenance"]
    return {
        "@id": _action(name),
        "@type": "CreateAction",
        "name": f"Training, {origin['kind']}, on {origin['device']}",
        "description": (
            f"commit {result.get('commit') or 'not known'}, spec {origin['digest']}, "
            f"recipe {origin['recipe']}, resumed {result.get('resumed', 0)} times"
        ),
        "instrument": {"@id": SOFTWARE},
        "object": [{"@id": quote(spec)}] if spec in files else [],
        "result": [{"@id": quote(path)} for path in made],
    }


def _action(name: str) -> str:
    return f"#{quote(name.removesuffix('/result.json'))}"
