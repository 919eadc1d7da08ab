"""What working ahead costs the edge in memory: peak of the process for several K."""

from dataclasses import replace

from core.bench import Report, pipeline_runs
from core.figures.split_results import read_split_run
from core.split import config as settings

TASK, CONTEXT, SCHEME = "cifar10_mobilenet_v3", "ethernet", "replay"
STALENESS, STEPS = (0, 3, 5, 8), 24


def run() -> Report:
    """Peak resident memory of the edge's process, and above that of K = 0."""
    content = pipeline_runs.config()
    device, seed = content["split"]["edge"]["device"], content["seed"]
    base = settings.SplitKey(device, TASK, CONTEXT, SCHEME, seed)
    keys = [replace(base, options=(("staleness", k), ("steps", STEPS))) for k in STALENESS]
    runs = [read_split_run(folder) for folder in pipeline_runs.trained(content, keys)]
    peaks = {k: float(one.result["peak_mib"]) for k, one in zip(STALENESS, runs, strict=True)}
    figures = {
        f"K={k}": {"peak_mib": peak, "above_K=0_mib": round(peak - peaks[0], 1)}
        for k, peak in peaks.items()
    }
    kept = runs[0].spec["training"]["batch"] * runs[0].spec["data"]["size"] ** 2 * 3 / 2**20
    notes = [
        f"{TASK}, batch {runs[0].spec['training']['batch']}; a pending step keeps its raw batch "
        f"({kept:.2f} MiB), and with error feedback also what the codec lost of its features",
        "one process for each K, the framework included; noise of some MiB is usual",
    ]
    return Report(figures, notes=notes)
