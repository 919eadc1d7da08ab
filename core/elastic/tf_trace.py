"""Seconds per operation from a TensorFlow trace.

TensorFlow 2.15 writes an XSpace protobuf (`*.xplane.pb`) with every event of every thread.
Operations that run side by side share the time in which they do, so that the parts add up to
what a clock on the wall shows: summing raw durations counted two cores twice.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.elastic.selector import Floats
from core.errors import TrainingError

_REMEDY = "close any other profiler of this process"

# An executed operation is named "node:Type"; scopes and runtime internals are not.
_OPERATION = re.compile(r"(?P<node>[^: ]+):[A-Za-z_]\w*")


def trace(step: Callable[[], object], repeats: int) -> dict[str, float]:
    """Run `step` `repeats` times under the profiler: seconds of one step by graph node name.

    Raises TrainingError when another profiler is active or the trace holds no operation.
    """
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    options = tf.profiler.experimental.ProfilerOptions(
        host_tracer_level=2, python_tracer_level=0, device_tracer_level=1
    )
    with tempfile.TemporaryDirectory(prefix="timing-") as folder:
        try:
            tf.profiler.experimental.start(folder, options)
        except tf.errors.AlreadyExistsError:
            raise TrainingError(f"the TensorFlow profiler is in use already; {_REMEDY}") from None
        try:
            for _ in range(repeats):
                step()
        finally:
            tf.profiler.experimental.stop()
        space = xplane_pb2.XSpace()
        for file in Path(folder).rglob("*.xplane.pb"):
            space.MergeFromString(file.read_bytes())
    seconds = operation_seconds(space)
    if not seconds:
        raise TrainingError(f"the TensorFlow profiler recorded no operation; {_REMEDY}")
    return {node: total / repeats for node, total in seconds.items()}


def operation_seconds(space: Any) -> dict[str, float]:
    """Wall seconds by node name: of the accelerator if the XSpace has one, else of the host."""
    planes = [p for p in space.planes if p.name.startswith("/device:GPU")]
    events = [e for p in planes for e in _events(p, accelerator=True)]
    if not events:
        events = [
            e for p in space.planes if p.name == "/host:CPU" for e in _events(p, accelerator=False)
        ]
    if not events:
        return {}
    nodes, starts, ends = zip(*events, strict=True)
    shares = shared_time(np.array(starts, dtype=np.int64), np.array(ends, dtype=np.int64))
    seconds: Counter[str] = Counter()
    for node, share in zip(nodes, shares, strict=True):
        seconds[node] += share * 1e-12  # XSpace counts picoseconds
    return dict(seconds)


def shared_time(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Floats:
    """Each interval's share of the time line: n intervals open at once get 1/n each.

    The shares add up to the length of the union of the intervals. Shapes (n,), any unit; every
    interval ends after its start.
    """
    shares = np.zeros(len(starts))
    times = np.concatenate([starts, ends])
    opens = np.repeat([True, False], len(starts))
    open_now: set[int] = set()
    before = 0
    for i in np.lexsort((opens, times)):  # closing comes before opening at the same instant
        if open_now:
            part = (times[i] - before) / len(open_now)
            for j in open_now:
                shares[j] += part
        before = times[i]
        if opens[i]:
            open_now.add(int(i))
        else:
            open_now.discard(int(i) - len(starts))
    return shares


def _events(plane: Any, accelerator: bool) -> list[tuple[str, int, int]]:
    """(node, start, end) in picoseconds of every operation in a plane."""
    found = []
    for line in plane.lines:
        for event in line.events:
            name = _kernel_operation(plane, event) if accelerator else _name(plane, event)
            match = _OPERATION.fullmatch(name)
            if match and event.duration_ps > 0:
                start = line.timestamp_ns * 1000 + event.offset_ps
                found.append((match["node"], start, start + event.duration_ps))
    return found


def _name(plane: Any, event: Any) -> str:
    return str(plane.event_metadata[event.metadata_id].name)


def _kernel_operation(plane: Any, event: Any) -> str:
    """A GPU kernel carries its operation in the statistic `tf_op`, by value or by reference."""
    for stat in event.stats:
        if plane.stat_metadata[stat.metadata_id].name == "tf_op":
            return stat.str_value or str(plane.stat_metadata[stat.ref_value].name)
    return ""
