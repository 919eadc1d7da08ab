"""Learning rates and losses of split training."""

import numpy as np
import pytest
import torch

from core.split.part import learning_rate, loss_of

SETTINGS = {"learning_rate": 0.01, "milestones": [], "factor": 0.5, "patience": 2}


@pytest.mark.parametrize("patience", [0, 1, 2])
def test_a_plateau_lowers_the_rate_as_pytorch_does(patience: int) -> None:
    losses = [0.9, 0.8, 0.8, 0.81, 0.79999, 0.8, 0.7, 0.71, 0.72, 0.73, 0.7, 0.6, 0.65, 0.65, 0.65]
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.01)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=patience)
    for epoch, loss in enumerate(losses, start=1):
        schedule.step(loss)
        found = learning_rate(SETTINGS | {"patience": patience}, epoch + 1, losses[:epoch])
        assert found == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-12), epoch


def test_without_patience_losses_do_not_matter() -> None:
    settings = {k: v for k, v in SETTINGS.items() if k != "patience"}
    assert learning_rate(settings | {"milestones": [2]}, 5, [1.0] * 4) == 0.005


def test_images_have_a_squared_error_and_a_tenth_of_the_cross_entropy_of_the_mask() -> None:
    targets = np.zeros((1, 2, 2, 4), np.uint8)
    targets[..., :3], targets[0, 0, 0, 3] = 255, 255
    outputs = torch.zeros(1, 4, 2, 2)
    outputs[:, :3] = 0.5
    outputs[:, 3, 0, 0] = 100.0  # sure of the chair where it is, undecided elsewhere
    loss, correct = loss_of(outputs, targets)
    assert correct is None
    assert float(loss) == pytest.approx(0.25 + 0.1 * 0.75 * np.log(2))
