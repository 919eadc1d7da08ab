"""What a figure of split training reads: folders of finished runs, and profiles, checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from core.errors import ConfigError, DataError
from core.figures.results import (
    AGAIN,
    Finished,
    check_count,
    check_durations,
    processor,
    read_result,
    read_table,
)
from core.split import profiles

SPEC_KEYS = (
    "scale",
    "seed",
    "timing",
    "edge.name",
    "edge.title",
    "edge.slowdown",
    "cloud.name",
    "cloud.title",
    "cloud.slowdown",
    "context.name",
    "context.title",
    "model.name",
    "data.name",
    "scheme.name",
    "scheme.staleness",
    "scheme.uplink",
    "scheme.feedback",
)
SECONDS = ("training_s", "testing_s", "snapshot_s")
# Moves are a part of training. A run may have tested nothing.
EPOCHS = ("epoch", "test_accuracy", "test_loss", *SECONDS)
# Rates are empty until they were measured.
STEPS = (
    "step",
    "epoch",
    "seconds",
    "cut",
    "up_bytes",
    "down_bytes",
    "late",
    "up_rate",
    "down_rate",
    "edge_s",
    "uplink_s",
    "cloud_s",
    "downlink_s",
    "delay_s",
)
RATES = ("up_rate", "down_rate", "uplink_s", "downlink_s", "delay_s")
# What an engine goes by; empty without one, and not there in runs of earlier versions.
LOADS = ("edge_load", "cloud_load", "mutual_load")
WARM_UP = 1 / 3  # of the steps of a run, before times count


class Steady(NamedTuple):
    """Seconds per step once the pipeline is full: median and quartiles over rounds of K + 1 steps,
    in which a wait comes once. rounds: how many, overlapping. staleness: K."""

    median: float
    low: float
    high: float
    rounds: int
    staleness: int

    def values(self) -> dict[str, Any]:
        """For a line of a CSV."""
        return {
            "seconds per step": self.median,
            "lower quartile": self.low,
            "upper quartile": self.high,
            "rounds": self.rounds,
            "K": self.staleness,
        }


@dataclass(frozen=True, eq=False)
class SplitRun(Finished):
    """A run of split training, with one row per epoch and one per step."""

    epochs: pd.DataFrame
    steps: pd.DataFrame

    @property
    def context(self) -> str:
        """Name of the network between the two sides."""
        return str(self.spec["context"]["name"])

    @property
    def timing(self) -> str:
        """What its times are: measured, emulated or simulated."""
        return str(self.spec["timing"])

    @property
    def edge(self) -> str:
        """The edge's device. A host is no model of board, so its processor is named too."""
        return self._device("edge", processor(self.result))

    @property
    def cloud(self) -> str:
        """The cloud's device."""
        return self._device("cloud", "")

    def _device(self, side: str, processor: str) -> str:
        own = self.spec[side]
        parts = [str(own["title"])]
        if own["name"] == "local" and processor:
            parts.append(processor)
        if own["slowdown"] != 1:
            parts.append(f"emulated {own['slowdown']:g}× slower")
        return ", ".join(parts)

    def setting(self, key: str) -> Any:
        """What a figure may vary: staleness (of the first epoch), uplink or feedback."""
        value = self.spec["scheme"][key]
        return value[0]["steps"] if key == "staleness" else value

    def has(self, settings: Mapping[str, Any]) -> bool:
        """Whether it ran with these settings."""
        return all(self.setting(key) == value for key, value in settings.items())

    def hours(self, testing: bool) -> np.ndarray:
        """Hours of training from the start to the end of each epoch, moves included."""
        parts = ["training_s", *(["testing_s"] if testing else [])]
        return np.cumsum(self.epochs[parts].sum(axis=1).to_numpy()) / 3600

    @property
    def accuracies(self) -> np.ndarray:
        """Test accuracy after each epoch in percent. Raises ConfigError where it tested nothing."""
        return 100 * self._tested("test_accuracy")

    @property
    def losses(self) -> np.ndarray:
        """Test loss after each epoch. Raises ConfigError where it tested nothing."""
        return self._tested("test_loss")

    def _tested(self, column: str) -> np.ndarray:
        values = np.asarray(self.epochs[column], dtype=float)
        if np.isnan(values).any():
            raise ConfigError(
                f"{self.folder / 'epochs.csv'}: column {column} is empty: this run tested "
                "nothing; give training.test_samples, and no steps in the entry of the figure"
            )
        return values

    @property
    def best_accuracy(self) -> float:
        """That of the best epoch."""
        return float(self.accuracies.max())

    @property
    def full(self) -> pd.DataFrame:
        """The steps after the first third of the run with the pipeline full: the ends of epochs
        and moves left out."""
        warm = self.steps["step"] >= WARM_UP * len(self.steps)
        return self.steps[warm & (self.steps["late"] == self.steps["late"].mode().iloc[0])]

    @property
    def overall_s(self) -> float:
        """Seconds per step after the first third of the run, whatever they were spent on: probes,
        moves and the end included."""
        late = self.steps[self.steps["step"] >= WARM_UP * len(self.steps)]
        return float(late["seconds"].iloc[-1] - late["seconds"].iloc[0]) / (len(late) - 1)

    def steady(self) -> Steady:
        """Seconds per step of `full` ones. Raises ConfigError for too short a run."""
        staleness, full = int(self.steps["late"].mode().iloc[0]), self.full
        step, epoch, seconds = (full[c].to_numpy() for c in ("step", "epoch", "seconds"))
        n = staleness + 1
        whole = (step[n:] - step[:-n] == n) & (epoch[n:] == epoch[:-n])
        taken = ((seconds[n:] - seconds[:-n]) / n)[whole]
        if not len(taken):
            raise ConfigError(
                f"{self.folder / 'iterations.csv'}: no {n + 1} steps in a row with {staleness} "
                f"under way after the first third of {len(self.steps)} steps; train more of them"
            )
        low, median, high = np.quantile(taken, (0.25, 0.5, 0.75))
        return Steady(float(median), float(low), float(high), len(taken), staleness)

    @property
    def up_bytes(self) -> float:
        """Bytes of tensors that a step sends up, the median."""
        return float(self.steps["up_bytes"].median())

    def row(self, label: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """A line of a figure's CSV: what ran, `values`, and where they come from."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "context": self.context,
            "scheme": self.scheme,
            "label": label,
            "seed": self.spec["seed"],
            **values,
            "timing": self.timing,
            "run": self.folder.as_posix(),
        }


def read_split_run(folder: Path) -> SplitRun:
    """Read and check a run's folder (result.json, epochs.csv and iterations.csv)."""
    result = read_result(folder / "result.json", SPEC_KEYS, "timing")
    path = folder / "epochs.csv"
    epochs = read_table(path, EPOCHS, "epoch", gaps=("test_accuracy", "test_loss"))
    check_count(path, epochs, "epoch", first=1)
    check_durations(path, epochs, SECONDS)
    path = folder / "iterations.csv"
    steps = read_table(path, STEPS, "step", gaps=RATES)
    codecs = pd.read_csv(path, dtype=str, keep_default_na=False)  # "none" is a codec
    for column in LOADS:
        steps[column] = pd.to_numeric(codecs[column]) if column in codecs else np.nan
    for column in ("uplink", "downlink"):
        if column not in codecs:
            raise DataError(f"{path} has no column {column}; {AGAIN}")
        steps[column] = codecs[column]
    check_count(path, steps, "step", first=0)
    if (steps["seconds"].diff() < 0).any():
        raise DataError(f"{path}: column seconds must not fall; {AGAIN}")
    return SplitRun(folder, result["spec"], result, epochs, steps)


class Profile(NamedTuple):
    """A side's profile, as `split profile` writes it."""

    path: Path
    content: dict[str, Any]


def read_profile(path: Path) -> Profile:
    """Read a profile. Raises DataError when it is missing, damaged or lacks something."""
    content = profiles.load(path)
    keys = ("blocks", "batch", "model", "size", "feature_shapes", "codecs", "slowdown", "device")
    for key in (*keys, "forward_s", "backward_s"):
        if key not in content:
            raise DataError(f"profile {path} has no {key}; delete it, and profile the device again")
    blocks = content["blocks"]
    wanted = {"forward_s": blocks, "backward_s": blocks, "feature_shapes": blocks + 1}
    for key, count in wanted.items():
        if len(content[key]) != count:
            raise DataError(
                f"profile {path}: {key} has {len(content[key])} entries, must have {count}; "
                "delete it, and profile the device again"
            )
    return Profile(path, content)
