"""How the work is divided between edge and cloud, and how that is drawn. A new scheme is one entry
in SCHEMES. Reading a config and drawing a figure need this table, so it imports no framework."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.elastic.schemes import Look
from core.errors import ConfigError
from core.models.blocks import NETWORKS
from core.schema import suggestion
from core.split.sides import CLOUD

Cut = Literal["edge", "cloud", "fixed", "best", "moving"]


@dataclass(frozen=True)
class Scheme:
    """look: in figures.
    cut: `edge` and `cloud` keep the whole network on one side; `fixed` takes the run's cut; `best`
        takes the one that the cost model finds at the start, as JointDNN does; `moving` lets the
        decision engine move it.
    replays: works ahead up to the run's staleness K; without it K = 0, serial split training.
    compresses: takes the run's codecs and error feedback; without it features travel as they are.
    """

    look: Look
    cut: Cut
    replays: bool = False
    compresses: bool = False


# The looks are those of ElasticTrainer's schemes, in the same order of importance.
SCHEMES = {
    "context_aware": Scheme(
        Look("Context-aware", "#b04357", "o", "-"), "moving", replays=True, compresses=True
    ),
    "compressed": Scheme(
        Look("Feature replay, compressed", "#d98b5f", "X", (0, (3, 1, 1, 1, 1, 1))),
        "fixed",
        replays=True,
        compresses=True,
    ),
    "replay": Scheme(
        Look("Feature replay", "#bb8b14", "D", (0, (5, 1, 1, 1))), "fixed", replays=True
    ),
    "jointdnn": Scheme(Look("JointDNN", "#003f7f", "s", "--"), "best"),
    "serial": Scheme(Look("Serial split", "#5b7f3a", "^", "-."), "fixed"),
    # Raw batches go up ahead of time; no gradient comes back, so none is late.
    "all_cloud": Scheme(Look("All-cloud", "#7a5195", "P", (0, (1, 1))), "cloud", replays=True),
    "all_edge": Scheme(Look("All-edge", "#000000", "v", ":"), "edge"),
}


def check_scheme(content: dict[str, Any], path: Path) -> None:
    """Raises ConfigError for a run spec whose scheme, network or cut is none, or where they do not
    go together."""
    scheme, model = content["scheme"], content["model"]["name"]
    for key, name, known in (
        ("scheme.name", scheme["name"], SCHEMES),
        ("model.name", model, NETWORKS),
    ):
        if name not in known:
            raise ConfigError(f"{path}: {key} = {name!r}: unknown ({suggestion(name, [*known])})")
    if scheme["staleness"][0]["from_epoch"] != 1:
        raise ConfigError(f"{path}: scheme.staleness must say what holds from epoch 1 on")
    if scheme["decision"] is not None and scheme["cut"] is not None:
        raise ConfigError(f"{path}: scheme.decision moves the cut, and scheme.cut fixes it")
    optimiser = content["training"]["optimiser"]
    if optimiser["nesterov"] and not optimiser["momentum"]:
        raise ConfigError(f"{path}: training.optimiser.nesterov needs a momentum above 0")
    if scheme["cut"] is not None and (wrong := check_cut(model, scheme["cut"])):
        raise ConfigError(f"{path}: scheme.cut = {scheme['cut']}: {wrong}")


def check_cut(model: str, cut: int) -> str:
    """What is wrong with a cut of a network; empty if nothing."""
    network = NETWORKS[model]
    if cut > network.blocks:
        return f"{network.title} has {network.blocks} blocks"
    if cut == network.blocks and network.front == CLOUD:
        return (
            f"all blocks of {network.title} would be in the cloud, and the loss needs the images, "
            "which do not leave the edge"
        )
    return ""
