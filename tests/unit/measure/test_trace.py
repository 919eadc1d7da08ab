"""The file of samples: what survives a death, what is dropped, how large it may grow."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from core.errors import DataError
from core.measure import trace
from core.measure.trace import Row, Trace, load, samples, thinned


def sample(seconds: float, **values: object) -> Row:
    usual = {"watts": 4.0, "joules": 4 * seconds, "covered_s": seconds, "mib": 100.0}
    return Row(1, seconds, 1e9 + seconds, **(usual | values))  # type: ignore[arg-type]


def event(seconds: float, what: str, detail: object = "") -> Row:
    return Row(1, seconds, 1e9 + seconds, joules=4 * seconds, event=what, detail=str(detail))


def filled(path: Path, *rows: Row, most: int = 1000) -> Trace:
    kept = Trace(path, most)
    for row in rows:
        kept.append(row)
    return kept


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    rows = [
        event(0, trace.BEGIN, 0),
        sample(0.25, throttled="too hot;undervoltage", peak_mib=120.5, celsius=61.5, mhz=1500),
        Row(1, 0.5, 1e9 + 0.5),
        event(0.5, trace.CUT, "3 int8 none"),
    ]
    kept = filled(tmp_path / "trace.csv", *rows)
    assert load(kept.path) == rows
    assert Trace(kept.path).rows == rows


@pytest.mark.parametrize("most", [1000, 8])
def test_in_memory_are_the_digits_of_the_file(tmp_path: Path, most: int) -> None:
    """A run that comes back from its snapshot reads them, and reports the same numbers."""
    drawn = np.random.default_rng(0).uniform(0, 100, (40, 3))
    rows = [
        sample(i / 3, peak_mib=mib, mhz=mhz, celsius=c) for i, (mib, mhz, c) in enumerate(drawn)
    ]
    kept = filled(tmp_path / "trace.csv", *rows, most=most)
    assert load(kept.path) == kept.rows


def test_a_line_that_a_killed_process_left_half_written_is_dropped(tmp_path: Path) -> None:
    path = filled(tmp_path / "trace.csv", sample(1), sample(2)).path
    with path.open("a") as file:
        file.write("1,3.0000,1000000")
    again = Trace(path)
    again.append(sample(4))
    assert [row.seconds for row in load(path)] == [1, 2, 4]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("time,watts\n1,2\n", "its columns must be session, seconds"),
        (",".join(trace.COLUMNS) + "\n1,nan,1" + "," * 12 + "\n", "line 2: seconds is nan"),
        (",".join(trace.COLUMNS) + "\n1,,1" + "," * 12 + "\n", "line 2: no seconds, covered_s"),
        (",".join(trace.COLUMNS) + "\n1,much,1" + "," * 12 + "\n", "line 2: could not convert"),
        (",".join(trace.COLUMNS) + "\n1,2\n", "line 2: "),
    ],
)
def test_a_damaged_file_says_where_and_a_run_goes_on_without_it(
    tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=said):
        load(path)
    kept = Trace(path)
    assert kept.rows == []
    assert path.with_suffix(".rejected").read_text() == content


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "none.csv")


def test_what_came_after_the_snapshot_is_dropped_since_it_is_computed_again(tmp_path: Path) -> None:
    rows = [
        event(0, trace.BEGIN, 0), sample(1), event(1.5, trace.SNAPSHOT, 10), sample(2),
        event(2.5, trace.SNAPSHOT, 20), sample(3),
    ]  # fmt: skip
    kept = filled(tmp_path / "trace.csv", *rows)
    assert kept.rewind(20) == rows[4]
    assert kept.rewind(10) == rows[2]
    assert load(kept.path) == rows[:3]
    assert kept.rewind(10) == rows[2]  # again: nothing more


def test_of_two_marks_of_one_step_the_last_one_counts(tmp_path: Path) -> None:
    rows = [event(1, trace.SNAPSHOT, 10), sample(2), event(3, trace.SNAPSHOT, 10), sample(4)]
    kept = filled(tmp_path / "trace.csv", *rows)
    assert kept.rewind(10) == rows[2]


@pytest.mark.parametrize("step", [0, 30])
def test_nothing_is_kept_of_a_past_that_is_not_that_of_the_run(tmp_path: Path, step: int) -> None:
    kept = filled(tmp_path / "trace.csv", event(0, trace.BEGIN, 0), event(1, trace.SNAPSHOT, 10))
    assert kept.rewind(step) is None
    assert load(kept.path) == []


def test_the_file_stays_small_and_loses_no_energy_no_peak_and_no_event(tmp_path: Path) -> None:
    kept = Trace(tmp_path / "trace.csv", most=100)
    for number in range(1, 2001):
        highest = {"peak_mib": 900.0 if number == 777 else 100.0}
        kept.append(sample(number / 4, **highest, throttled="hot" if number == 555 else ""))
        if number % 200 == 0:
            kept.append(event(number / 4, trace.EPOCH, number // 200))
    rows = load(kept.path)
    assert len(rows) <= 160
    assert rows[-1].joules == pytest.approx(2000)
    assert max(row.peak_mib or 0 for row in rows) == 900
    assert [row.throttled for row in rows if row.throttled] == ["hot"]
    assert [row.detail for row in rows if row.event] == [str(i) for i in range(1, 11)]
    gaps = [b.seconds - a.seconds for a, b in pairwise(samples(rows))]
    assert max(gaps) <= 4 * 500 / (100 / 2)  # even over the run


def test_of_many_snapshots_the_newest_stay(tmp_path: Path) -> None:
    rows = [event(i, trace.SNAPSHOT, i) for i in range(1, 200)]
    kept = filled(tmp_path / "trace.csv", *rows, most=50)
    assert len(kept.rows) <= 76
    assert kept.rewind(199) is not None
    assert kept.rewind(198) is not None


def test_means_and_highest_values_of_samples_that_become_one() -> None:
    one = sample(1, watts=4.0, mib=100.0, peak_mib=150.0, celsius=50.0, cpu_percent=None)
    two = sample(2, watts=6.0, mib=200.0, peak_mib=110.0, celsius=None, cpu_percent=80.0)
    (row,) = thinned([one, two], most=1)
    assert (row.watts, row.mib, row.peak_mib, row.celsius) == (5, 150, 150, 50)
    assert (row.cpu_percent, row.seconds, row.joules) == (80, 2, two.joules)
