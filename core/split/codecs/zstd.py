"""Zstandard on the bytes of each array (level 1: an edge device has little time)."""

from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from core.split.codecs.common import Arrays, Field, Layout

LEVEL = 1
SMALL = 1024  # bytes: arrays up to here (a grid) would only grow


class Zstd:
    """Arrays of more than SMALL bytes become uint8 frames of zstd that say how long their content
    is; smaller ones stay as they are."""

    def pack(self, arrays: Arrays) -> Arrays:
        compressor = zstandard.ZstdCompressor(level=LEVEL)
        return {
            name: array
            if array.nbytes <= SMALL
            else np.frombuffer(compressor.compress(array.reshape(-1).view(np.uint8).data), np.uint8)
            for name, array in arrays.items()
        }

    def unpack(self, arrays: Arrays, layout: Layout) -> Arrays:
        return {
            name: array
            if name not in layout or layout[name].nbytes <= SMALL
            else _content(name, array, layout[name])
            for name, array in arrays.items()
        }


def _content(name: str, array: NDArray[Any], field: Field) -> NDArray[Any]:
    """The array in a frame, which is not opened before it has announced the size that it must
    have: zstd reserves what a frame announces."""
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError(f"arrays.{name}: {array.dtype} {array.shape} is no compressed array")
    frame = np.ascontiguousarray(array).data
    try:
        announced = zstandard.get_frame_parameters(frame).content_size
        if announced != field.nbytes:
            raise ValueError(
                f"arrays.{name}: announces {announced} bytes in the place of {field.nbytes}"
            )
        content = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"arrays.{name}: is no whole frame of zstd ({error})") from error
    return np.frombuffer(content, field.dtype).reshape(field.shape)


ZSTD = Zstd()
