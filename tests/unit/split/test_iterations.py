"""core.split.iterations: a run goes on with all of its steps, or says which are missing."""

from pathlib import Path

import pytest

from core.errors import DataError
from core.split.iterations import COLUMNS, IterationLog


def written(path: Path, steps: int) -> IterationLog:
    log = IterationLog(path)
    log.open(0)
    for step in range(steps):
        log.append({"step": step})
    return log


def steps_of(path: Path) -> list[str]:
    return [line.split(",")[0] for line in path.read_text().splitlines()[1:]]


def test_what_came_after_the_snapshot_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "iterations.csv"
    assert written(path, 5).flush() == 5
    log = IterationLog(path)
    log.open(3)
    assert steps_of(path) == ["0", "1", "2"]
    log.append({"step": 3})
    assert log.flush() == 4
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)


@pytest.mark.parametrize("left", [None, 2])
def test_steps_that_are_gone_are_an_error_that_says_how_many(
    tmp_path: Path, left: int | None
) -> None:
    path = tmp_path / "iterations.csv"
    written(path, 5)
    if left is None:
        path.unlink()
    else:
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[: left + 1]))
    with pytest.raises(DataError, match=f"holds {left or 0} of 4 steps that snapshots tell of"):
        IterationLog(path).open(4)
