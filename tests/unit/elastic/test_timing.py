"""The timing profile: closed against the whole step, predicting as the paper defines."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.elastic.timing import Counts, Parts, Tensor, Timing
from core.errors import DataError

TENSORS = (
    Tensor("stem/kernel", (3, 3, 3, 8), "kernel", head=False, layer="stem"),
    Tensor("norm/gamma", (8,), "norm", head=False, layer="norm"),
    Tensor("norm/beta", (8,), "norm", head=False, layer="norm"),
    Tensor("head/kernel", (8, 5), "kernel", head=True, layer="head"),
)
Damage = Callable[[str], str]

# Milliseconds, so that sums can be followed by hand: 64 in all, forward 30, full step 94.
T_DW = (8.0, 1.0, 1.0, 4.0)
T_REACH = (0.0, 0.0, 20.0, 10.0)
T_THROUGH = (0.0, 0.0, 4.0, 16.0)


def parts(scale: float = 1.0, forward: float = 30.0, full: float = 94.0) -> Parts:
    dw, reach, through = (np.array(p) * scale for p in (T_DW, T_REACH, T_THROUGH))
    return Parts(dw, reach, through, forward, full, spread=0.05)


@pytest.fixture
def timing() -> Timing:
    return Timing.from_parts(TENSORS, parts(), {"threads": {"intra_op": 2}, "versions": "ä"})


def masked(*selected: int) -> np.ndarray:
    return np.isin(np.arange(len(TENSORS)), selected)


def test_parts_that_add_up_stay_as_they_are(timing: Timing) -> None:
    assert timing.closure == 0
    assert timing.backward == 64
    assert (timing.t_dw.tolist(), timing.t_reach.tolist()) == (list(T_DW), list(T_REACH))
    assert timing.t_through.tolist() == list(T_THROUGH)


@given(scale=st.floats(0.1, 10), forward=st.floats(0.01, 100), backward=st.floats(0.01, 100))
def test_parts_are_scaled_to_the_measured_backward_pass(
    scale: float, forward: float, backward: float
) -> None:
    found = Timing.from_parts(TENSORS, parts(scale, forward, forward + backward), {})
    total = found.t_dw.sum() + found.t_reach.sum() + found.t_through.sum()
    assert total == pytest.approx(found.full - found.forward)
    # One factor for all of them, and `closure` says how far they were off before.
    assert found.t_dw * scale * 64 == pytest.approx(np.array(T_DW) * scale * total)
    assert found.closure == pytest.approx(abs(64 * scale - backward) / backward)


def test_error_propagation_is_counted_with_and_without_the_deepest_tensor(timing: Timing) -> None:
    # The way through tensor k is paid by the tensor before it where the backward pass is pruned.
    assert timing.t_dy("paper").tolist() == [0, 0, 24, 26]
    assert timing.t_dy("realisable").tolist() == [0, 4, 36, 10]
    for depth in range(len(TENSORS)):
        more = timing.t_dy("paper")[depth:].sum() - timing.t_dy("realisable")[depth:].sum()
        assert more == T_THROUGH[depth]


@pytest.mark.parametrize(
    ("selected", "paper", "realisable"),
    [
        ((), 30, 30),  # nothing to train: the forward pass alone
        ((3,), 30 + 4 + 26, 30 + 4 + 10),
        ((2,), 30 + 1 + 50, 30 + 1 + 46),
        ((0,), 30 + 8 + 50, 30 + 8 + 50),
        ((1, 3), 30 + 1 + 4 + 50, 30 + 1 + 4 + 50),
        ((0, 1, 2, 3), 94, 94),
    ],
)
def test_a_step_is_predicted_as_the_sum_of_what_the_selection_needs(
    timing: Timing, selected: tuple[int, ...], paper: float, realisable: float
) -> None:
    assert timing.predict(masked(*selected), "paper") == pytest.approx(paper)
    assert timing.predict(masked(*selected), "realisable") == pytest.approx(realisable)
    assert timing.predict(masked(*selected)) == timing.predict(masked(*selected), "realisable")


def multiply_adds(batch: int) -> Counts:
    """Of a chain of convolutions without padding or stride, from their definition: each output
    element is a sum over the window and the input channels. The backward pass does the same
    products once for the filter and once for the error."""
    each = np.array([batch * 30 * 30 * 8 * 9 * 3, batch * 28 * 28 * 4 * 9 * 8, batch * 4 * 5.0])
    through = each.copy()
    through[0] = 0  # the images need no gradient
    # By tensors served; the error through the second layer serves the first one alone.
    needed = {frozenset([k]): float(n) for k, n in enumerate(each)}
    needed[frozenset([0])] += float(through[1])
    needed[frozenset([0, 1])] = float(through[2])
    return Counts(each, np.zeros(3), through, float(each.sum()), needed)


@pytest.mark.parametrize(
    ("selected", "parts"),
    [
        ((), (0, 0, 0)),
        ((2,), (0, 0, 1)),  # the last layer: its own gradient alone
        ((1,), (0, 1, 1)),  # and the error through the layer behind it
        ((0,), (1, 1, 1)),
        ((0, 2), (1, 1, 2)),
        ((0, 1, 2), (1, 2, 2)),  # all of it: three times the forward pass, but for the images
    ],
)
def test_a_step_is_counted_as_the_products_that_it_cannot_leave_out(
    selected: tuple[int, ...], parts: tuple[int, int, int]
) -> None:
    counts = multiply_adds(batch=2)
    mask = np.isin(np.arange(3), selected)
    assert counts.of(mask) == counts.forward + float(np.dot(parts, counts.t_dw))


def test_a_branch_counts_only_where_it_serves_a_selected_tensor() -> None:
    zero = np.zeros(3)
    shared, branch = {frozenset([0, 1, 2]): 100.0}, {frozenset([0, 1]): 10.0}
    counts = Counts(zero, zero, zero, 1000.0, shared | branch)
    of = [counts.of(np.arange(3) == k) for k in range(3)]
    assert of == [1110, 1110, 1100]


def test_counts_come_back_from_a_saved_profile(tmp_path: Path) -> None:
    counts = multiply_adds(batch=2)
    timing = replace(Timing.from_parts(TENSORS, parts(), {}), counts=counts)
    timing.save(tmp_path / "profile.json")
    loaded = Timing.load(tmp_path / "profile.json").counts
    assert loaded is not None
    assert loaded.needed == counts.needed
    assert loaded.plain() == counts.plain()


def test_the_size_of_a_tensor_is_the_number_of_its_values() -> None:
    assert [t.size for t in TENSORS] == [216, 8, 8, 40]
    assert Tensor("scalar", (), "other", head=False, layer="scalar").size == 1


@given(
    st.lists(
        st.floats(1e-9, 1e3).map(np.float64), min_size=3 * len(TENSORS), max_size=3 * len(TENSORS)
    )
)
def test_a_saved_profile_is_read_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, seconds: list[np.float64]
) -> None:
    path = tmp_path_factory.mktemp("profile") / "timing.json"
    dw, reach, through = np.split(np.array(seconds), 3)
    measured = Parts(dw, reach, through, np.float64(0.1), np.float64(0.7), np.float64(1 / 3))  # type: ignore[arg-type]
    saved = Timing.from_parts(TENSORS, measured, {"device": {"name": "local"}, "threads": [1, 2]})
    saved.save(path)
    loaded = Timing.load(path)
    for key in ("t_dw", "t_reach", "t_through"):
        assert getattr(loaded, key).tobytes() == getattr(saved, key).tobytes()
    for key in ("tensors", "forward", "full", "spread", "closure", "context"):
        assert getattr(loaded, key) == getattr(saved, key)


def changed(**values: object) -> Damage:
    return lambda text: json.dumps(json.loads(text) | values)


def without(key: str) -> Damage:
    return lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != key})


def replaced_by(content: str) -> Damage:
    return lambda text: content


DAMAGES: dict[str, Damage] = {
    "cut short": lambda text: text[: len(text) // 2],
    "zeros": lambda text: "\0" * len(text),
    "empty": replaced_by(""),
    "a number": replaced_by("3"),
    "null": replaced_by("null"),
    "a list": replaced_by("[]"),
    "a string": replaced_by('"format"'),
    "an older format": changed(format=1),
    "no format": without("format"),
    "no forward time": without("forward"),
    "no tensors": without("tensors"),
    "tensors that are a number": changed(tensors=3),
    "a tensor without shape": changed(tensors=[{"name": "kernel"}]),
    "a tensor without layer": changed(
        tensors=[{"name": "kernel", "shape": [1], "kind": "kernel", "head": False}] * 4
    ),
    "too few times": changed(t_dw=[1.0]),
    "times that are a word": changed(t_reach="none"),
    "an unknown key": changed(extra=1),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_profile_is_refused_with_what_to_do(
    timing: Timing, tmp_path: Path, damage: Damage
) -> None:
    path = tmp_path / "timing.json"
    timing.save(path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(DataError) as refused:
        Timing.load(path)
    assert str(refused.value).startswith(f"timing profile {path} cannot be read (")
    assert str(refused.value).endswith("delete it, and the same command measures it again")


def test_a_missing_profile_or_one_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.json cannot be read \(.*No such file"):
        Timing.load(tmp_path / "missing.json")
    (tmp_path / "picture.json").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(DataError, match=r"picture\.json cannot be read"):
        Timing.load(tmp_path / "picture.json")
