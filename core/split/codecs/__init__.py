"""What crosses the link in the place of float32 tensors. A new one is a file and an entry here.

A chain is written "delta+int8+zstd": at most one of each role, in this order. Without a number
format it is `none`. Integer tensors (raw inputs of an all-cloud run) pass every number format and
delta coding unchanged; only a lossless stage does something to them. Reading this table needs no
NumPy.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from core.errors import ConfigError

Role = Literal["delta", "format", "lossless"]
ROLES: tuple[Role, ...] = ("delta", "format", "lossless")


@dataclass(frozen=True)
class Stage:
    """title: in documents. role: its place in a chain. builder: module:name, imported late; a
    `Format` for a number format, a `Lossless` for a lossless stage."""

    title: str
    role: Role
    builder: str


CODECS = {
    "delta": Stage(
        "difference to the last decoded features of the same sample",
        "delta",
        "core.split.codecs.delta:Delta",
    ),
    "none": Stage("float32 as it is", "format", "core.split.codecs.plain:FLOATS"),
    "fp16": Stage("half precision", "format", "core.split.codecs.fp16:FP16"),
    "int8": Stage("8 bit, affine per tensor", "format", "core.split.codecs.int8:INT8"),
    "int8_channel": Stage(
        "8 bit, affine per channel", "format", "core.split.codecs.int8:INT8_CHANNEL"
    ),
    "int8_released": Stage(
        "8 bit as released with the paper, which clips at half the range",
        "format",
        "core.split.codecs.int8_released:RELEASED",
    ),
    "int4": Stage("4 bit, stochastic rounding", "format", "core.split.codecs.int4:INT4"),
    "zstd": Stage("lossless compression of the bytes", "lossless", "core.split.codecs.zstd:ZSTD"),
}


def parse(name: str) -> dict[Role, str]:
    """The stages of a chain by role; the number format is always there.

    Raises ConfigError, which lists what is allowed, for an unknown, repeated or misplaced stage.
    """
    stages = name.split("+")
    unknown = [s for s in stages if s not in CODECS]
    if unknown:
        raise ConfigError(f"codec {name!r}: there is no {unknown[0]!r}; {allowed()}")
    places = [ROLES.index(CODECS[s].role) for s in stages]
    if any(after <= before for before, after in pairwise(places)):
        raise ConfigError(f"codec {name!r}: its stages do not follow each other so; {allowed()}")
    chain: dict[Role, str] = {"format": "none"}
    return chain | {CODECS[s].role: s for s in stages}


def allowed() -> str:
    """How a chain is written, for messages."""
    names = {role: "|".join(n for n, s in CODECS.items() if s.role == role) for role in ROLES}
    return "a codec is [{delta}+][{format}][+{lossless}], at least one of them".format(**names)
