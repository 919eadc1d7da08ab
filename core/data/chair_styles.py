"""Parametric chairs: a style is a number, and every part of a chair follows from it.

Lengths are about those of a chair in metres, times SCALE. x is to the right, the front is where y
is negative, z is up. What is drawn of a style hangs on a hash of its number and of what is drawn:
the same on every machine, and a new part changes no old one.
"""

import colorsys
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from core.data.rendering import Camera, Floats, Shape, Solid, render

T = TypeVar("T")
Colour = tuple[float, float, float]

SCALE = 1.25
CASTOR = (0.15, 0.15, 0.15)
MIDDLE = (0.0, 0.0, 0.5 * SCALE)  # what the camera looks at


class Dice:
    """Draws that depend on the style and on the name of what is drawn, not on their order."""

    def __init__(self, style: int) -> None:
        self._style = style

    def between(self, what: str, low: float, high: float) -> float:
        """A number of a range."""
        digest = hashlib.sha256(f"{self._style}:{what}".encode()).digest()
        return low + (high - low) * int.from_bytes(digest[:6], "big") / 2**48

    def choose(self, what: str, options: Sequence[T]) -> T:
        """One of several."""
        return options[int(self.between(what, 0, len(options)))]


@dataclass(frozen=True)
class Frame:
    """What all parts of a chair agree on: half the seat's width and depth, the height and the
    thickness of its top, by how much the back leans, and the colours."""

    width: float
    depth: float
    height: float
    thickness: float
    lean: float
    round: bool
    wood: Colour
    cloth: Colour


def chair(style: int) -> list[Solid]:
    """The solids of a chair."""
    dice = Dice(style)
    frame = _frame(dice)
    legs, back, arms = (dice.choose(name, table) for name, table in _PARTS.items())
    solids = [_seat(frame), *legs(dice, frame), *back(dice, frame), *arms(dice, frame)]
    return [Solid(s.shape, SCALE * s.axes, SCALE * s.centre, s.colour) for s in solids]


def picture(style: int, azimuth: float, elevation: float, size: int) -> np.ndarray:
    """A chair seen from a place, angles in degrees: uint8 (size, size, 4), as `render`."""
    camera = Camera.at(math.radians(azimuth), math.radians(elevation), MIDDLE)
    return render(chair(style), camera, size)


def _frame(dice: Dice) -> Frame:
    wood = colorsys.hsv_to_rgb(
        dice.between("wood hue", 0.03, 0.11),
        dice.between("wood saturation", 0.15, 0.75),
        dice.between("wood value", 0.3, 0.9),
    )
    cloth = colorsys.hsv_to_rgb(
        dice.between("cloth hue", 0, 1),
        dice.between("cloth saturation", 0.35, 0.85),
        dice.between("cloth value", 0.45, 0.95),
    )
    return Frame(
        width=dice.between("width", 0.21, 0.28),
        depth=dice.between("depth", 0.2, 0.26),
        height=dice.between("height", 0.4, 0.5),
        thickness=dice.between("thickness", 0.025, 0.1),
        lean=dice.between("lean", 0.0, 0.12),
        round=dice.between("round", 0, 1) < 0.25,
        wood=wood,
        cloth=wood if dice.between("all wood", 0, 1) < 0.3 else cloth,
    )


def _seat(frame: Frame) -> Solid:
    half = frame.thickness / 2
    shape: Shape = "cylinder" if frame.round else "box"
    grown = 1.12 if frame.round else 1.0
    place = (0, 0, frame.height - half)
    return _block(shape, (grown * frame.width, grown * frame.depth, half), place, frame.cloth)


def _block(shape: Shape, half: Sequence[float], place: Sequence[float], colour: Colour) -> Solid:
    return Solid(shape, np.diag(np.array(half, float)), np.array(place, float), colour)


def _strut(
    shape: Shape, start: Sequence[float], end: Sequence[float], radius: float, colour: Colour
) -> Solid:
    """A bar from one point to another."""
    a, b = np.array(start, float), np.array(end, float)
    along: Floats = (b - a) / 2
    lengthwise = abs(along[1]) > 0.7 * np.linalg.norm(along)  # of the chair
    side = np.cross(along, [1.0, 0.0, 0.0] if lengthwise else [0.0, 1.0, 0.0])
    side *= radius / np.linalg.norm(side)
    other = np.cross(along, side)
    other *= radius / np.linalg.norm(other)
    return Solid(shape, np.array([side, other, along]).T, (a + b) / 2, colour)


# Legs.

Part = Callable[[Dice, Frame], list[Solid]]


def _corners(frame: Frame, inset: float) -> list[tuple[float, float]]:
    x, y = frame.width - inset, frame.depth - inset
    return [(-x, -y), (x, -y), (x, y), (-x, y)]


def _four_legs(dice: Dice, frame: Frame) -> list[Solid]:
    radius = dice.between("leg radius", 0.014, 0.03)
    shape: Shape = dice.choose("leg shape", ("box", "cylinder"))
    splay = dice.between("splay", 0.0, 0.07)
    top = frame.height - frame.thickness
    feet = [(x * (1 + splay / abs(x)), y * (1 + splay / abs(y))) for x, y in _corners(frame, 0.035)]
    legs = [
        _strut(shape, (x, y, 0), (u, v, top), radius, frame.wood)
        for (x, y), (u, v) in zip(feet, _corners(frame, 0.035), strict=True)
    ]
    if dice.between("stretchers", 0, 1) < 0.4:
        low = dice.between("stretcher height", 0.12, 0.25)
        ring = _corners(frame, 0.03 - splay / 2)
        legs += [
            _strut("cylinder", (*ring[i], low), (*ring[(i + 1) % 4], low), 0.011, frame.wood)
            for i in range(4)
        ]
    return legs


def _pedestal(dice: Dice, frame: Frame) -> list[Solid]:
    """A column on a star of four or five."""
    arms = dice.choose("star", (4, 5))
    reach = dice.between("star reach", 0.2, 0.28)
    column = _strut("cylinder", (0, 0, 0.05), (0, 0, frame.height), 0.032, frame.wood)
    angles = [2 * math.pi * (i + 0.5) / arms for i in range(arms)]
    ends = [(reach * math.sin(a), -reach * math.cos(a)) for a in angles]
    star = [_strut("box", (0, 0, 0.07), (*end, 0.03), 0.018, frame.wood) for end in ends]
    balls = [_block("ball", (0.028,) * 3, (*end, 0.028), CASTOR) for end in ends]
    return [column, *star, *balls]


def _runners(dice: Dice, frame: Frame) -> list[Solid]:
    """Two frames of bent bars, as sleds have them."""
    radius, top = dice.between("runner radius", 0.014, 0.024), frame.height - frame.thickness
    found = []
    for x in (-frame.width + 0.03, frame.width - 0.03):
        y = frame.depth - 0.02
        found.append(_strut("cylinder", (x, -y, radius), (x, y, radius), radius, frame.wood))
        found.append(_strut("cylinder", (x, -y, radius), (x, -y, top), radius, frame.wood))
        found.append(_strut("cylinder", (x, y, radius), (x, y, top), radius, frame.wood))
    return found


def _plinth(dice: Dice, frame: Frame) -> list[Solid]:
    """A closed base, as armchairs have it, on short feet."""
    top = frame.height - frame.thickness
    base = _block(
        "box",
        (frame.width - 0.01, frame.depth - 0.01, (top - 0.08) / 2),
        (0, 0, (top + 0.08) / 2),
        frame.cloth,
    )
    feet = [
        _strut("cylinder", (x, y, 0), (x, y, 0.1), 0.022, frame.wood)
        for x, y in _corners(frame, 0.04)
    ]
    return [base, *feet]


# Backs. `u` goes across from -1 to 1, `v` up from 0 to 1.


class Plane:
    """The leaning plane of a back."""

    def __init__(self, frame: Frame, rise: float, width: float) -> None:
        self.rise, self.width = rise, width
        self._frame = frame

    def at(self, u: float, v: float) -> tuple[float, float, float]:
        """A point of it."""
        y = self._frame.depth - 0.025 + self._frame.lean * v
        return (u * self.width, y, self._frame.height + v * self.rise)

    def panel(self, low: float, high: float, half: float, thick: float, colour: Colour) -> Solid:
        """A board from one height to another."""
        start, end = np.array(self.at(0, low)), np.array(self.at(0, high))
        up = (end - start) / 2
        across = np.array([half * self.width, 0.0, 0.0])
        through = np.cross(across, up)
        through *= thick / np.linalg.norm(through)
        return Solid("box", np.array([across, through, up]).T, (start + end) / 2, colour)


def _plane(dice: Dice, frame: Frame) -> Plane:
    rise = dice.between("rise", 0.34, 0.6)
    return Plane(frame, rise, frame.width - dice.between("back inset", 0.0, 0.03))


def _posts(dice: Dice, frame: Frame, plane: Plane, shape: Shape) -> list[Solid]:
    radius = dice.between("post radius", 0.016, 0.026)
    return [_strut(shape, plane.at(u, -0.05), plane.at(u, 1), radius, frame.wood) for u in (-1, 1)]


def _solid_back(dice: Dice, frame: Frame) -> list[Solid]:
    plane = _plane(dice, frame)
    return [plane.panel(0, 1, 1, dice.between("back thickness", 0.018, 0.05), frame.cloth)]


def _floating_back(dice: Dice, frame: Frame) -> list[Solid]:
    """A cushion between two posts, with air below."""
    plane = _plane(dice, frame)
    low = dice.between("cushion low", 0.3, 0.55)
    cushion = plane.panel(low, 1, 0.96, 0.024, frame.cloth)
    return [*_posts(dice, frame, plane, "cylinder"), cushion]


def _vertical_slats(dice: Dice, frame: Frame) -> list[Solid]:
    plane, count = _plane(dice, frame), dice.choose("slats", (3, 4, 5, 6))
    top = plane.panel(0.86, 1, 1.05, 0.018, frame.wood)
    bars = [
        _strut("box", plane.at(u, 0), plane.at(u, 0.9), 0.012, frame.wood)
        for u in np.linspace(-1, 1, count + 2)[1:-1]
    ]
    return [*_posts(dice, frame, plane, "box"), top, *bars]


def _ladder(dice: Dice, frame: Frame) -> list[Solid]:
    plane, count = _plane(dice, frame), dice.choose("rungs", (2, 3, 4))
    height = 0.42 / count
    places = np.linspace(0.25, 1 - height, count)
    rungs = [plane.panel(v, v + height, 1, 0.013, frame.wood) for v in places]
    return [*_posts(dice, frame, plane, "cylinder"), *rungs]


def _oval(dice: Dice, frame: Frame) -> list[Solid]:
    """A round shield on a short neck."""
    plane = _plane(dice, frame)
    middle, up = np.array(plane.at(0, 0.6)), np.array(plane.at(0, 1)) - np.array(plane.at(0, 0.6))
    across = np.array([plane.width, 0.0, 0.0])
    through = np.cross(across, up)
    through *= 0.028 / np.linalg.norm(through)
    shield = Solid("cylinder", np.array([across, 1.15 * up, through]).T, middle, frame.cloth)
    neck = [
        _strut("box", plane.at(u, -0.05), plane.at(u, 0.4), 0.016, frame.wood)
        for u in (-0.45, 0.45)
    ]
    return [shield, *neck]


def _rail(dice: Dice, frame: Frame) -> list[Solid]:
    """A low rail on spindles, as bistro chairs have it."""
    plane = Plane(frame, dice.between("low rise", 0.3, 0.4), frame.width)
    rail = _strut("cylinder", plane.at(-1.05, 1), plane.at(1.05, 1), 0.032, frame.wood)
    spindles = [
        _strut("cylinder", plane.at(u, 0), plane.at(u, 1), 0.011, frame.wood)
        for u in np.linspace(-0.9, 0.9, dice.choose("spindles", (4, 6, 7)))
    ]
    return [rail, *spindles]


# Arms.


def _no_arms(dice: Dice, frame: Frame) -> list[Solid]:
    return []


def _bar_arms(dice: Dice, frame: Frame) -> list[Solid]:
    """A rest on a post at the front."""
    rise = dice.between("arm rise", 0.16, 0.22)
    found = []
    for x in (-frame.width - 0.01, frame.width + 0.01):
        front, back = -frame.depth + 0.06, frame.depth
        z = frame.height + rise
        rest = (0.028, (back - front) / 2 + 0.03, 0.014)
        found.append(_block("box", rest, (x, (front + back) / 2, z), frame.wood))
        found.append(
            _strut("box", (x, front, frame.height - 0.04), (x, front, z), 0.015, frame.wood)
        )
    return found


def _closed_arms(dice: Dice, frame: Frame) -> list[Solid]:
    """Upholstered sides."""
    rise, thick = dice.between("side rise", 0.14, 0.22), dice.between("side thickness", 0.03, 0.05)
    half = (rise + 0.12) / 2
    return [
        _block(
            "box",
            (thick, frame.depth, half),
            (sign * (frame.width + 0.6 * thick), 0, frame.height + rise - half),
            frame.cloth,
        )
        for sign in (-1, 1)
    ]


_PARTS: dict[str, Sequence[Part]] = {
    "legs": (_four_legs, _four_legs, _four_legs, _pedestal, _runners, _plinth),
    "back": (_solid_back, _floating_back, _vertical_slats, _ladder, _oval, _rail),
    "arms": (_no_arms, _no_arms, _bar_arms, _closed_arms),
}
