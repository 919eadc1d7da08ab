"""Deep interest network (Zhou et al., KDD 2018), cut between parties and server as in IMWUT 5(4),
2021: each party pools its columns of the history, the server adds up what the parties send."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

MOVIE, GENRE = 16, 8  # numbers of an embedding
WIDTH = MOVIE + GENRE  # of a movie
FEATURES = 2 * WIDTH  # of what a party sends: pooled history, candidate
HIDDEN = (200, 80)
ATTENTION = 36
SPREAD = 0.01  # standard deviation of fresh embeddings; with PyTorch's 1 it does not learn to rank


class History(nn.Module):
    """What a party holds: embeddings, and the attention of the candidate to the history."""

    shares: Tensor

    def __init__(self, genres: NDArray[np.uint8]) -> None:
        """genres: (movies + 1) x genres, as core.data.histories has it."""
        super().__init__()
        count = np.maximum(genres.sum(axis=1, keepdims=True), 1)
        shares = torch.from_numpy((genres / count).astype(np.float32))
        self.register_buffer("shares", shares, persistent=False)
        self.movies = nn.Parameter(SPREAD * torch.randn(len(genres), MOVIE))
        self.genres = nn.Parameter(SPREAD * torch.randn(genres.shape[1], GENRE))
        self.attention = nn.Sequential(
            nn.Linear(4 * WIDTH, ATTENTION), nn.PReLU(), nn.Linear(ATTENTION, 1)
        )

    def forward(self, rows: Tensor) -> Tensor:
        """rows: batch x (1 + columns), integers: the candidate, then its history with 0 for no
        movie. Returns batch x 48: the pooled history, zeros where there is none; the candidate."""
        # A movie's genres count as their mean.
        table = torch.cat([self.movies, self.shares @ self.genres], dim=1)
        embedded = nn.functional.embedding(rows.long(), table)
        candidate, history = embedded[:, :1], embedded[:, 1:]
        wanted = candidate.expand_as(history)
        pairs = [history, wanted, history - wanted, history * wanted]
        # Weights are not normalised, so that they tell how strong the interest is (section 4.3).
        weights = self.attention(torch.cat(pairs, dim=2)) * (rows[:, 1:, None] > 0)
        return torch.cat([(weights * history).sum(dim=1), candidate[:, 0]], dim=1)


def upper() -> nn.Sequential:
    """What the server holds: batch x 48 to the logits of two classes, 48-200-80-2."""
    first, second = HIDDEN
    return nn.Sequential(
        nn.Linear(FEATURES, first), nn.BatchNorm1d(first), nn.PReLU(),
        nn.Linear(first, second), nn.BatchNorm1d(second), nn.PReLU(),
        nn.Linear(second, 2),
    )  # fmt: skip
