"""Recorded small runs of split training, as a run writes them."""

import copy
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.split.distributions import QUANTILES
from core.split.iterations import COLUMNS

CUTS = {"all_edge": 18, "all_cloud": 0}
SIDE = {"name": "local", "title": "this host", "threads": {"intra_op": 1}, "slowdown": 1}
WAY = {"rate_mbit": 20.0, "delay_ms": 3.0, "jitter_ms": 1.0}
FADING = {"seconds": 60, "step_s": 0.5, "spread": 0.5, "coherence_s": 4}
FADING |= {"fade_every_s": 20, "fade_s": 2, "fade_depth": 0.1}
TITLES = {"wifi": "Wi-Fi", "lte": "LTE", "5g": "5G", "lte_moving": "LTE, moving"}
SPEC: dict[str, Any] = {
    "recipe": 2,
    "kind": "split",
    "scale": "demo",
    "timing": "emulated",
    "seed": 0,
    "edge": SIDE | {"slowdown": 4},
    "cloud": SIDE,
    "model": {"name": "mobilenet_v3_large", "weights": None},
    "data": {"name": "elpv", "folder": "results/data/elpv-32", "size": 32, "classes": 2},
    "training": {"batch": 32, "epochs": 2},
}
EPOCH_COLUMNS = (
    "epoch,train_loss,train_accuracy,test_loss,test_accuracy,steps,cut,up_bytes,down_bytes,"
    "training_s,moving_s,testing_s,snapshot_s"
)


def context(name: str) -> dict[str, Any]:
    """The network between both sides, as in a spec."""
    if name == "loopback":
        return {
            "name": name, "title": "Loopback", "timing": "measured", "up": None, "down": None,
            "trace": None, "outages": [],
        }  # fmt: skip
    trace = {"kind": "synthetic", "seed": 3, **FADING} if name.endswith("_moving") else None
    ways = {"up": WAY, "down": WAY | {"rate_mbit": 40.0}}
    title = TITLES.get(name, name)
    return {
        "name": name, "title": title, "timing": "emulated", **ways, "trace": trace, "outages": []
    }  # fmt: skip


def rows_of(
    seconds: Sequence[float], steps: int, staleness: int, cut: int, up_bytes: int, codec: str
) -> list[dict[str, Any]]:
    """Lines of iterations.csv: seconds[i] is when step i was applied; epochs of `steps` steps at
    whose ends the pipeline runs empty."""
    rows = []
    for step, at in enumerate(seconds):
        left = steps - 1 - step % steps
        row = dict.fromkeys(COLUMNS, 0.5) | {"step": step, "epoch": 1 + step // steps}
        row |= {"seconds": at, "cut": cut, "uplink": codec, "downlink": "none", "correct": 20}
        row |= {"up_bytes": up_bytes, "down_bytes": up_bytes, "late": min(staleness, left)}
        row |= {"up_rate": 2.4e6, "down_rate": 4.9e6}
        row |= {"edge_load": 1.5, "cloud_load": 1.0, "mutual_load": 1.25}
        rows.append(row)
    # What is not known at the start is empty.
    return [rows[0] | {"up_rate": None, "down_rate": None, "uplink_s": None}, *rows[1:]]


def make_split_run(
    folder: Path,
    scheme: str = "replay",
    network: str = "wifi",
    staleness: int = 1,
    uplink: str = "none",
    feedback: str = "none",
    taken: Sequence[float] = (),
    accuracies: Sequence[float | None] = (0.6, 0.8),
    up_bytes: int = 2**20,
    choices: Sequence[Mapping[str, Any]] = (),
    **changes: Any,
) -> Path:
    """Write the folder of a run of two epochs. taken: seconds between steps, all of them (by
    default 10 s for the first and 1 s for the others); `changes` replace parts of its spec."""
    own = {"name": scheme, "cut": CUTS.get(scheme, 5), "uplink": uplink, "downlink": "none"}
    own |= {"staleness": [{"from_epoch": 1, "steps": staleness}], "feedback": feedback}
    network = "loopback" if scheme == "all_edge" else network
    spec = copy.deepcopy(SPEC) | {"context": context(network), "scheme": own} | changes
    taken = taken or [10.0, *[1.0] * 19]
    seconds = [sum(taken[: i + 1]) for i in range(len(taken))]
    steps = len(taken) // len(accuracies)
    rows = rows_of(seconds, steps, staleness, own["cut"], up_bytes, uplink)
    first = {"step": 0, "seconds": 0.0, "cut": own["cut"], "uplink": uplink, "downlink": "none"}
    ends = [seconds[steps * (e + 1) - 1] for e in range(len(accuracies))]
    epochs = [
        [e + 1, 0.6, 0.7, 0.5, a, steps, own["cut"], 1, 1, end - begin, 0, 3, 0.5]
        for e, (a, begin, end) in enumerate(zip(accuracies, [0.0, *ends], ends, strict=False))
    ]
    result = {
        "spec": spec,
        "provenance": {"kind": spec["timing"], "digest": "d", "recipe": 2, "seed": 0},
        "legs": [{"from_step": 0, "began_unix": 1005.0}],
        "machine": {"processor": "AMD EPYC(TM)"},
        "choices": [first | {"why": None}, *choices],
        "weights": [_weights(epoch) for epoch in (1, 2)],
        "link": {"context": network, "began_unix": 1000.0},
    }
    write(folder, result, epochs, rows)
    return folder


def _weights(epoch: int) -> dict[str, Any]:
    """Of three blocks: quantiles that widen with the epoch and the block."""
    blocks = {
        str(b): [0.01 * b, 0.1, *(epoch * (1 + b) * (q - 0.5) for q in QUANTILES)] for b in range(3)
    }
    return {"epoch": epoch, "blocks": blocks}


def write(
    folder: Path,
    result: Mapping[str, Any],
    epochs: Sequence[Sequence[Any]],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """The three files of a run."""
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))
    with (folder / "epochs.csv").open("w", newline="") as file:
        file.write(EPOCH_COLUMNS + "\n")
        csv.writer(file, lineterminator="\n").writerows(epochs)
    with (folder / "iterations.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def make_profile(path: Path, slower: float = 1.0, **changes: Any) -> Path:
    """Write a profile of a network of three blocks."""
    content: dict[str, Any] = {
        "format": 2,
        "blocks": 3,
        "batch": 32,
        "model": "mobilenet_v3_large",
        "size": 32,
        "forward_s": [0.01 * slower, 0.02 * slower, 0.001],
        "backward_s": [0.02 * slower, 0.05 * slower, 0.002],
        "feature_shapes": [[32, 3, 32, 32], [32, 16, 32, 32], [32, 8, 16, 16], [32, 10]],
        "codecs": {
            "none": {"encode_s_per_mib": 1e-4, "decode_s_per_mib": 5e-5},
            "int8": {"encode_s_per_mib": 4e-4, "decode_s_per_mib": 2e-4},
        },
        "slowdown": 1.0,
        "device": SIDE,
        "machine": {"processor": "AMD EPYC"},
    }
    path.write_text(json.dumps(content | changes))
    return path
