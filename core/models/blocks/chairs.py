"""The generator of chairs in 11 blocks: from style, view and transform to image and mask.

After Dosovitskiy et al., Learning to generate chairs with convolutional neural networks (CVPR
2015), as the program of context-aware split training has it: three branches of two dense layers,
joined, two more, then maps that double their side four times. A ReLU follows each but the last.

A block takes one tensor, so the inputs are packed into one row of 17 numbers: style, 4 of the view,
12 of the transform. A style between two whole numbers is a mixture of both, so that one can go over
into the next. The last block gives 4 maps: red, green, blue from 0 to 1, and the logit of the mask.
"""

from functools import partial

import torch
from torch import Tensor, nn

from core.models.blocks import TRANSFORM, VIEW
from core.models.blocks.making import Block

PUBLISHED = 128  # pixels
HALVINGS = 16  # the first maps have a side so many times smaller than the image
WIDTH, JOINED, MAPS = 512, 1024, 256


def chairs(styles: int, size: int | None) -> list[Block]:
    """size: of the images in pixels, a multiple of 16; the published one where none is given."""
    side = (size or PUBLISHED) // HALVINGS
    return [
        Block(partial(Branches, styles)),
        Block(partial(_dense, 3 * WIDTH, JOINED)),
        Block(partial(_dense, JOINED, JOINED)),
        Block(partial(_maps, side)),
        Block(partial(_larger, MAPS, MAPS)),
        Block(partial(_same, MAPS)),
        Block(partial(_larger, MAPS, 92)),
        Block(partial(_same, 92)),
        Block(partial(_larger, 92, 48)),
        Block(partial(_same, 48)),
        Block(lambda: _larger(48, 4)[0]),
    ]


class Branches(nn.Module):
    """Packed inputs (batch, 17) to what three branches make of them: (batch, 1536)."""

    def __init__(self, styles: int) -> None:
        super().__init__()
        self.styles = styles
        self.style, self.view, self.transform = (
            nn.Sequential(_dense(inputs, WIDTH), _dense(WIDTH, WIDTH))
            for inputs in (styles, VIEW, TRANSFORM)
        )

    def forward(self, x: Tensor) -> Tensor:
        style, view, transform = torch.split(x, [1, VIEW, TRANSFORM], dim=1)
        # One number of a style to a vector of ones and zeros; between two numbers, parts of both.
        known = torch.arange(self.styles, dtype=x.dtype, device=x.device)
        hot = (1 - (style - known).abs()).clamp(min=0)
        return torch.cat([self.style(hot), self.view(view), self.transform(transform)], dim=1)


def _dense(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU())


def _maps(side: int) -> nn.Sequential:
    return nn.Sequential(_dense(JOINED, MAPS * side**2), nn.Unflatten(1, (MAPS, side, side)))


def _larger(inputs: int, outputs: int) -> nn.Sequential:
    layer = nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)
    return nn.Sequential(layer, nn.ReLU())


def _same(maps: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(maps, maps, kernel_size=3, padding=1), nn.ReLU())
