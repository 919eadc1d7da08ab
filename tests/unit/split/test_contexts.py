"""The shipped contexts, and what is said of files that are wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from core import schema
from core.errors import ConfigError, DataError
from core.split.contexts import Context, Outage, Way, load, read_contexts
from core.split.traces import MBIT, Trace

SHIPPED = Path(__file__).parents[3] / "config" / "contexts"

WIFI: dict[str, Any] = {
    "title": "Wi-Fi",
    "timing": "emulated",
    "up": {"rate_mbit": 20, "delay_ms": 3, "jitter_ms": 1},
    "down": {"rate_mbit": 40, "delay_ms": 3, "jitter_ms": 1},
    "trace": None,
    "outages": [{"at_s": 30, "for_s": 5, "kind": "stall"}],
}
SYNTHETIC = {
    "kind": "synthetic",
    "seed": 0,
    "seconds": 60,
    "step_s": 1,
    "spread": 0.3,
    "coherence_s": 5,
    "fade_every_s": 0,
    "fade_s": 0,
    "fade_depth": 1,
}


@pytest.fixture
def write(tmp_path: Path):
    def write(**changes: Any) -> Path:
        file = tmp_path / "wifi.yaml"
        file.write_text(yaml.safe_dump(WIFI | changes))
        return file

    return write


def test_the_shipped_contexts_are_those_of_the_figures_and_their_moving_ones():
    contexts = read_contexts(SHIPPED)
    titles = {key: context.title for key, context in contexts.items()}
    fixed = {"ethernet": "Ethernet", "wifi": "Wi-Fi", "5g": "5G", "lte": "LTE", "iot": "IoT"}
    moving = {f"{key}_moving": f"{fixed[key]}, moving" for key in ("wifi", "5g", "lte", "iot")}
    assert titles == {"loopback": "Loopback", **fixed, **moving}
    assert [key for key, context in contexts.items() if not context.emulated] == ["loopback"]


def test_the_moving_contexts_wander_around_the_rates_of_the_fixed_ones():
    contexts = read_contexts(SHIPPED)
    for key in ("wifi", "5g", "lte", "iot"):
        pairs = zip(contexts[f"{key}_moving"].traces(), contexts[key].traces(), strict=True)
        for moving, fixed in pairs:
            assert moving.mean() == pytest.approx(fixed.mean(), rel=0.12)  # fades take some of it
            assert len(set(moving.rates)) > 1000


def test_a_file_becomes_a_context_named_as_the_file_is(write):
    context = load(write())
    assert context == Context(
        name="wifi",
        title="Wi-Fi",
        timing="emulated",
        up=Way(20, 3, 1),
        down=Way(40, 3, 1),
        outages=(Outage(30, 5, "stall"),),
    )
    assert context.traces() == (Trace.constant(20 * MBIT), Trace.constant(40 * MBIT))


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_context_comes_back_from_what_a_spec_keeps(file: Path):
    context = load(file)
    kept = yaml.safe_load(yaml.safe_dump(context.plain()))
    assert Context.of(kept) == context


def test_trace_files_are_found_beside_the_context(tmp_path: Path, write):
    (tmp_path / "up.csv").write_text("0,8\n1,4\n")
    (tmp_path / "down.csv").write_text("0,16\n")
    context = load(write(trace={"kind": "csv", "up": "up.csv", "down": "down.csv"}))
    up, down = Context.of(context.plain()).traces()
    assert (up.rates, down.rates) == ((8 * MBIT, 4 * MBIT), (16 * MBIT,))
    (tmp_path / "up.ms").write_text("12\n")
    context = load(write(trace={"kind": "mahimahi", "up": "up.ms", "down": "up.ms"}))
    assert context.traces()[0].mean() == pytest.approx(1 * MBIT)


def test_a_trace_that_changed_is_another_context_and_the_old_spec_says_so(tmp_path: Path, write):
    (tmp_path / "both.csv").write_text("0,8\n")
    path = write(trace={"kind": "csv", "up": "both.csv", "down": "both.csv"})
    before = load(path)
    (tmp_path / "both.csv").write_text("0,9\n")
    assert load(path) != before
    with pytest.raises(DataError, match=r"both\.csv is not the file that the spec was"):
        before.traces()
    (tmp_path / "both.csv").unlink()
    with pytest.raises(DataError, match="put it back"):
        before.traces()
    with pytest.raises(ConfigError, match=r"trace\.down: there is no file .*both\.csv"):
        load(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"up": {"rate_mbit": 0, "delay_ms": 1, "jitter_ms": 0}}, "up.rate_mbit = 0: must be at"),
        ({"up": {"rate_mbit": 1, "delay_ms": 1}}, "up: missing jitter_ms"),
        ({"timing": "simulated"}, "timing = 'simulated': must be one of measured, emulated"),
        ({"speed": 3}, "unknown key 'speed'"),
        ({"outages": [{"at_s": 1, "for_s": 0, "kind": "drop"}]}, "outages.0.for_s = 0: must be"),
        ({"outages": [{"at_s": 1, "for_s": 1, "kind": "cut"}]}, "must be one of stall, drop"),
        ({"trace": {"kind": "tape"}}, "must be one of synthetic, mahimahi, csv"),
        ({"trace": {"kind": "csv", "up": "a"}}, "the kind csv misses down; its keys are up, down"),
        ({"trace": SYNTHETIC | {"up": "a"}}, "the kind synthetic has no up; its keys are seed"),
        ({"trace": SYNTHETIC | {"step_s": 31}}, "trace.seconds must be at least two times"),
        ({"up": None}, "up: null needs timing: measured; give it a rate"),
        ({"timing": "measured"}, "up: timing: measured emulates nothing; write emulated"),
    ],
)
def test_a_context_that_is_wrong_is_refused_with_key_and_file(write, changes, said):
    file = write(**changes)
    with pytest.raises(ConfigError) as error:
        load(file)
    assert said in str(error.value)
    assert str(file) in str(error.value)


def test_a_folder_without_contexts_and_a_context_without_rates_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"holds no contexts \(NAME.yaml\)"):
        read_contexts(tmp_path)
    with pytest.raises(ConfigError, match="context loopback emulates no network"):
        load(SHIPPED / "loopback.yaml").traces()


def parts(part: dict[str, Any], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for key, below in part.get("properties", {}).items():
        yield f"{above}{key}", below
        yield from parts(below.get("items", below), f"{above}{key}.")


def test_every_key_of_a_context_is_described():
    content = schema.load("context")
    known = [*parts(content), *parts(content["$defs"]["direction"], "up.")]
    assert len(known) > 20
    assert [key for key, part in known if not part.get("description")] == []
