"""A small ray caster: solids of three shapes, seen by a camera, as shaded pixels with a mask.

A solid is a unit shape (cube, cylinder or ball, each from -1 to 1) under an affine map. A ray is
brought into the solid's own coordinates, where it enters and leaves by a formula.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Shape = Literal["box", "cylinder", "ball"]

SAMPLES = 2  # rays along each side of a pixel
DISTANCE, FOCUS = 3.6, 4.0  # of the camera from the middle, and its focal length in half images
# Directions to the lights (right, up, towards the camera) and their strengths; the rest is ambient.
LIGHTS = (((-0.45, 0.8, 0.55), 0.62), ((0.85, 0.1, 0.4), 0.22))
AMBIENT = 0.36
TINY = 1e-9


@dataclass(frozen=True)
class Solid:
    """axes: columns are the half axes. centre: its middle. colour: red, green, blue, 0 to 1.
    The third coordinate is up."""

    shape: Shape
    axes: Floats
    centre: Floats
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """Looks at the middle of the scene. right, down, forward: of its image."""

    right: Floats
    down: Floats
    forward: Floats
    middle: Floats

    @classmethod
    def at(cls, azimuth: float, elevation: float, middle: Sequence[float]) -> "Camera":
        """azimuth, elevation: in radians; at 0 it looks at the side where y is negative."""
        a, e = azimuth, elevation
        forward = -np.array([np.sin(a) * np.cos(e), -np.cos(a) * np.cos(e), np.sin(e)])
        right = np.array([np.cos(a), np.sin(a), 0.0])
        return cls(right, np.cross(forward, right), forward, np.array(middle, dtype=float))

    @property
    def place(self) -> Floats:
        """Where it stands."""
        return self.middle - DISTANCE * self.forward

    def rays(self, side: int) -> Floats:
        """Directions through the middles of the pixels, shape (side, side, 3)."""
        steps = (np.arange(side) + 0.5) / side * 2 - 1
        across, along = steps[None, :, None], steps[:, None, None]
        return across * self.right + along * self.down + FOCUS * self.forward

    def lights(self) -> Floats:
        """Directions to the lights in the scene, of length 1, shape (lights, 3)."""
        own = np.array([direction for direction, _ in LIGHTS])
        own /= np.linalg.norm(own, axis=1, keepdims=True)
        turned: Floats = own @ np.array([self.right, -self.down, -self.forward])
        return turned

    def window(self, solid: Solid, side: int) -> tuple[slice, slice]:
        """Rows and columns in which a solid can be seen."""
        corners = np.array(np.meshgrid(*[(-1.0, 1.0)] * 3)).reshape(3, -1)
        places = (solid.axes @ corners).T + solid.centre - self.place
        scale = FOCUS / (places @ self.forward)
        rows, columns = (((places @ way) * scale + 1) / 2 * side for way in (self.down, self.right))
        return _span(rows, side), _span(columns, side)


def render(solids: Sequence[Solid], camera: Camera, size: int) -> NDArray[np.uint8]:
    """Shape (size, size, 4): red, green and blue on white, and as alpha the mask of the solids."""
    side = SAMPLES * size
    rays, depth = camera.rays(side), np.full((side, side), np.inf)
    colours = np.ones((side, side, 3))
    for solid in solids:
        window = camera.window(solid, side)
        _draw(solid, camera, rays[window], depth[window], colours[window])
    seen = np.isfinite(depth)[..., None]
    pixels = np.concatenate([colours, seen], axis=2).reshape(size, SAMPLES, size, SAMPLES, 4)
    return np.asarray(pixels.mean(axis=(1, 3)) * 255 + 0.5).astype(np.uint8)


def _span(values: Floats, side: int) -> slice:
    low, high = int(np.floor(values.min())), int(np.ceil(values.max())) + 1
    return slice(min(max(low, 0), side), min(max(high, 0), side))


def _draw(solid: Solid, camera: Camera, rays: Floats, depth: Floats, colours: Floats) -> None:
    """Put a solid in front of what is behind it; changes depth and colours."""
    inverse = np.linalg.inv(solid.axes)
    start, ways = inverse @ (camera.place - solid.centre), rays @ inverse.T
    ways = np.where(np.abs(ways) < TINY, TINY, ways)
    enter, leave, normals = _SHAPES[solid.shape](start, ways)
    hit = (enter < leave) & (enter > 0) & (enter < depth)
    if not hit.any():
        return
    outward = normals[hit] @ inverse
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    shade = np.full(len(outward), AMBIENT)
    for light, (_, strength) in zip(camera.lights(), LIGHTS, strict=True):
        shade += strength * (outward @ light).clip(0)
    depth[hit] = enter[hit]
    colours[hit] = (shade[:, None] * np.array(solid.colour)).clip(0, 1)


Crossing = tuple[Floats, Floats, Floats]  # when a ray enters and leaves, and where it faces there


def _box(start: Floats, ways: Floats) -> Crossing:
    near, far = -start / ways - 1 / np.abs(ways), -start / ways + 1 / np.abs(ways)
    first = near.argmax(axis=-1)
    normals = np.eye(3)[first] * -np.sign(ways)
    return near.max(axis=-1), far.min(axis=-1), normals


def _ball(start: Floats, ways: Floats, axes: int = 3) -> Crossing:
    """The first axes only: of the others the ball knows nothing."""
    own, origin = ways[..., :axes], start[:axes]
    a, b = (own * own).sum(axis=-1), own @ origin
    root = b * b - a * (origin @ origin - 1)
    width = np.sqrt(root.clip(0))
    enter = np.where(root > 0, (-b - width) / a, np.inf)
    normals = start + enter.clip(max=1e6)[..., None] * ways
    normals[..., axes:] = 0
    return enter, (width - b) / a, normals


def _cylinder(start: Floats, ways: Floats) -> Crossing:
    enter, leave, normals = _ball(start, ways, axes=2)
    near = -start[2] / ways[..., 2] - 1 / np.abs(ways[..., 2])
    far = -start[2] / ways[..., 2] + 1 / np.abs(ways[..., 2])
    caps = np.zeros_like(ways)
    caps[..., 2] = -np.sign(ways[..., 2])
    normals = np.where((near > enter)[..., None], caps, normals)
    return np.maximum(near, enter), np.minimum(far, leave), normals


_SHAPES = {"box": _box, "ball": _ball, "cylinder": _cylinder}
