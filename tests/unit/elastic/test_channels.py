"""Groups of channels and the group lasso, against loops over single weights."""

import numpy as np
import pytest
from numpy.typing import NDArray

from core.elastic import channels
from core.elastic.channels import Group, Slice, Wiring
from core.errors import ConfigError

Arrays = dict[str, NDArray]


@pytest.fixture
def wiring() -> Wiring:
    """images → a → depthwise → b, added to a's channels → c → classes; shapes as in Keras."""
    wiring = Wiring()
    images = wiring.new("images", 3, cut=False)
    a, b, c = wiring.new("a", 4), wiring.new("b", 4), wiring.new("c", 5)
    wiring.weigh(images, "a/kernel", 2)
    wiring.weigh(a, "a/kernel", 3)
    wiring.follow(a, "a/bias")
    wiring.weigh(a, "d/kernel", 2)
    wiring.weigh(a, "b/kernel", 2)
    wiring.weigh(b, "b/kernel", 3)
    wiring.weigh(wiring.join("sum", [a, b]), "c/kernel", 2)
    wiring.weigh(c, "c/kernel", 3)
    wiring.follow(c, "gamma", "beta")
    wiring.weigh(c, "head/kernel", 0)
    return wiring


@pytest.fixture
def arrays() -> Arrays:
    draw = np.random.default_rng(0)
    shapes = {
        "a/kernel": (3, 3, 3, 4), "a/bias": (4,), "d/kernel": (3, 3, 4, 1),
        "b/kernel": (1, 1, 4, 4), "c/kernel": (1, 1, 4, 5), "gamma": (5,), "beta": (5,),
        "head/kernel": (5, 2), "head/bias": (2,),
    }  # fmt: skip
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def slices_of(arrays: Arrays, channel: int) -> list[NDArray]:
    """All kernel weights of a channel of the group of `a`, by hand."""
    return [
        arrays["a/kernel"][..., channel],
        arrays["d/kernel"][:, :, channel],
        arrays["b/kernel"][:, :, channel],
        arrays["b/kernel"][..., channel],
        arrays["c/kernel"][:, :, channel],
    ]


def test_branches_that_are_added_up_share_a_group_and_images_have_none(wiring: Wiring) -> None:
    first, second = wiring.groups()
    assert (first.name, first.channels, second.name, second.channels) == ("a", 4, "c", 5)
    assert set(first.slices) == {
        Slice("a/kernel", 3, True), Slice("a/bias", 0, False), Slice("d/kernel", 2, True),
        Slice("b/kernel", 2, True), Slice("b/kernel", 3, True), Slice("c/kernel", 2, True),
    }  # fmt: skip
    assert [s.array for s in second.slices] == ["c/kernel", "gamma", "beta", "head/kernel"]
    assert [s.array for s in second.kernels] == ["c/kernel", "head/kernel"]


def test_what_is_added_to_channels_that_must_stay_stays(wiring: Wiring) -> None:
    wiring.join("late", [0, wiring.new("e", 3)])
    assert [g.name for g in wiring.groups()] == ["a", "c"]


def test_adding_up_unequal_numbers_of_channels_is_refused(wiring: Wiring) -> None:
    with pytest.raises(ConfigError, match="layer se adds up 4 and 5 channels"):
        wiring.join("se", [1, 3])


def test_the_penalty_sums_one_norm_for_each_channel(wiring: Wiring, arrays: Arrays) -> None:
    first, second = wiring.groups()
    slow = [
        sum(float(w) ** 2 for part in slices_of(arrays, c) for w in part.flat) ** 0.5
        for c in range(4)
    ]
    np.testing.assert_allclose(channels.norms(first, arrays), slow, rtol=1e-12)
    slow += [
        np.hypot(
            np.linalg.norm(arrays["c/kernel"][..., c].astype(float)),
            np.linalg.norm(arrays["head/kernel"][c].astype(float)),
        )
        for c in range(5)
    ]
    assert channels.penalty([first, second], arrays) == pytest.approx(sum(slow), rel=1e-12)


def test_a_channel_is_dead_when_every_kernel_weight_is_below_the_threshold(
    wiring: Wiring, arrays: Arrays
) -> None:
    for part in slices_of(arrays, 1) + slices_of(arrays, 2):
        part[...] = np.float32(-9e-5)
    arrays["d/kernel"][2, 2, 2, 0] = -2e-4  # one weight is enough to live
    arrays["a/bias"][1] = 7  # and a bias is not
    kept = channels.alive(wiring.groups(), arrays, 1e-4)
    assert kept["a"].tolist() == [0, 2, 3]
    assert kept["c"].tolist() == [0, 1, 2, 3, 4]
    assert channels.count(kept) == 8


def test_a_multiple_of_channels_stays_and_the_strongest_of_the_dead_fill_it_up(
    wiring: Wiring, arrays: Arrays
) -> None:
    for number, scale in ((0, 1e-7), (1, 1e-6), (2, 1e-5)):
        for part in slices_of(arrays, number):
            part[...] = np.float32(scale)
    groups = wiring.groups()
    left = [
        channels.alive(groups, arrays, 1e-4, multiple)["a"].tolist() for multiple in (1, 2, 3, 8)
    ]
    assert left == [[3], [2, 3], [1, 2, 3], [0, 1, 2, 3]]


def test_the_strongest_channel_of_a_dead_group_stays(wiring: Wiring, arrays: Arrays) -> None:
    faint = {name: 1e-6 * value for name, value in arrays.items()}
    kept = channels.alive(wiring.groups(), faint, 1e-4)
    strongest = [
        np.argmax(
            [sum((p.astype(float) ** 2).sum() for p in slices_of(faint, c)) for c in range(4)]
        )
    ]
    assert kept["a"].tolist() == strongest
    assert len(kept["c"]) == 1


def test_cutting_leaves_the_kept_channels_on_both_sides(wiring: Wiring, arrays: Arrays) -> None:
    kept = {"a": np.array([0, 3]), "c": np.array([1, 2, 4])}
    found = channels.cut(wiring.groups(), kept, arrays)
    expected = {
        "a/kernel": arrays["a/kernel"][..., [0, 3]],
        "a/bias": arrays["a/bias"][[0, 3]],
        "d/kernel": arrays["d/kernel"][:, :, [0, 3]],
        "b/kernel": arrays["b/kernel"][:, :, [0, 3]][..., [0, 3]],
        "c/kernel": arrays["c/kernel"][:, :, [0, 3]][..., [1, 2, 4]],
        "gamma": arrays["gamma"][[1, 2, 4]],
        "beta": arrays["beta"][[1, 2, 4]],
        "head/kernel": arrays["head/kernel"][[1, 2, 4]],
        "head/bias": arrays["head/bias"],
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.array_equal(found[name], value), name
    del arrays["gamma"]  # as a tensor that was never trained has no slot
    assert channels.cut(wiring.groups(), kept, arrays).keys() == arrays.keys()


def test_channels_of_a_state_are_found_among_those_left() -> None:
    left = {"a": np.array([0, 2, 5, 7])}
    assert channels.places({"a": np.array([2, 7])}, left)["a"].tolist() == [1, 3]
    with pytest.raises(ValueError, match="channels of a were cut out here that the state has"):
        channels.places({"a": np.array([1, 2])}, left)
    with pytest.raises(ValueError, match=r"groups of channels differ: \['a', 'b'\]"):
        channels.places({"b": np.array([2])}, left)


def test_everything_is_kept_at_first() -> None:
    kept = channels.everything([Group("a", 3, ()), Group("b", 1, ())])
    assert {name: k.tolist() for name, k in kept.items()} == {"a": [0, 1, 2], "b": [0]}
