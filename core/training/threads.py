"""How many threads a framework gets. Snakemake's --cores exports OMP_NUM_THREADS for its jobs;
the device profile decides instead, and the result records it."""

import os


def resolve(threads: dict[str, int]) -> dict[str, int]:
    """Zeros become the cores that this process may use."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return {name: count or cores for name, count in threads.items()}


def export(threads: dict[str, int]) -> None:
    """Set the environment before a framework is imported."""
    os.environ["OMP_NUM_THREADS"] = str(threads["intra_op"])
    # How long a thread of PyTorch spins while it waits for the others. By default for milliseconds,
    # so that a step took four times as long where another process wants the same core.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # Without it, PyTorch refuses deterministic matrix products on an NVIDIA GPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
