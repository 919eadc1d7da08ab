"""Profiles of edge and cloud, as files, and what they say each cut costs. Needs no framework."""

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

from core.errors import DataError
from core.models.blocks import CHAIR_INPUTS, NETWORKS
from core.split import codec
from core.split.costs import FLOAT32, Costs
from core.split.feedback import feedback
from core.split.sides import front_of

FORMAT = 2


def load(path: Path) -> dict[str, Any]:
    """A profile. Raises DataError when it is missing, damaged or of another format."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"not a profile of format {FORMAT}")
        return dict(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"profile {path} cannot be read ({error}); delete it, and the same command measures "
            "it again"
        ) from None


def input_bytes(spec: Any) -> int:
    """Of a raw batch, as it is uploaded where the whole network is in the cloud."""
    size, kind = spec["data"]["size"], NETWORKS[spec["model"]["name"]].kind
    sample = {"images": 3 * size * size, "text": 4 * size, "chairs": FLOAT32 * CHAIR_INPUTS}[kind]
    return int(spec["training"]["batch"] * sample)


def costs_of(spec: Any) -> Costs:
    """What each cut costs, from the profiles that the spec names. Raises DataError."""
    scheme, decision = spec["scheme"], spec["scheme"]["decision"] or {}
    names = ["none", scheme["uplink"], scheme["downlink"]]
    names += [*decision.get("uplink", []), *decision.get("downlink", [])]
    edge, cloud = (load(Path(spec["profile"][side])) for side in ("edge", "cloud"))
    for side, found in (("edge", edge), ("cloud", cloud)):
        found["slowdown"] = spec[side]["slowdown"]
    kept = feedback(scheme["feedback"])
    lossy = [name for name in dict.fromkeys(names) if not codec.make(name).lossless]
    costs = Costs.from_profiles(
        edge,
        cloud,
        dict.fromkeys(names),
        input_bytes(spec),
        codec.encoded_bytes,
        decoded=lossy if kept.corrects or kept.carries else (),
        front=front_of(spec),
        carries=kept.carries,
    )
    largest = [largest_mib(spec, shape[1:]) for shape in edge["feature_shapes"]]
    return costs.without([cut for cut, mib in enumerate(largest) if mib > codec.LIMIT_MIB])


def largest_batch(spec: Any) -> int:
    """Samples of the largest batch, of training or tests."""
    return int(max(spec["training"]["batch"], spec["training"]["test_batch"]))


def largest_mib(spec: Any, shape: Sequence[int], itemsize: int = FLOAT32) -> float:
    """MiB of the features of the largest batch. shape, itemsize: of a sample, of a number."""
    return float(largest_batch(spec) * prod(shape) * itemsize / 2**20)
