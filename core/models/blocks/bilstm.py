"""Bidirectional LSTM with attention in 5 blocks, for texts as tokens.

Published is: an embedding of 10,000 words and 128 values, which is frozen, two bidirectional
layers with 128 hidden values, five blocks, and at batch 32 and 200 words these feature sizes in
MiB: 3.13, 6.25, 3.13, 0.02. That is per text, in float32:

block  MiB    values     what fits
0      3.125  200 × 128  the embedding
1      6.25   200 × 256  a layer of 128 values, its two directions side by side
2      3.125  200 × 128  a layer of 128 values, its two directions added
3      0.016  128        one vector of all words
4      -      classes    the prediction

Directions are added, and words are pooled by attention over such sums, in Zhou et al.,
Attention-based bidirectional long short-term memory networks for relation classification (ACL
2016), equations 8 to 12; so it is here. The sizes do not tell how the words become one vector,
nor where the values of the frozen embedding came from: here they are random, of mean 0 and
deviation 1, and zero for padding.
"""

from functools import partial

import torch
from torch import Tensor, nn

from core.models.blocks.making import Block

WORDS = 10_000  # tokens: 0 is padding, 1 an unknown word
EMBEDDING = HIDDEN = 128


def bilstm(classes: int) -> list[Block]:
    """int64 tokens (batch, words), any number of words."""
    return [
        Block(partial(nn.Embedding, WORDS, EMBEDDING, padding_idx=0)),
        Block(partial(Bidirectional, EMBEDDING, add=False)),
        Block(partial(Bidirectional, 2 * HIDDEN, add=True)),
        Block(Attention),
        Block(partial(nn.Linear, HIDDEN, classes)),
    ]


class Bidirectional(nn.Module):
    """A layer that reads (batch, words, inputs) both ways: (batch, words, 2·HIDDEN), or HIDDEN
    where both directions are added."""

    def __init__(self, inputs: int, add: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, HIDDEN, batch_first=True, bidirectional=True)
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.lstm(x)[0]
        return output[..., :HIDDEN] + output[..., HIDDEN:] if self.add else output


class Attention(nn.Module):
    """The words' vectors, weighted: (batch, words, HIDDEN) to (batch, HIDDEN)."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(HIDDEN, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.score(torch.tanh(x)), dim=1)
        return torch.tanh((weights * x).sum(dim=1))
