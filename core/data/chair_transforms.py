"""Artificial transforms of chairs: 12 numbers, drawn from seed and step, and what they do to an
image. A generator is told the numbers and has to make the transformed image, so that whoever has
the images and whoever has the numbers must draw the same.

The kinds of transforms are those of Dosovitskiy et al., Learning to generate chairs, tables and
cars with convolutional networks (2017); the ranges are of the same order.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]

NUMBERS = 12
IDENTITY = np.array([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0], np.float32)
# At full strength, either way: degrees, and factors as logarithms.
ROTATION, ZOOM, STRETCH = np.radians(12), np.log(1.2), np.log(1.1)
SATURATION, BRIGHTNESS, CONTRAST = np.log(2), np.log(1.5), np.log(1.3)
# Red, green, blue to brightness and two numbers of colour (YIQ).
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


class Changes(NamedTuple):
    """flip: mirror half of the images. shift: by so many pixels of an image of `size` at most.
    strength: of everything else, 0 to 1."""

    flip: bool
    shift: int
    strength: float
    size: int

    @property
    def none(self) -> bool:
        return not (self.flip or self.shift or self.strength)


def draw(random: np.random.Generator, count: int, changes: Changes) -> Floats:
    """Shape (count, 12): shift across and down in parts of the image, sine and cosine of the
    rotation, logarithms of zoom and of stretching across, sine and cosine of the turn of hue,
    logarithms of saturation, brightness and contrast, and 1 where mirrored."""
    drawn = random.uniform(-1, 1, (count, 9))
    mirrored = random.random(count) < 0.5
    rotation, hue = drawn[:, 2] * ROTATION, drawn[:, 5] * np.pi
    found = np.tile(IDENTITY, (count, 1))
    found[:, :2] = drawn[:, :2] * changes.shift / changes.size
    strong = changes.strength
    found[:, 2], found[:, 3] = np.sin(strong * rotation), np.cos(strong * rotation)
    found[:, 4] = strong * ZOOM * drawn[:, 3]
    found[:, 5] = strong * STRETCH * drawn[:, 4]
    found[:, 6], found[:, 7] = np.sin(strong * hue), np.cos(strong * hue)
    found[:, 8:11] = strong * drawn[:, 6:9] * [SATURATION, BRIGHTNESS, CONTRAST]
    found[:, 11] = mirrored & changes.flip
    return found


def transformed(image: NDArray[np.uint8], numbers: Floats) -> NDArray[np.uint8]:
    """An image (size, size, 4) with its mask under one row of numbers; around it is white."""
    if np.array_equal(numbers, IDENTITY):
        return image
    size = image.shape[0]
    where = _backwards(numbers, size)
    # Apart: Pillow takes a mask for transparency, and forgets the colour of what is not seen.
    colours = _moved(Image.fromarray(np.ascontiguousarray(image[..., :3])), where, (255,) * 3)
    mask = _moved(Image.fromarray(np.ascontiguousarray(image[..., 3])), where, 0)
    return _recoloured(np.dstack([colours, mask]), numbers)


def _moved(
    picture: Image.Image, where: tuple[float, ...], fill: int | tuple[int, ...]
) -> NDArray[np.uint8]:
    method, filter_ = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return np.asarray(picture.transform(picture.size, method, where, filter_, fillcolor=fill))


def _backwards(numbers: Floats, size: int) -> tuple[float, ...]:
    """From a pixel of the result to the one of the image that it shows: a, b, c, d, e, f."""
    across, down, sine, cosine, zoom, stretch = (float(n) for n in numbers[:6])
    turn = np.array([[cosine, -sine], [sine, cosine]])
    scale = np.diag([np.exp(zoom + stretch) * (1 - 2 * float(numbers[11])), np.exp(zoom)])
    inverse = np.linalg.inv(turn @ scale)
    middle = np.full(2, size / 2)
    offset = middle - inverse @ (middle + np.array([across, down]) * size)
    return (*inverse[0], offset[0], *inverse[1], offset[1])


def _recoloured(image: NDArray[np.uint8], numbers: Floats) -> NDArray[np.uint8]:
    """Colours of the chair only: what the mask does not cover stays white."""
    if np.array_equal(numbers[6:11], IDENTITY[6:11]):
        return image
    sine, cosine, saturation, brightness, contrast = (float(n) for n in numbers[6:11])
    colours, mask = image[..., :3] / 255.0, image[..., 3:] / 255.0
    yiq = colours @ _YIQ.T
    strong = np.exp(saturation)
    turn = strong * np.array([[cosine, -sine], [sine, cosine]])
    yiq[..., 1:] = yiq[..., 1:] @ turn.T
    yiq[..., 0] = ((yiq[..., 0] - 0.5) * np.exp(contrast) + 0.5) * np.exp(brightness)
    changed = (yiq @ np.linalg.inv(_YIQ).T).clip(0, 1)
    result = np.concatenate([mask * changed + 1 - mask, mask], axis=2)
    return np.asarray(result * 255 + 0.5).astype(np.uint8)
