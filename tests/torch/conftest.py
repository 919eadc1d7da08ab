"""The zoo with the tests' own networks in it."""

from collections.abc import Iterator

import pytest

from core.models import torch_zoo
from tests.torch.networks import NETWORKS


@pytest.fixture(scope="session", autouse=True)
def small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, network in NETWORKS.items():
            patch.setitem(torch_zoo.NETWORKS, name, network)
        yield
