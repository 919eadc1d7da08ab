"""Folders of finished runs of federated training, written as a run writes them."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from core.federated.schemes import SCHEMES

EPOCHS = 3


def make_federated_run(folder: Path, scheme: str, seed: int = 0, **changes: Any) -> Path:
    """A run whose numbers follow from scheme and seed. changes: staleness, slowdown, scale."""
    alone, own = SCHEMES[scheme].alone, folder / f"{scheme}-{seed}-{changes.get('staleness', '')}"
    own.mkdir(parents=True)
    side = {"name": "local", "title": "this host", "slowdown": 1}
    parties = [{"party": name, "columns": [1], **side} for name in ("a", "b")]
    parties[1]["slowdown"] = changes.get("slowdown", 1)
    staleness = changes.get("staleness", 5 if SCHEMES[scheme].replays else 0)
    spec = {
        "scale": changes.get("scale", "tiny"),
        "seed": seed,
        "timing": "measured" if alone else "emulated",
        "server": side,
        "parties": parties,
        "context": {"name": "wifi", "title": "Wi-Fi"},
        "model": {"name": "din"},
        "data": {"name": "movielens_100k"},
        "scheme": {"name": scheme, "staleness": staleness},
    }
    result = {"spec": spec, "machine": {"processor": "A CPU"}}
    (own / "result.json").write_text(json.dumps(result))
    sent = 0 if alone else (1 if SCHEMES[scheme].compresses else 4) * 2**20
    rows = [
        {
            "epoch": epoch,
            "steps": 10,
            "test_auc": 0.6 + 0.02 * epoch + 0.01 * seed,
            "up_bytes": sent,
            "down_bytes": sent,
            "training_s": 10.0 / (1 + staleness),
            "testing_s": 1.0,
            "snapshot_s": 0.1,
        }
        for epoch in range(1, EPOCHS + 1)
    ]
    pd.DataFrame(rows).to_csv(own / "epochs.csv", index=False)
    columns = ["epoch", "party", "up_bytes", "down_bytes", "test_bytes", "work_s", "peak_mib"]
    traffic = [] if alone else [
        [epoch, party, sent // 2, sent // 2, 1000, 1.5, 200.0]
        for epoch in range(1, EPOCHS + 1) for party in ("a", "b")
    ]  # fmt: skip
    pd.DataFrame(traffic, columns=columns).to_csv(own / "parties.csv", index=False)
    return own
