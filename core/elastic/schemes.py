"""Which tensors a scheme trains. A new scheme is one function here.

A scheme is a function from tensors to a mask, or None where the selector decides at run time.
Schemes are named in figures and in docs/figures.md.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # reading a config needs no NumPy
    from core.elastic.timing import Tensor

Scheme = Callable[[Sequence["Tensor"]], "list[bool] | None"]


def elastic(tensors: Sequence["Tensor"]) -> None:
    """ElasticTrainer: the selector decides, again every `elastic.interval` epochs."""
    return


def full(tensors: Sequence["Tensor"]) -> list[bool]:
    """Full training: every tensor."""
    return [True] * len(tensors)


def head(tensors: Sequence["Tensor"]) -> list[bool]:
    """Traditional transfer learning: the prediction layer only."""
    return [t.head for t in tensors]


def bn_bias(tensors: Sequence["Tensor"]) -> list[bool]:
    """BN+Bias: the prediction layer, every bias, and gamma and beta of every normalisation."""
    return [t.head or t.kind in ("bias", "norm") for t in tensors]


SCHEMES: dict[str, Scheme] = {s.__name__: s for s in (elastic, full, head, bn_bias)}
