"""Traces against integration by small steps; importers against files made by hand."""

import math
from pathlib import Path
from statistics import fmean, pstdev

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.errors import DataError
from core.split.traces import MBIT, Fading, Trace, read_csv, read_mahimahi, synthetic

FADING = Fading(
    seconds=2000,
    step_s=0.5,
    spread=0.5,
    coherence_s=4,
    fade_every_s=40,
    fade_s=2,
    fade_depth=0.1,
)
# The first rates of `synthetic(1e6, 1e6, FADING, 3)`.
PINNED = (1354175.5313210608, 1245383.327317134, 1669702.0993888765)
STEADY = Fading(**{**vars(FADING), "fade_every_s": 0})


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    n = draw(st.integers(1, 6))
    spans = draw(st.lists(st.integers(1, 8), min_size=n, max_size=n))
    rates = draw(st.lists(st.sampled_from([0, 0, 1, 10, 64, 1000]), min_size=n, max_size=n))
    times = [sum(spans[:i]) / 4 for i in range(n)]
    repeats = draw(st.booleans())
    assume(max(rates) > 0 if repeats else rates[-1] > 0)
    return Trace(tuple(times), tuple(map(float, rates)), sum(spans) / 4 if repeats else None)


def rate_by_hand(trace: Trace, seconds: float) -> float:
    if trace.period is not None:
        seconds %= trace.period
    return [r for t, r in zip(trace.times, trace.rates, strict=True) if t <= seconds][-1]


# Quarters of a second are where rates change, so that steps of 1/32 s integrate exactly.
moments = st.integers(0, 500).map(lambda k: k / 32)


@given(traces(), moments)
def test_bytes_are_the_integral_of_the_rate(trace: Trace, end: float):
    by_hand = sum(rate_by_hand(trace, k / 32) / 32 for k in range(round(end * 32)))
    assert trace.bytes_until(end) == pytest.approx(by_hand)
    assert trace.rate(end) == rate_by_hand(trace, end)


@given(traces(), moments, st.integers(1, 20_000).map(lambda n: n / 7))
def test_the_time_for_some_bytes_is_the_first_at_which_so_many_passed(
    trace: Trace, start: float, nbytes: float
):
    end = trace.time_for(start, nbytes)
    passed = trace.bytes_until(start)
    assert trace.bytes_until(end) - passed == pytest.approx(nbytes, rel=1e-6)
    assert trace.bytes_until(max(start, end - 1e-3)) - passed < nbytes
    assert trace.time_for(start, 0) == start


@given(traces(), moments, st.integers(1, 3000), st.integers(1, 3000))
def test_bytes_in_two_parts_take_as_long_as_in_one(trace: Trace, start: float, a: int, b: int):
    in_parts = trace.bytes_until(trace.time_for(trace.time_for(start, a), b))
    assert in_parts == pytest.approx(trace.bytes_until(trace.time_for(start, a + b)), abs=0.01)


def test_the_mean_is_that_of_a_period_or_the_last_rate():
    assert Trace((0, 1), (30.0, 10.0), 4).mean() == 15
    assert Trace((0, 1), (30.0, 10.0)).mean() == 10
    assert Trace.constant(7.0).mean() == 7


@pytest.mark.parametrize(
    ("times", "rates", "period", "said"),
    [
        ((), (), None, "one rate for each time"),
        ((1.0,), (1.0,), None, "the first time being 0"),
        ((0.0, 0.0), (1.0, 1.0), None, "must increase"),
        ((0.0,), (-1.0,), None, "not negative"),
        ((0.0,), (math.nan,), None, "finite"),
        ((0.0, 1.0), (1.0, 1.0), 1.0, "after its last time"),
        ((0.0, 1.0), (1.0, 0.0), None, "zero for ever"),
        ((0.0, 1.0), (0.0, 0.0), 2.0, "zero for ever"),
    ],
)
def test_a_trace_that_cannot_be_is_refused(times, rates, period, said):
    with pytest.raises(ValueError, match=said):
        Trace(times, rates, period)


def test_synthetic_traces_are_the_same_for_a_seed_and_differ_up_and_down():
    up, down = synthetic(1e6, 1e6, FADING, 3)
    assert synthetic(1e6, 1e6, FADING, 3) == (up, down)
    assert up.rates != down.rates
    assert synthetic(1e6, 1e6, FADING, 4)[0] != up
    assert up.rates[:3] == pytest.approx(PINNED, rel=1e-12)  # on every machine, in every Python


def test_a_synthetic_rate_has_the_mean_spread_and_coherence_that_were_asked():
    up, down = synthetic(4e6, 1e6, STEADY, 0)
    assert fmean(up.rates) == pytest.approx(4e6)
    assert fmean(down.rates) == pytest.approx(1e6)
    logs = [math.log(rate) for rate in up.rates]
    assert pstdev(logs) == pytest.approx(0.5, rel=0.15)  # of 2000 s, which are some 250 free draws
    middle, lag = fmean(logs), round(STEADY.coherence_s / STEADY.step_s)
    pairs = zip(logs, logs[lag:], strict=False)
    kept = fmean((a - middle) * (b - middle) for a, b in pairs) / pstdev(logs) ** 2
    assert kept == pytest.approx(math.exp(-1), abs=0.12)


def test_fades_strike_both_directions_at_once_and_as_often_as_asked():
    faded, steady = synthetic(1e6, 1e6, FADING, 1), synthetic(1e6, 1e6, STEADY, 1)
    depths = [
        [a / b for a, b in zip(with_.rates, without.rates, strict=True)]
        for with_, without in zip(faded, steady, strict=True)
    ]
    assert depths[0] == pytest.approx(depths[1])
    assert {round(depth, 9) for depth in depths[0]} == {1.0, 0.1}
    share = fmean(depth < 0.5 for depth in depths[0])
    assert share == pytest.approx(2 / 42, rel=0.5)  # 2 s in every 42 s


def test_a_mahimahi_trace_passes_1500_bytes_a_line_and_repeats(tmp_path: Path):
    file = tmp_path / "up.trace"
    file.write_text("0\n4\n4\n\n10\n")
    trace = read_mahimahi(file)
    assert trace.period == 0.01
    # The line at 0 counts at the end of the turn, where the next one starts.
    assert [trace.bytes_until(t / 1e3) for t in (4, 10, 14)] == pytest.approx([3000, 6000, 9000])
    assert trace.mean() == pytest.approx(600_000)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40).map(sorted))
def test_a_mahimahi_trace_has_passed_what_its_lines_say_at_each_of_them(
    tmp_path_factory: pytest.TempPathFactory, lines: list[int]
):
    file = tmp_path_factory.mktemp("trace") / "up"
    file.write_text("".join(f"{line}\n" for line in lines))
    trace = read_mahimahi(file)
    for line in lines:
        expected = 1500 * sum(other <= line for other in lines)
        assert trace.bytes_until(line / 1e3 - 1e-12) == pytest.approx(expected, abs=0.1)


def test_a_csv_trace_holds_each_rate_until_the_next(tmp_path: Path):
    file = tmp_path / "up.csv"
    file.write_text("time,rate\n0, 8\n2.5,0\n4,1.5\n")
    assert read_csv(file) == Trace((0.0, 2.5, 4.0), (8.0 * MBIT, 0.0, 1.5 * MBIT))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,rate\n", "no line of time,rate (seconds, Mbit/s)"),
        ("1,5\n", ":1: the first time is 1 s; it must be 0"),
        ("0,5\n2,1\n2,3\n", ":3: 2 s does not come after 2 s"),
        ("0,5\n1\n", ":2: '1' is not time,rate (seconds, Mbit/s)"),
        ("0,5\n1,fast\n", ":2: '1,fast' is not time,rate"),
        ("0,5\n1,-2\n", ":2: time and rate must be finite and not negative"),
        ("0,5\n1,inf\n", ":2: time and rate must be finite"),
        ("0,5\n1,0\n", "the last rate holds for ever and must be above 0"),
    ],
)
def test_a_csv_trace_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, text, said):
    file = tmp_path / "up.csv"
    file.write_text(text)
    with pytest.raises(DataError) as error:
        read_csv(file)
    assert str(error.value).startswith(str(file))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ": no moment above 0 ms"),
        ("0\n0\n", ": no moment above 0 ms"),
        ("1\n2.5\n", ":2: '2.5' is not a whole number of milliseconds"),
        ("3\n2\n", ":2: 2 ms comes after 3 ms; sort the file"),
        ("-1\n", ":1: '-1' is not a whole number"),
    ],
)
def test_a_mahimahi_trace_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, text, said):
    file = tmp_path / "up.trace"
    file.write_text(text)
    with pytest.raises(DataError) as error:
        read_mahimahi(file)
    assert str(error.value).startswith(f"{file}{said}")


@pytest.mark.parametrize("read", [read_csv, read_mahimahi])
def test_a_trace_file_that_is_missing_or_no_text_is_named(tmp_path: Path, read):
    with pytest.raises(DataError, match=r"the trace .*gone cannot be read: No such file"):
        read(tmp_path / "gone")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"the trace .*binary cannot be read: not a text file"):
        read(tmp_path / "binary")
