"""What codecs cost and lose: speed on one core, size and relative error on features."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from core.bench import Report
from core.models.blocks import build, prepare
from core.split.codec import make

NETWORK, CLASSES, BATCH, SIZE = "resnet50_cifar", 10, 32, 32
CUTS = (1, 2, 6, 11, 17)  # behind the first block, and in each stage; the largest one is timed
CODECS = (
    "none fp16 int8 int8_channel int8_released int4 "
    "zstd int8+zstd int4+zstd delta+int8 delta+int8+zstd delta+int4"
).split()
DRIFT, REPEATS = 0.01, 7

Features = NDArray[np.float32]
Figures = dict[str, Any]


def run() -> Report:
    """Per codec: MB/s of float32 encoded and decoded, bytes before over bytes after, and relative
    error ‖decoded − original‖/‖original‖, at each cut and the largest."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pairs = list(_features())
        figures = {name: _figures(name, pairs) for name in tqdm(CODECS, unit="codec", disable=None)}
    finally:
        torch.set_num_threads(threads)
    largest = max(pairs, key=lambda pair: pair[0].nbytes)[0]
    return Report(
        {**figures, "mib": largest.nbytes / 2**20},
        {"int8/relative_error": 0.01, "int8_channel/relative_error": 0.01},
        [
            f"Features of {NETWORK} with fresh weights on smooth random images, batch {BATCH}, "
            f"cuts {', '.join(map(str, CUTS))}; speed and ratio are those of the largest.",
            "One grid for a tensor loses (max − min)/(883 · root mean square): more than 1 % once "
            "a few channels reach far beyond the others, as they do behind residual blocks.",
            f"Delta coding: the same samples again, every weight changed by {DRIFT:.0%} at random.",
        ],
    )


def _features() -> Iterator[tuple[Features, Features]]:
    """At each cut: features of a batch, and those of the same batch after the weights moved."""
    blocks = build(NETWORK, CLASSES, seed=0)[: max(CUTS)]
    yield from zip(_at_cuts(blocks), _at_cuts(_moved(blocks)), strict=True)


def _at_cuts(blocks: list[torch.nn.Module]) -> list[Features]:
    values, found = prepare(NETWORK, _images()), []
    with torch.no_grad():
        for number, block in enumerate(blocks, start=1):
            values = block(values)
            if number in CUTS:
                found.append(values.numpy())
    return found


def _moved(blocks: list[torch.nn.Module]) -> list[torch.nn.Module]:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for block in blocks:
            for weight in block.parameters():
                noise = torch.randn(weight.shape, generator=generator)
                weight.mul_(1 + DRIFT * noise)
    return blocks


def _images() -> torch.Tensor:
    """uint8 (BATCH, SIZE, SIZE, 3): noise of 8 × 8 pixels, enlarged."""
    noise = torch.rand((BATCH, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(noise, (SIZE, SIZE), mode="bicubic")
    return (255 * smooth).clamp(0, 255).byte().permute(0, 2, 3, 1)


def _figures(name: str, pairs: list[tuple[Features, Features]]) -> Figures:
    timed = max(range(len(pairs)), key=lambda i: pairs[i][0].nbytes)
    encode, decode, size = _times(name, pairs[timed])
    nbytes = pairs[timed][0].nbytes
    errors = [round(_error(name, pair), 5) for pair in pairs]
    return {
        "encode_mb_s": round(nbytes / encode / 1e6),
        "decode_mb_s": round(nbytes / decode / 1e6),
        "ratio": round(nbytes / size, 2),
        "relative_error": max(errors),
        "at_cut": dict(zip(map(str, CUTS), errors, strict=True)),
    }


def _times(name: str, pair: tuple[Features, Features]) -> tuple[float, float, int]:
    """Seconds to encode and to decode, and bytes: of the second, where the first is known."""
    samples, encoding, decoding = np.arange(BATCH), [], []
    for _ in range(REPEATS):
        encoder, decoder = make(name), make(name)
        decoder.decode(encoder.encode(pair[0], 0, samples), 0, samples)
        start = time.perf_counter()
        encoded = encoder.encode(pair[1], 1, samples)
        middle = time.perf_counter()
        decoder.decode(encoded, 1, samples)
        decoding.append(time.perf_counter() - middle)
        encoding.append(middle - start)
    return float(np.median(encoding)), float(np.median(decoding)), encoded.nbytes


def _error(name: str, pair: tuple[Features, Features]) -> float:
    codec, samples = make(name), np.arange(BATCH)
    codec.encode(pair[0], 0, samples)
    decoded = codec.encode_decoded(pair[1], 1, samples)[1]
    return float(np.linalg.norm(decoded - pair[1]) / np.linalg.norm(pair[1]))
