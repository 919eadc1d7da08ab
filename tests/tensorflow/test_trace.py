"""Seconds per operation out of a TensorFlow trace, real ones and traces written by hand."""

import time
from collections.abc import Iterable

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from core.elastic.tf_trace import operation_seconds, shared_time, trace
from core.errors import TrainingError

pytestmark = pytest.mark.tensorflow

MICROSECOND = 1_000_000  # in picoseconds, the unit of a trace
Event = tuple[str, float, float]  # name, start and end in microseconds

intervals = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 20)).map(lambda i: (i[0], i[0] + i[1])),
    max_size=12,
)


@given(intervals)
def test_intervals_share_the_time_in_which_they_run_side_by_side(
    intervals: list[tuple[int, int]],
) -> None:
    shares = [0.0] * len(intervals)
    for instant in range(60):
        running = [i for i, (start, end) in enumerate(intervals) if start <= instant < end]
        for i in running:
            shares[i] += 1 / len(running)
    times = np.array(intervals, dtype=np.int64).reshape(-1, 2)
    assert shared_time(times[:, 0], times[:, 1]) == pytest.approx(np.array(shares))


@given(intervals)
def test_shares_add_up_to_the_time_in_which_anything_runs(intervals: list[tuple[int, int]]) -> None:
    times = np.array(intervals, dtype=np.int64).reshape(-1, 2)
    covered = {instant for start, end in intervals for instant in range(start, end)}
    assert shared_time(times[:, 0], times[:, 1]).sum() == pytest.approx(len(covered))


class Plane:
    """A plane of a trace, in the form in which TensorFlow records it."""

    def __init__(self, space: xplane_pb2.XSpace, name: str) -> None:
        self._plane = space.planes.add(name=name)

    def line(self, events: Iterable[Event], start_ns: int = 0) -> None:
        """A thread or stream, with an event of each name."""
        line = self._plane.lines.add(timestamp_ns=start_ns)
        for name, start, end in events:
            self._event(line, name, start, end)

    def kernels(self, events: Iterable[Event], by: str) -> None:
        """A stream of an accelerator: kernels that carry their operation as the stat tf_op, as
        text or as a reference to a stat's name."""
        line = self._plane.lines.add()
        for name, start, end in events:
            event = self._event(line, "void a_kernel<float, 128>(float*)", start, end)
            event.stats.add(metadata_id=self._stat("correlation_id"), uint64_value=7)
            stat = event.stats.add(metadata_id=self._stat("tf_op"))
            if by == "text":
                stat.str_value = name
            else:
                stat.ref_value = self._stat(name)

    def _event(
        self, line: xplane_pb2.XLine, name: str, start: float, end: float
    ) -> xplane_pb2.XEvent:
        number = len(self._plane.event_metadata) + 1
        self._plane.event_metadata[number].name = name
        return line.events.add(
            metadata_id=number,
            offset_ps=round(start * MICROSECOND),
            duration_ps=round((end - start) * MICROSECOND),
        )

    def _stat(self, name: str) -> int:
        for number, stat in self._plane.stat_metadata.items():
            if stat.name == name:
                return int(number)
        number = len(self._plane.stat_metadata) + 1
        self._plane.stat_metadata[number].name = name
        return number


@pytest.fixture
def space() -> xplane_pb2.XSpace:
    return xplane_pb2.XSpace()


def microseconds(space: xplane_pb2.XSpace) -> dict[str, float]:
    return {node: pytest.approx(s * 1e6) for node, s in operation_seconds(space).items()}


def test_operations_of_all_threads_of_the_host_share_the_clock(space: xplane_pb2.XSpace) -> None:
    host = Plane(space, "/host:CPU")
    host.line([("net/conv:Conv2D", 0, 10), ("net/act:Relu", 10, 14)])
    host.line([("net/product:MatMul", 4, 12)])
    assert microseconds(space) == {"net/conv": 7, "net/act": 3, "net/product": 4}


def test_an_operation_that_runs_again_adds_up(space: xplane_pb2.XSpace) -> None:
    Plane(space, "/host:CPU").line([("a:Mul", 0, 2), ("a:Mul", 5, 8)])
    assert microseconds(space) == {"a": 5}


def test_each_thread_counts_from_its_own_start(space: xplane_pb2.XSpace) -> None:
    host = Plane(space, "/host:CPU")
    host.line([("a:Mul", 0, 10)], start_ns=1_000_000)
    host.line([("b:Mul", 0, 10)], start_ns=1_000_006)  # 6 ns of 10 µs before it
    assert microseconds(space) == {"a": 5.003, "b": 5.003}


@pytest.mark.parametrize(
    "name",
    [
        "ExecutorState::Process",
        "EagerLocalExecute: __inference_step_12",
        "FunctionRun",
        "$python.py:12 step",
        "net/conv:",
        ":Conv2D",
        "",
    ],
)
def test_what_is_no_operation_takes_no_time(space: xplane_pb2.XSpace, name: str) -> None:
    Plane(space, "/host:CPU").line([(name, 0, 100), ("net/conv:Conv2D", 20, 30)])
    assert microseconds(space) == {"net/conv": 10}


def test_other_planes_of_the_host_are_no_operations(space: xplane_pb2.XSpace) -> None:
    for name in ("/host:metadata", "/host:python-tracer", "Task Environment"):
        Plane(space, name).line([("a:Mul", 0, 100)])
    assert operation_seconds(space) == {}


@pytest.mark.parametrize("by", ["text", "reference"])
def test_kernels_of_an_accelerator_count_for_the_operation_they_carry(
    space: xplane_pb2.XSpace, by: str
) -> None:
    kernels = [("net/conv:Conv2D", 0, 6), ("net/conv:Conv2D", 6, 8), ("net/act:Relu", 8, 9)]
    Plane(space, "/device:GPU:0").kernels(kernels, by)
    assert microseconds(space) == {"net/conv": 8, "net/act": 1}


def test_with_an_accelerator_the_time_of_the_host_does_not_count(space: xplane_pb2.XSpace) -> None:
    Plane(space, "/host:CPU").line([("net/conv:Conv2D", 0, 1), ("net/shape:Pack", 1, 50)])
    Plane(space, "/device:GPU:0").kernels([("net/conv:Conv2D", 5, 25)], "reference")
    assert microseconds(space) == {"net/conv": 20}


def test_an_accelerator_that_ran_no_operation_leaves_it_to_the_host(
    space: xplane_pb2.XSpace,
) -> None:
    Plane(space, "/host:CPU").line([("net/conv:Conv2D", 0, 3)])
    Plane(space, "/device:GPU:0").line([("MemcpyH2D", 0, 50)])
    assert microseconds(space) == {"net/conv": 3}


def test_an_empty_trace_has_no_operations(space: xplane_pb2.XSpace) -> None:
    assert operation_seconds(space) == {}
    Plane(space, "/host:CPU").line([("a:Mul", 3, 3)])  # began and ended at once
    assert operation_seconds(space) == {}


@pytest.fixture(scope="module")
def product() -> tf.types.experimental.ConcreteFunction:
    """Two products and a sum, large enough to be seen."""

    def body(x: tf.Tensor) -> tf.Tensor:
        twice = tf.linalg.matmul(x, tf.linalg.matmul(x, x, name="first"), name="second")
        return tf.reduce_sum(twice, name="sum")

    return tf.function(body, autograph=False).get_concrete_function(tf.TensorSpec((400, 400)))


def test_a_real_trace_finds_the_operations_within_the_time_they_took(
    product: tf.types.experimental.ConcreteFunction,
) -> None:
    x = tf.random.stateless_normal((400, 400), (0, 1))
    product(x)
    walls: list[float] = []

    def step() -> None:
        start = time.perf_counter()
        product(x).numpy()
        walls.append(time.perf_counter() - start)

    seconds = trace(step, repeats=5)
    assert len(walls) == 5
    assert {"first", "second", "sum"} <= set(seconds)
    assert set(seconds) <= {o.name for o in product.graph.get_operations()}
    assert min(seconds.values()) > 0
    assert sum(seconds.values()) < sum(walls) / 5


def test_a_trace_without_any_operation_is_refused() -> None:
    with pytest.raises(TrainingError, match="the TensorFlow profiler recorded no operation"):
        trace(lambda: None, repeats=1)


def test_another_profiler_in_this_process_is_named(
    product: tf.types.experimental.ConcreteFunction, tmp_path_factory: pytest.TempPathFactory
) -> None:
    x = tf.zeros((400, 400))
    with (
        tf.profiler.experimental.Profile(str(tmp_path_factory.mktemp("other"))),
        pytest.raises(TrainingError, match="close any other profiler of this process"),
    ):
        trace(lambda: product(x).numpy(), repeats=1)
