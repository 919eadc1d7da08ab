"""Benchmarks: each prints one JSON object with its figures and the limits they should keep.

A new benchmark is a module with `run() -> Report` and a line in BENCHMARKS. Timings are
compared as ratios within one run, since machines are noisy; none of them is a test.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

# Name: the environments in which it runs, each with its own framework. The module of the same
# name has `run`.
BOTH = ("tensorflow", "main")
BENCHMARKS = {
    "selector": ("main",),
    "paper_recursion": ("main",),
    "timing": BOTH,
    "realised": BOTH,
    "flops": BOTH,
    "memory": BOTH,
    "compile": ("main",),
    "snapshot": BOTH,
    "sampling": ("main",),
    "parity": ("main",),
    "time_to_accuracy": ("main",),
    "workflow": ("main",),
    "codecs": ("main",),
    "decision": ("main",),
    "simulator": ("main",),
    "fleet": ("main",),
    "wire": ("main",),
    "pipeline": ("main",),
    "cuts": ("main",),
    "trace": ("main",),
    "codec_accuracy": ("main",),
    "edge_memory": ("main",),
    "chairs": ("main",),
    "din": ("main",),
    "dispatch": ("main",),
    "plan": ("main",),
    "campaign": ("main",),
    "slurm": ("main",),
}


@dataclass
class Report:
    """figures: what was found on this machine. limits: by the path of a figure (`key/key`), the
    largest value that is accepted. notes: what a reader must know. kind: what the figures are."""

    figures: dict[str, Any]
    limits: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    kind: Literal["measured", "emulated", "simulated"] = "measured"

    def exceeded(self) -> dict[str, float]:
        """Figures above their limit."""
        found = {}
        for name, limit in self.limits.items():
            value: Any = self.figures
            for key in name.split("/"):
                value = value[key]
            if value > limit:
                found[name] = value
        return found
