import copy

import numpy as np
import pytest

from core.bench import parity, parity_side
from core.elastic.timing import Tensor

SIDE = {
    "losses": {"sgdw": [4.0, 2.0], "adam": [4.0, 3.0]},
    "nudged": {"sgdw": [4.0, 2.002], "adam": [4.0, 3.0]},
    "importance": {"sgdw/update": [0.1, 0.3, 0.2]},
    "selections": [[2], [1, 2]],
}


def test_two_equal_sides_do_not_differ():
    found = parity.compare(SIDE, SIDE)
    assert found["loss_difference"] == 0
    assert found["one_minus_spearman"] == pytest.approx(0)
    assert found["selections_that_differ"] == 0
    assert found["loss_difference_of_rounding_alone"]["sgdw"] == pytest.approx(0.001)
    assert found["loss_fell_to"] == {"sgdw": 0.5, "adam": 0.75}


def test_differences_are_the_largest_relative_ones():
    other = copy.deepcopy(SIDE)
    other["losses"]["adam"] = [4.0, 3.3]
    other["importance"]["sgdw/update"] = [0.3, 0.1, 0.2]
    other["selections"] = [[2], [0, 2]]
    found = parity.compare(SIDE, other)
    assert found["loss_difference"] == pytest.approx(0.1)
    assert found["one_minus_spearman"] == pytest.approx(2)
    assert found["selections_that_differ"] == 1


@pytest.mark.parametrize(
    ("name", "shape", "torch_shape"),
    [
        ("conv/kernel", (5, 3, 4, 8), (8, 4, 5, 3)),
        ("conv/depthwise_kernel", (5, 3, 8, 1), (8, 1, 5, 3)),
        ("head/kernel", (6, 7), (7, 6)),
        ("conv.weight", (8, 4, 5, 3), (8, 4, 5, 3)),
    ],
)
def test_a_kernel_has_the_same_numbers_in_either_order_of_axes(name, shape, torch_shape):
    tensor = Tensor(name, shape, "kernel", False, "layer")
    assert parity_side._as_torch(tensor) == torch_shape
    kernel = np.arange(np.prod(shape), dtype=np.float32).reshape(torch_shape)
    own = parity_side._from_torch(kernel, tensor)
    assert own.shape == shape
    last = tuple(n - 1 for n in shape)
    assert own[last] == kernel[tuple(n - 1 for n in torch_shape)]


def test_a_nudge_changes_weights_by_a_rounding_and_nothing_else():
    ones = np.ones(1000, np.float32)
    found = parity_side._nudged({"tensor/0": ones, "slot/momentum/0": ones})
    assert 0 < np.abs(found["tensor/0"] - 1).max() < 1e-6
    assert found["tensor/0"].dtype == np.float32
    assert (found["slot/momentum/0"] == 1).all()
