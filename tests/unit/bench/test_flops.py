import numpy as np
import pytest

from core.bench import flops
from core.elastic.timing import Counts
from core.vision import torchvision


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("resnet50", "resnet50"),
        ("vgg16", "vgg16"),
        ("mobilenet_v2", "mobilenet_v2"),
        ("vit_b16", "vit_b_16"),
    ],
)
def test_published_counts_are_those_of_torchvisions_weights(ours, theirs):
    weights = torchvision("models").get_model_weights(theirs)
    assert weights.IMAGENET1K_V1.meta["_ops"] == flops.PUBLISHED[ours]


def test_the_parts_add_up_to_the_full_step():
    needed = {frozenset({0}): 7e9, frozenset({1}): 1e9, frozenset({0, 1}): 2e9}
    t_dw, t_reach, t_through = np.array([4e9, 1e9]), np.array([0.0, 2e9]), np.array([5e9, 3e9])
    counts = Counts(t_dw, t_reach, t_through, 10e9, needed)
    # Nothing goes through the tensor nearest the input.
    assert flops.parts(counts) == {
        "forward": 10, "full": 20, "own_gradients": 5, "error_on_the_way": 2,
        "error_through_tensors": 3, "full_over_forward": 2,
    }  # fmt: skip


def test_kerass_resnet50_is_compared_with_the_papers_count():
    own = flops.against_published("resnet50", "tensorflow", 3.9e9 - 2048 * 1000)
    assert own == {"published_forward": 3.9, "deviation_from_published": 0}
    assert flops.against_published("resnet50", "torch", 1e9)["published_forward"] == 4.089


@pytest.mark.slow
def test_shares_of_a_small_real_network_are_in_order():
    found = flops.count("efficientnet_lite0", 32)
    assert 0 < found["head_share"] < found["bn_bias_share"] < 1
    assert found["every_second_of_output_half_share"] < found["output_half_share"] < 1
    assert found["full_over_forward"] == pytest.approx(3, abs=0.1)
    assert "deviation_from_published" not in found  # that is of another size
