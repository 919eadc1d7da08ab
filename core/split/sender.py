"""One direction of tensors: a codec and the error feedback around it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.split import codec as codecs
from core.split.codec import Encoded
from core.split.codecs.common import Arrays
from core.split.feedback import Residual, feedback

_CODEC, _RESIDUAL = "codec/", "residual/"


class Sender:
    """Encodes the tensors of a direction, in the order of their steps."""

    def __init__(self, codec: str, scheme: Any, seed: int, corrected: bool) -> None:
        """codec: its name. scheme: feedback and delta_mib of a spec. corrected: a gradient comes
        back for what is sent, which `published` feedback corrects by what was lost."""
        kind = feedback(scheme["feedback"])
        self._codec = codecs.make(codec, seed, scheme["delta_mib"])
        self._residual = Residual(kind.carries)
        self._corrects = corrected and kind.corrects

    def encode(
        self, tensor: NDArray[np.float32], step: int, samples: NDArray[np.int64]
    ) -> tuple[Encoded, NDArray[np.float32] | None]:
        """What to send, and what that lost (decoded − tensor) where the gradient is corrected by
        it. Raises TrainingError as `Codec.encode` does."""
        wanted = self._residual.add(tensor)
        if self._codec.lossless or not (self._corrects or self._residual.active):
            return self._codec.encode(wanted, step, samples), None
        encoded, decoded = self._codec.encode_decoded(wanted, step, samples)
        self._residual.keep(wanted, decoded)
        return encoded, decoded - tensor if self._corrects else None

    def state(self) -> Arrays:
        """For a snapshot."""
        parts = ((_CODEC, self._codec.state()), (_RESIDUAL, self._residual.state()))
        return {prefix + name: array for prefix, own in parts for name, array in own.items()}

    def load_state(self, state: Arrays) -> None:
        """Go on from `state`."""
        for prefix, part in ((_CODEC, self._codec), (_RESIDUAL, self._residual)):
            own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            part.load_state(own)  # type: ignore[attr-defined]
