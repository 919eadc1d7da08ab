"""Tensors as they are: `none`, and integers in every chain."""

from typing import Any

import numpy as np

from core.split.codecs.common import Arrays, Field, Floats, Layout, extent, require_finite

_FLOAT = np.dtype(np.float32)


class Plain:
    """The values themselves. Encoded they share the memory of the tensor."""

    lossless = True

    def __init__(self, dtype: np.dtype[Any]) -> None:
        """dtype: float32, or integers, which have nothing to check."""
        self._dtype = dtype

    def layout(self, shape: tuple[int, ...]) -> Layout:
        return {"values": Field(self._dtype, shape)}

    def encode(self, values: Floats, seed: int, step: int) -> Arrays:
        if self._dtype == _FLOAT:
            require_finite(*extent(values), step)
        return {"values": values}

    def decode(self, arrays: Arrays, shape: tuple[int, ...]) -> Floats:
        values: Floats = np.require(arrays["values"], requirements=["C", "W"])
        if self._dtype == _FLOAT and not np.isfinite(extent(values)).all():
            raise ValueError("arrays.values: NaN or infinity")
        return values


FLOATS = Plain(_FLOAT)
