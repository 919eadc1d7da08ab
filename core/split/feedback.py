"""Error feedback: what a codec loses is made good. A new form is one entry in FEEDBACKS.

The front, per step:  wanted = residual.add(features); encoded, decoded = codec.encode_decoded(...);
                      residual.keep(wanted, decoded); keep lost = decoded − features until the
                      gradient is there; then gradient = corrected(gradient, lost).
The back, per step:   the same with `residual` around the gradient that it sends.

What makes sense where:
- `published` belongs to the features: E is the error of the features, and only they have a gradient
  that comes back. The gradient itself went as float32 in the published system; a codec on the
  downlink changes the g in the formula, nothing else.
- `residual` works in both directions, each with its own. It moves the error of a step into the next
  one, so that errors of one sign (int8_released clips, fp16 saturates) do not add up. int4 rounds
  without bias already; there it only adds the noise of other samples.
- With a lossless codec both do nothing; with `none` nothing is decoded on the sending side.
Both in one direction would correct the same error twice, so that it is no choice.
"""

from dataclasses import dataclass

import numpy as np

from core.errors import ConfigError
from core.schema import suggestion
from core.split.codecs.common import Arrays, Floats

_LOST = "lost"


@dataclass(frozen=True)
class Feedback:
    """title: in documents. corrects: gradients are corrected by `corrected`. carries: losses are
    carried on by a `Residual`, in both directions."""

    title: str
    corrects: bool = False
    carries: bool = False


FEEDBACKS = {
    "published": Feedback("gradients corrected by g − E⊙g⊙g", corrects=True),
    "residual": Feedback("losses added to the next tensor", carries=True),
    "none": Feedback("none"),
}


def feedback(name: str) -> Feedback:
    """The entry of that name. Raises ConfigError that lists the names there are."""
    if name not in FEEDBACKS:
        known = suggestion(name, list(FEEDBACKS))
        raise ConfigError(f"scheme.feedback = {name!r}: unknown ({known})")
    return FEEDBACKS[name]


def corrected(gradient: Floats, lost: Floats) -> Floats:
    """g − E⊙g⊙g (IMWUT 5(4), 2021), where g⊙g stands for the diagonal of the Hessian: about the
    gradient at the features as they were before they lost E = decoded − original.

    gradient, lost: of one shape. Returns a new array; neither is changed. Raises ValueError for a
    gradient of another shape than the features had.
    """
    if gradient.shape != lost.shape:
        raise ValueError(f"gradient: shape {gradient.shape} for features of shape {lost.shape}")
    result = np.multiply(lost, gradient)
    np.multiply(result, gradient, out=result)
    return np.subtract(gradient, result, out=result)


class Residual:
    """What was lost in a direction, added to the next tensor of the same shape."""

    def __init__(self, active: bool) -> None:
        """active: without it, tensors pass as they are."""
        self.active = active
        self.reset()

    def reset(self) -> None:
        """Nothing is lost."""
        self._lost: Floats | None = None

    def add(self, tensor: Floats) -> Floats:
        """What to encode: the tensor with what the last one lost. A tensor of another shape (the
        last batch of an epoch, a moved cut) starts anew. The tensor is not changed."""
        if self._lost is None or self._lost.shape != tensor.shape:
            return tensor
        return np.add(tensor, self._lost)

    def keep(self, wanted: Floats, decoded: Floats) -> None:
        """Remember what was lost of what `add` gave."""
        if self.active:
            self._lost = np.subtract(wanted, decoded)

    def state(self) -> Arrays:
        """For a snapshot."""
        return {} if self._lost is None else {_LOST: self._lost.copy()}

    def load_state(self, state: Arrays) -> None:
        """Go on from `state`."""
        self._lost = state[_LOST].copy() if _LOST in state else None
