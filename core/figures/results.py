"""What a figure reads: the folders of finished runs, checked, and the table it is drawn from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.errors import DataError
from core.frameworks import FRAMEWORKS
from core.results import TRAINING_SECONDS

# Seconds of an epoch. Their sum is its training time; preparing images counts, as in the paper.
TESTING_SECONDS = "testing_s"
METRICS = ("test_accuracy", "test_loss")
COLUMNS = ("epoch", *METRICS, "multiply_adds", *TRAINING_SECONDS, TESTING_SECONDS)

AGAIN = "delete the folder of this run and its .snapshots, and run it again"
TIMINGS = ("measured", "emulated", "simulated")
SPEC_KEYS = (
    "scale",
    "seed",
    "framework",
    "device.name",
    "device.title",
    "device.timing",
    "model.name",
    "data.name",
    "scheme.name",
)


@dataclass(frozen=True, eq=False)
class Finished:
    """A finished run of any kind: its spec and its whole result."""

    folder: Path
    spec: Mapping[str, Any]
    result: Mapping[str, Any]

    @property
    def scale(self) -> str:
        """Setting that it ran at: demo, paper, custom or tiny."""
        return str(self.spec["scale"])

    @property
    def model(self) -> str:
        """Name of the network that ran."""
        return str(self.spec["model"]["name"])

    @property
    def dataset(self) -> str:
        """Name of the data set that ran."""
        return str(self.spec["data"]["name"])

    @property
    def scheme(self) -> str:
        """Name of its scheme."""
        return str(self.spec["scheme"]["name"])


@dataclass(frozen=True, eq=False)
class Run(Finished):
    """A run of ElasticTrainer or a baseline, with one row per epoch."""

    epochs: pd.DataFrame

    @property
    def rho(self) -> float | None:
        """Budget as a part of the full step; None for a scheme without one."""
        return self.setting("rho")

    def setting(self, key: str) -> float | None:
        """A number of the scheme, such as rho or interval, or the number of epochs; None for a
        scheme without it."""
        value = len(self.epochs) if key == "epochs" else self.spec["scheme"].get(key)
        return None if value is None else float(value)

    def has(self, settings: Mapping[str, float]) -> bool:
        """Whether it ran with these settings."""
        return all(self.setting(key) == value for key, value in settings.items())

    @property
    def timing(self) -> str:
        """What its times are: measured, emulated or simulated."""
        return str(self.spec["device"]["timing"])

    @property
    def framework(self) -> str:
        """Title of the framework that trained it."""
        name = str(self.spec["framework"])
        return FRAMEWORKS[name].title if name in FRAMEWORKS else name

    @property
    def device(self) -> str:
        """Title of the device. A host is no model of board, so its processor is named too."""
        title = str(self.spec["device"]["title"])
        if self.spec["device"]["name"] != "local":
            return title
        return ", ".join(part for part in (title, self.processor) if part)

    @property
    def processor(self) -> str:
        """Processor, or model of the board, as its system tells it; empty if it does not."""
        return processor(self.result)

    def hours_to(self, accuracy: float) -> float:
        """Hours of training, testing excluded, to the end of the first epoch with that test
        accuracy in percent; NaN if there is none."""
        enough = 100 * self.epochs["test_accuracy"].to_numpy() >= accuracy - 1e-9
        return float(self.hours(testing=False)[enough.argmax()]) if enough.any() else float("nan")

    def hours(self, testing: bool) -> np.ndarray:
        """Hours from the start to the end of each epoch, every duration as it was recorded."""
        parts = [*TRAINING_SECONDS, TESTING_SECONDS] if testing else [*TRAINING_SECONDS]
        return np.cumsum(self.epochs[parts].sum(axis=1).to_numpy()) / 3600

    @property
    def best_accuracy(self) -> float:
        """Test accuracy of the best epoch in percent, which the paper reports."""
        return 100 * float(self.epochs["test_accuracy"].max())

    @property
    def teraflops(self) -> np.ndarray:
        """10¹² multiply-adds of each epoch, which the paper calls FLOPs."""
        return np.asarray(self.epochs["multiply_adds"], dtype=float) * 1e-12

    def recorded(self, key: str) -> Any:
        """What the result holds under a dotted key. Raises DataError where it holds nothing."""
        value = _inside(self.result, key)
        if not value:
            raise DataError(f"{self.folder / 'result.json'} has no {key}; {AGAIN}")
        return value

    def row(self, label: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """A line of a figure's CSV: what ran, `values`, and where they come from."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "scheme": self.scheme,
            "label": label,
            "rho": np.nan if self.rho is None else self.rho,
            "seed": self.spec["seed"],
            **values,
            "timing": self.timing,
            "run": self.folder.as_posix(),
        }


@dataclass(frozen=True)
class Settings:
    """What the configuration says about all figures."""

    stand_ins: Mapping[str, str]
    testing: bool  # whether the time axis counts testing

    def ran(self, published: str) -> str:
        """The model or data set that ran where a figure names a published one."""
        return self.stand_ins.get(published, published)


def processor(result: Mapping[str, Any]) -> str:
    """Processor of the machine that a result comes from; empty where its system does not tell."""
    name = str(result.get("machine", {}).get("processor") or "")
    return " ".join(name.replace("(R)", "").replace("(TM)", "").split())


def read_run(folder: Path) -> Run:
    """Read and check a run's folder (result.json and epochs.csv)."""
    result = read_result(folder / "result.json", SPEC_KEYS, "device.timing")
    path = folder / "epochs.csv"
    epochs = read_table(path, COLUMNS, "epoch")
    check_count(path, epochs, "epoch", first=1)
    check_durations(path, epochs, (*TRAINING_SECONDS, TESTING_SECONDS))
    return Run(folder, result["spec"], result, epochs)


def read_result(path: Path, keys: Sequence[str], timing: str) -> dict[str, Any]:
    """A result.json. keys: what its spec must hold, dotted. timing: the one of them that says what
    its times are. Raises DataError."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: finish this run first") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); {AGAIN}") from None
    for key in keys:
        if _inside(result, f"spec.{key}") is None:
            raise DataError(f"{path} has no spec.{key}; {AGAIN}")
    word = _inside(result, f"spec.{timing}")
    if word not in TIMINGS:
        allowed = ", ".join(TIMINGS)
        raise DataError(f"{path}: spec.{timing} is {word!r}, allowed: {allowed}")
    return dict(result)


def _inside(content: Any, key: str) -> Any:
    """What is under a dotted key; None where it is not there."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content


def read_table(
    path: Path, columns: Sequence[str], row: str, gaps: Sequence[str] = ()
) -> pd.DataFrame:
    """Columns of numbers. row: what a line stands for. gaps: columns that may have empty cells,
    which are NaN then. Raises DataError."""
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: finish this run first") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a table ({error}); {AGAIN}") from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; {AGAIN}")
    if table.empty:
        raise DataError(f"{path} holds no {row}; {AGAIN}")
    numbers = table[list(columns)].apply(pd.to_numeric, errors="coerce")
    for column in columns:
        bad = ~np.isfinite(numbers[column].to_numpy(dtype=float))
        if column in gaps:
            bad &= table[column].notna().to_numpy()
        if bad.any():
            where = f"{path}: column {column}, row {int(bad.argmax()) + 1}"
            raise DataError(f"{where} is not a finite number; {AGAIN}")
    return numbers


def check_count(path: Path, table: pd.DataFrame, column: str, first: int) -> None:
    """Raises DataError for a row lost or doubled by an unclean resume, which would shift every
    later point in time."""
    if table[column].tolist() != list(range(first, first + len(table))):
        series = f"{first}, {first + 1}, ..."
        what = f"column {column} must count {series} without gap or repetition"
        raise DataError(f"{path}: {what}; {AGAIN}")


def check_durations(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raises DataError for a negative one."""
    if (table[list(columns)] < 0).any(axis=None):
        raise DataError(f"{path} holds a negative duration; {AGAIN}")


def tidy(runs: Sequence[Run], labels: Sequence[str], y: str, testing: bool) -> pd.DataFrame:
    """One row per run and epoch: the numbers that are drawn and where they come from.

    `hours` is cumulative, with or without testing; `y` is in % for accuracy.
    """
    rows = []
    for run, label in zip(runs, labels, strict=True):
        values = run.epochs[y].to_numpy(dtype=float)
        rows.append(
            pd.DataFrame(
                {
                    "scheme": run.scheme,
                    "label": label,
                    "rho": np.nan if run.rho is None else run.rho,
                    "seed": run.spec["seed"],
                    "epoch": run.epochs["epoch"].to_numpy(dtype=int),
                    "hours": run.hours(testing),
                    "quantity": f"{y} (%)" if y == "test_accuracy" else y,
                    "y": 100 * values if y == "test_accuracy" else values,
                    "timing": run.timing,
                    "run": run.folder.as_posix(),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)
