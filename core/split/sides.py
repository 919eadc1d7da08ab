"""Which side holds which end of the network. *Edge* and *cloud* say where; *front* and *back* say
which blocks. The front has the first blocks and the raw inputs, sends features, replays and leads;
the back has the last blocks and the targets, and answers with gradients. Imports no framework."""

from typing import Any, Literal

from core.models.blocks import NETWORKS

Side = Literal["edge", "cloud"]
EDGE: Side = "edge"
CLOUD: Side = "cloud"


def front_of(spec: Any) -> Side:
    """The side with the first blocks of a spec's network."""
    return NETWORKS[spec["model"]["name"]].front


def other(side: Side) -> Side:
    """The other one."""
    return CLOUD if side == EDGE else EDGE


def turned(spec: Any) -> bool:
    """Whether the front is in the cloud: the edge holds the targets, which do not leave it."""
    return front_of(spec) == CLOUD


def edge_cut(model: str) -> int:
    """The cut at which all blocks of a network are on the edge."""
    network = NETWORKS[model]
    return network.blocks if network.front == EDGE else 0


def is_alone(spec: Any) -> bool:
    """Whether the edge trains by itself: the cut is fixed where it has everything."""
    return bool(spec["scheme"]["cut"] == edge_cut(spec["model"]["name"]))
