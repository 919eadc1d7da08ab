"""Costs from two device profiles, against sums over blocks written out."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from core.split.costs import MIB, CodecCosts, Costs
from core.split.decision import Choice, Link, candidates, move_seconds, stages
from core.split.simulate import Scheme, SimulatedLink, simulate
from core.split.traces import Trace

SHAPES = [[2, 4], [2, 8], [2, 16], [2, 3]]


def profile(forward: list[float], backward: list[float], slowdown: float = 1.0) -> dict[str, Any]:
    return {
        "blocks": 3,
        "frozen": 0,
        "batch": 2,
        "forward_s": forward,
        "backward_s": backward,
        "feature_shapes": SHAPES,
        "parameter_bytes": [100, 200, 400],
        "optimiser_bytes": [10, 20, 40],
        "codecs": {
            "none": {"encode_s_per_mib": 0.0, "decode_s_per_mib": 0.0},
            "int8": {"encode_s_per_mib": 3.0, "decode_s_per_mib": 5.0},
        },
        "slowdown": slowdown,
    }


def encoded_bytes(name: str, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * {"none": 4, "int8": 1}[name]


def costs(
    edge: dict[str, Any], cloud: dict[str, Any], codecs: tuple[str, ...] = ("int8",)
) -> Costs:
    return Costs.from_profiles(edge, cloud, codecs, 8, encoded_bytes)


EDGE = profile([1.0, 2.0, 4.0], [10.0, 20.0, 40.0])
CLOUD = profile([0.1, 0.2, 0.4], [0.01, 0.02, 0.04])


def test_the_edge_computes_the_blocks_before_the_cut_and_replays_their_forward() -> None:
    found = costs(EDGE, CLOUD)
    assert found.edge_s.tolist() == [0.0, 11.0, 33.0, 77.0]
    assert found.edge_replay_s.tolist() == [0.0, 12.0, 36.0, 77.0]  # all-edge replays nothing


def test_the_cloud_computes_the_blocks_from_the_cut_on() -> None:
    assert costs(EDGE, CLOUD).cloud_s == pytest.approx([0.77, 0.66, 0.44, 0.0])


def test_raw_inputs_go_up_at_cut_0_and_nothing_is_sent_by_all_edge() -> None:
    codec = costs(EDGE, CLOUD).codec("int8")
    assert codec.uplink_bytes.tolist() == [8, 16, 32, 0]
    assert codec.downlink_bytes.tolist() == [0, 16, 32, 0]


def test_codec_seconds_are_per_mib_of_float32_and_of_the_side() -> None:
    cloud = {**CLOUD, "codecs": {"int8": {"encode_s_per_mib": 30.0, "decode_s_per_mib": 50.0}}}
    codec = costs(EDGE, cloud).codec("int8")
    for array, per_mib in (
        (codec.edge_encode_s, 3),
        (codec.edge_decode_s, 5),
        (codec.cloud_encode_s, 30),
        (codec.cloud_decode_s, 50),
    ):
        assert array == pytest.approx([0, per_mib * 64 / MIB, per_mib * 128 / MIB, 0])


@given(st.floats(0.1, 50), st.floats(0.1, 50))
def test_a_slow_down_multiplies_every_time_of_its_side_and_no_size(
    edge: float, cloud: float
) -> None:
    one = costs(EDGE, CLOUD)
    slow = costs({**EDGE, "slowdown": edge}, {**CLOUD, "slowdown": cloud})
    assert slow.edge_s == pytest.approx(edge * one.edge_s)
    assert slow.edge_replay_s == pytest.approx(edge * one.edge_replay_s)
    assert slow.cloud_s == pytest.approx(cloud * one.cloud_s)
    before, after = one.codec("int8"), slow.codec("int8")
    assert after.edge_encode_s == pytest.approx(edge * before.edge_encode_s)
    assert after.edge_decode_s == pytest.approx(edge * before.edge_decode_s)
    assert after.cloud_encode_s == pytest.approx(cloud * before.cloud_encode_s)
    assert after.cloud_decode_s == pytest.approx(cloud * before.cloud_decode_s)
    assert after.uplink_bytes.tolist() == before.uplink_bytes.tolist()


def test_a_block_moves_with_its_optimiser_state_whichever_way_it_goes() -> None:
    found = costs(EDGE, CLOUD)
    assert found.moved_bytes(1, 3) == found.moved_bytes(3, 1) == 660
    assert found.moved_bytes(2, 2) == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"batch": 3}, "the profiles of edge and cloud differ in batch: they are not of the same"),
        ({"feature_shapes": SHAPES[:-1]}, "differ in feature_shapes"),
        ({"frozen": 1}, "differ in frozen"),
        ({"backward_s": [1.0]}, r"cloud: backward_s has the shape \(1,\), must have one number"),
        ({"forward_s": [1.0, -1.0, 1.0]}, "cloud: forward_s must be finite and not negative"),
        ({"forward_s": [1.0, math.nan, 1.0]}, "cloud: forward_s must be finite and not negative"),
        ({"codecs": {}}, r"cloud has no times of codec 'int8' \(timed: none\)"),
    ],
)
def test_profiles_that_do_not_fit_are_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        costs(EDGE, {**CLOUD, **change})


def test_a_profile_that_lacks_something_is_refused() -> None:
    lacking = {k: v for k, v in EDGE.items() if k != "optimiser_bytes"}
    with pytest.raises(DataError, match="the profile of the edge has no optimiser_bytes; profile"):
        costs(lacking, CLOUD)
    short = {**EDGE, "feature_shapes": SHAPES[:-1]}
    with pytest.raises(DataError, match="feature_shapes has 3 entries, must have 4"):
        costs(short, {**CLOUD, "feature_shapes": SHAPES[:-1]})


def test_arrays_of_other_cuts_and_negative_ones_are_refused() -> None:
    two, free = np.zeros(3), np.zeros(2)
    codec = CodecCosts(*[two] * 6)
    with pytest.raises(ValueError, match=r"cloud_s has the shape \(2,\), the cuts are \(3,\)"):
        Costs(two, two, free, {"none": codec}, free)
    with pytest.raises(ValueError, match=r"edge_s must not be negative"):
        Costs(two - 1, two, two, {"none": codec}, free)
    wrong = CodecCosts(*[two] * 5, free)
    with pytest.raises(ValueError, match=r"none.cloud_decode_s has the shape \(2,\)"):
        Costs(two, two, two, {"none": wrong}, free)


def test_a_codec_without_costs_is_named() -> None:
    with pytest.raises(ValueError, match="no costs of codec 'fp16'; known: int8"):
        costs(EDGE, CLOUD).codec("fp16")


# The front in the cloud.


def turned() -> Costs:
    return Costs.from_profiles(EDGE, CLOUD, ("int8",), 8, encoded_bytes, front="cloud")


def test_a_front_in_the_cloud_computes_the_blocks_before_the_cut_and_replays_them() -> None:
    found = turned()
    assert found.front == "cloud"
    assert found.cloud_s[:-1] == pytest.approx([0.0, 0.11, 0.33])
    assert found.cloud_replay_s is not None
    assert found.cloud_replay_s[:-1] == pytest.approx([0.0, 0.21, 0.63])
    assert found.edge_s.tolist() == found.edge_replay_s.tolist() == [77.0, 66.0, 44.0, 0.0]


def test_at_the_last_cut_a_front_in_the_cloud_would_need_the_images() -> None:
    assert np.isnan(turned().cloud_s[-1])
    found = {choice.cut for choice in candidates(turned(), ["int8"], ["int8"])}
    assert found == {0, 1, 2}


def test_raw_inputs_of_a_front_in_the_cloud_come_down() -> None:
    codec = turned().codec("int8")
    assert codec.downlink_bytes.tolist() == [8, 16, 32, 0]
    assert codec.uplink_bytes.tolist() == [0, 16, 32, 0]


def test_features_go_down_and_gradients_up_where_the_front_is_in_the_cloud() -> None:
    profile_of = {**EDGE["codecs"], "none": {"encode_s_per_mib": 7.0, "decode_s_per_mib": 11.0}}
    edge = EDGE | {"codecs": profile_of}
    found = Costs.from_profiles(edge, CLOUD, ("none", "int8"), 8, encoded_bytes, front="cloud")
    step = stages(found, Choice(1, "int8", "none"), 1)
    mib = 2 * 8 * 4 / MIB
    assert step.downlink_bytes == 16
    assert step.uplink_bytes == 64
    assert step.edge_s == pytest.approx(66 + mib * (5 + 7))  # decodes features, encodes gradients
    assert step.cloud_s == pytest.approx(0.21 + mib * 3)
    assert stages(found, Choice(1, "int8", "none"), 0).cloud_s == pytest.approx(0.11 + mib * 3)


def test_blocks_that_a_front_in_the_cloud_gives_away_come_down() -> None:
    link = Link(up=10.0, down=1000.0)
    assert move_seconds(turned(), link, 2, 1) == pytest.approx(220 / 1000)
    assert move_seconds(turned(), link, 1, 2) == pytest.approx(220 / 10)


def test_a_front_in_the_cloud_is_not_simulated() -> None:
    link = SimulatedLink(Trace.constant(1.0), Trace.constant(1.0))
    with pytest.raises(ValueError, match="a split with its front in the cloud is not simulated"):
        simulate(turned(), link, Scheme(Choice(1, "int8", "int8"), 1), 9)


def test_to_a_cut_among_frozen_blocks_no_gradient_comes_back_and_nothing_is_replayed() -> None:
    frozen = {"frozen": 1}
    found, plain = costs(EDGE | frozen, CLOUD | frozen), costs(EDGE, CLOUD)
    assert found.edge_replay_s.tolist() == [0.0, 11.0, 36.0, 77.0]
    codec, same = found.codec("int8"), plain.codec("int8")
    assert codec.downlink_bytes.tolist() == [0, 0, 32, 0]
    assert codec.uplink_bytes.tolist() == same.uplink_bytes.tolist()
    for name in ("edge_decode_s", "cloud_encode_s"):
        wanted = getattr(same, name) * [0, 0, 1, 0]
        assert getattr(codec, name).tolist() == wanted.tolist()


def test_error_feedback_lets_the_edge_decode_what_it_encodes() -> None:
    found = Costs.from_profiles(
        EDGE, CLOUD, ("int8", "none"), 8, encoded_bytes, decoded=("int8",)
    ).codec("int8")
    mib = np.array([0, 2 * 8, 2 * 16, 0]) * 4 / MIB
    assert found.edge_encode_s == pytest.approx((3.0 + 5.0) * mib)
    assert found.edge_decode_s == pytest.approx(5.0 * mib)


def test_what_was_lost_matters_where_a_gradient_comes_back_or_something_is_carried_on() -> None:
    frozen = {"frozen": 1}
    corrects, carries = (
        Costs.from_profiles(
            EDGE | frozen, CLOUD | frozen, ("int8",), 8, encoded_bytes, ("int8",), carries=carries
        ).codec("int8")
        for carries in (False, True)
    )
    mib = np.array([0, 2 * 8, 2 * 16, 0]) * 4 / MIB
    assert corrects.edge_encode_s == pytest.approx((3.0 + np.array([0, 0, 5.0, 0])) * mib)
    assert carries.edge_encode_s == pytest.approx((3.0 + 5.0) * mib)


def test_cuts_that_cannot_be_are_no_candidates_and_the_ends_stay() -> None:
    found = costs(EDGE, CLOUD).without([0, 1, 3])
    assert [c.cut for c in candidates(found, ("int8",), ("int8",))] == [0, 2, 3]
