"""What recorded runs cost, as a run writes it into its result and its trace."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.measure import trace
from core.measure.trace import Row, to_csv

NO_SENSOR = "no power sensor on this machine (INA3221, PMIC, RAPL); name an outside meter"


def section(
    joules: float | None = 120.0,
    peak_mib: float = 1536.0,
    accelerator: float | None = None,
    throttled: Sequence[str] = (),
    **energy: Any,
) -> dict[str, Any]:
    """The section `measure` of a result; `energy` replaces parts of its energy."""
    known = {"kind": "measured", "meter": "RAPL, package-0", "of": "device", "why": None}
    unknown = {"kind": None, "meter": None, "of": "device", "why": NO_SENSOR}
    return {
        "seconds": 20.0,
        "energy": {"joules": joules, **(unknown if joules is None else known), **energy},
        "memory": {"peak_mib": peak_mib, "accelerator_peak_mib": accelerator, "why": None},
        "throttled": bool(throttled),
        "throttled_why": list(throttled),
    }


def record(folder: Path, own: dict[str, Any] | None, cloud: dict[str, Any] | None = None) -> Path:
    """Add sections to a run's result."""
    path = folder / "result.json"
    result = json.loads(path.read_text())
    if own is not None:
        result["measure"] = own
    if cloud is not None:
        result["cloud"] = {"measure": cloud}
    path.write_text(json.dumps(result))
    return folder


def rows(power: bool = True, celsius: bool = True, throttled: bool = False) -> list[Row]:
    """Twenty seconds of a run that was resumed in its middle."""
    found = [Row(1, 0.0, 1e9, event=trace.BEGIN, detail="0")]
    hot = {30: "too hot"} if throttled else {}
    for i in range(41):
        found.append(
            Row(
                1 if i < 20 else 2, i / 2, 1e9 + i / 2,
                5.0 + i % 3 if power else None, 3.0 * i if power else None, i / 2,
                1000.0 + 10 * i, 1000.0 + 10 * i, None, 150.0,
                50.0 + i / 10 if celsius else None, None, hot.get(i, ""),
            )
        )  # fmt: skip
        marks = {10: (trace.EPOCH, "1"), 11: (trace.SNAPSHOT, "20"), 25: (trace.CUT, "4 int8 none")}
        marks |= {2: (trace.SELECTION, "1")}
        if i in marks:
            event, detail = marks[i]
            found.append(Row(1, i / 2, 1e9 + i / 2, event=event, detail=detail))
        if i == 19:
            found.append(Row(2, 9.75, 1e9 + 40, event=trace.BEGIN, detail="20"))
    return found


def record_trace(folder: Path, name: str = "trace.csv", **which: bool) -> Path:
    """Write a run's trace."""
    (folder / name).write_text(to_csv(rows(**which)))
    return folder
