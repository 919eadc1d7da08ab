"""What a scheme trains and how it is drawn. A new scheme is one entry in SCHEMES.

Reading a config and drawing a figure need this table, so it imports no framework and no NumPy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from core.elastic.timing import Tensor

Metric = Literal["update", "weight", "gradient"]
Penalty = Literal["l1", "group_lasso"]


@dataclass(frozen=True)
class Look:
    """How a scheme is drawn, in every figure alike."""

    label: str
    colour: str
    marker: str
    line: str | tuple[int, tuple[int, ...]]


@dataclass(frozen=True)
class Scheme:
    """look: in figures.
    trains: from the tensors to the mask of those that are trained; None where the selector
        decides at run time, from the timing profile.
    settings: section of the configuration (and schema) that a run of it needs in its spec.
    importance: what the selector goes by. `update` is −Σ g·Δw of the paper (section 4.2),
        `weight` is Σ|w|, `gradient` is Σ|g|.
    penalty: added to the loss. `l1`: on every kernel. `group_lasso`: on channels, which are cut
        out of the network at intervals once they are dead.
    """

    look: Look
    trains: Callable[[Sequence["Tensor"]], list[bool]] | None
    settings: str | None = None
    importance: Metric = "update"
    penalty: Penalty | None = None


def _everything(tensors: Sequence["Tensor"]) -> list[bool]:
    return [True] * len(tensors)


def prediction_layer(tensors: Sequence["Tensor"]) -> list[bool]:
    """The mask of the new prediction layer."""
    return [t.head for t in tensors]


def _norms_and_biases(tensors: Sequence["Tensor"]) -> list[bool]:
    return [t.head or t.kind in ("bias", "norm") for t in tensors]


# Colours after P. Tol's high-contrast scheme, which colour-blind readers and a grey print keep
# apart, darkened until a thin line has a contrast of 3:1 on paper. The other four lie between them
# in lightness. Marker and line differ as well.
SCHEMES = {
    # The selector decides, again every `elastic.interval` epochs.
    "elastic": Scheme(Look("ElasticTrainer", "#b04357", "o", "-"), None, "elastic"),
    # Every tensor.
    "full": Scheme(Look("Full training", "#000000", "s", "--"), _everything),
    # Traditional transfer learning.
    "head": Scheme(Look("Traditional TL", "#bb8b14", "^", "-."), prediction_layer),
    # The prediction layer, every bias, and gamma and beta of every normalisation.
    "bn_bias": Scheme(Look("BN+Bias", "#003f7f", "D", ":"), _norms_and_biases),
    # Full training under a group lasso; dead channels are cut out (Lym et al., SC 2019).
    "prunetrain": Scheme(
        Look("PruneTrain", "#10301c", "<", (0, (5, 1, 1, 1, 1, 1))),
        _everything, "prunetrain", penalty="group_lasso",
    ),
    # What the released program calls PruneTrain: an L1 penalty on kernels, nothing is cut out.
    "prunetrain_l1": Scheme(
        Look("PruneTrain (released)", "#7d7d7d", "P", (0, (9, 2))),
        _everything, "prunetrain_l1", penalty="l1",
    ),
    # The selector with other importance (Figure 20).
    "elastic_weight": Scheme(
        Look("Weight magnitude", "#5e94d3", "X", (0, (1, 1))), None, "elastic", importance="weight"
    ),
    "elastic_grad": Scheme(
        Look("Gradient magnitude", "#43206b", "v", (0, (7, 1, 1, 1))),
        None, "elastic", importance="gradient",
    ),
}  # fmt: skip
