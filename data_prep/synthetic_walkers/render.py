"""Draws figures: parts -> depth, shade, palette slot and limb a pixel, with a depth buffer, all frames of a tracklet
together.

A part is drawn as its silhouette in the picture, with normals and depth as of a round surface; that is exact for balls
and for limbs square to the line of sight, and near enough for the others at this size.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from data_prep.synthetic_walkers.paint import Surface
from data_prep.synthetic_walkers.part import Part

EMPTY = 255  # the slot of pixels where nothing is
_FAR = np.float32(-1e9)


@dataclass(frozen=True)
class View:
    """How a camera sees a walker, over the frames.

    Attributes:
      yaw: Angle from the walking direction to the direction of the camera, about the vertical, radians: 0 frontal, π/2
        the walker's left profile, π from behind.
      pitch: How far the camera looks down, radians.
      scale: Pixels a metre, a frame.
      origin: Where the walker's ground point lies in the picture, x and y, a frame.
      light: Unit vector to the light in camera axes (right, down, towards the camera).
      ambient: Share of light that comes from everywhere.
    """

    yaw: float
    pitch: float
    scale: Float[np.ndarray, ' f']
    origin: Float[np.ndarray, 'f 2']
    light: tuple[float, float, float]
    ambient: float

    def axes(self) -> Float[np.ndarray, '3 3']:
        """Rows: the picture's right, its down, and towards the camera, in the walker's axes."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        e, d = np.cos(self.pitch), np.sin(self.pitch)
        return np.array([[-s, c, 0.0], [c * d, s * d, -e], [c * e, s * e, d]])

    def project(self, points: Float[np.ndarray, 'f 3']) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Picture x and y in pixels, and metres towards the camera."""
        right, down, towards = (points @ axis for axis in self.axes())
        return self.scale * right + self.origin[:, 0], self.scale * down + self.origin[:, 1], towards


@dataclass(frozen=True)
class Layer:
    """What was drawn.

    Attributes:
      depth: Metres towards the camera; very negative where nothing is.
      shade: Factor of the colour.
      slot: Palette slot, EMPTY where nothing is.
      limb: Label of the limb (limbs.Limb), BACKGROUND where nothing is.
    """

    depth: Float[np.ndarray, 'f h w']
    shade: Float[np.ndarray, 'f h w']
    slot: UInt8[np.ndarray, 'f h w']
    limb: UInt8[np.ndarray, 'f h w']


def draw(parts: list[Part], view: View, height: int, width: int, cloth: Float[np.ndarray, 'u v']) -> Layer:
    """Draws the parts into pictures of height x width; cloth is the texture of folds, factors around 1."""
    frames = len(view.scale)
    layer = Layer(
        depth=np.full((frames, height, width), _FAR, np.float32),
        shade=np.ones((frames, height, width), np.float32),
        slot=np.full((frames, height, width), EMPTY, np.uint8),
        limb=np.zeros((frames, height, width), np.uint8),
    )
    for number, part in enumerate(parts):
        _draw_part(part, view, layer, np.roll(cloth, 7 * number, axis=0))
    return layer


def _radii(part: Part, view: View, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Half width in the picture and half depth towards the camera of the part's oval section at one end, in pixels and
    metres."""
    right, _, towards = view.axes()
    width, depth = part.half_width[end], part.half_depth[end]
    across = np.hypot(width * (part.left @ right), depth * (part.front @ right))
    deep = np.hypot(width * (part.left @ towards), depth * (part.front @ towards))
    if part.half_width == part.half_depth:
        across = deep = width * np.ones(len(view.scale))
    return across * view.scale, deep


def _draw_part(part: Part, view: View, layer: Layer, cloth: np.ndarray) -> None:
    """Draws one part into the layer, over what lies deeper. [f, 1, 1] arrays hold one number a frame, [f, h, w] a
    window."""
    _, height, width = layer.slot.shape
    ax, ay, az = view.project(part.a)
    bx, by, bz = view.project(part.b)
    ra, da = _radii(part, view, 0)
    rb, db = _radii(part, view, 1)
    reach = np.maximum(ra, rb) + 1
    left, top = (np.floor(np.minimum(a, b) - reach).astype(np.int32) for a, b in ((ax, bx), (ay, by)))
    h = int(np.max(np.maximum(ay, by) + reach - top)) + 1
    w = int(np.max(np.maximum(ax, bx) + reach - left)) + 1

    def a_frame(values) -> np.ndarray:
        return np.asarray(values, np.float32)[:, None, None]

    length = np.maximum(np.hypot(bx - ax, by - ay), 1e-3)
    ux, uy = (bx - ax) / length, (by - ay) / length
    x = np.arange(w, dtype=np.float32)[None, None, :] + a_frame(left - ax + 0.5)
    y = np.arange(h, dtype=np.float32)[None, :, None] + a_frame(top - ay + 0.5)
    axial = x * a_frame(ux) + y * a_frame(uy)  # pixels along the axis from a
    lateral = y * a_frame(ux) - x * a_frame(uy)
    within = np.clip(axial, 0, a_frame(length))
    radius = within * a_frame((rb - ra) / length) + a_frame(ra)
    over = axial - within
    over *= np.float32(1 / part.cap)
    distance = lateral * lateral + over * over
    hit = distance < radius * radius
    rows = np.arange(h, dtype=np.int32)[None, :, None] + top[:, None, None]
    columns = np.arange(w, dtype=np.int32)[None, None, :] + left[:, None, None]
    hit &= (rows >= 0) & (rows < height)
    hit &= (columns >= 0) & (columns < width)
    at = np.flatnonzero(hit)
    if not len(at):
        return
    numbers = np.arange(len(length), dtype=np.int32)
    f = np.repeat(numbers, np.count_nonzero(hit, axis=(1, 2)))
    pixel = ((rows + numbers[:, None, None] * height) * width + columns).ravel()[at]
    radius = radius.ravel()[at]
    sideways, endways = lateral.ravel()[at] / radius, over.ravel()[at] / radius
    facing = np.sqrt(np.maximum(1 - sideways * sideways - endways * endways, 0))
    along = within.ravel()[at] / length.astype(np.float32)[f]
    table = np.stack([az, bz - az, da, db - da, ux, uy], -1).astype(np.float32)[f]
    depth = table[:, 0] + along * table[:, 1] + facing * (table[:, 2] + along * table[:, 3]) + np.float32(part.lift)
    nearer = depth > layer.depth.ravel()[pixel]
    if not nearer.all():
        keep = np.flatnonzero(nearer)
        at, f, pixel, depth, table = at[keep], f[keep], pixel[keep], depth[keep], table[keep]
        sideways, endways, facing, along, radius = (
            values[keep] for values in (sideways, endways, facing, along, radius)
        )
    # Where round ends of neighbouring parts meet, full tilt would draw a dark ring round every joint.
    endways *= np.abs(endways)
    n_right = endways * table[:, 4] - sideways * table[:, 5]
    n_down = endways * table[:, 5] + sideways * table[:, 4]
    right_light, down_light, facing_light = (np.float32(view.light[i]) for i in range(3))
    towards_light = n_right * right_light + n_down * down_light + facing * facing_light
    ambient = np.float32(view.ambient) * (0.72 + 0.28 * facing - 0.18 * n_down)
    shade = ambient + np.float32(1 - view.ambient) * 1.15 * np.maximum(towards_light, 0)
    size = cloth.shape
    shade *= cloth[(along * (0.30 * size[0])).astype(np.int32), ((sideways + 1) * (0.49 * size[1])).astype(np.int32)]
    layer.depth.ravel()[pixel] = depth
    layer.shade.ravel()[pixel] = shade
    layer.limb.ravel()[pixel] = part.limb
    layer.slot.ravel()[pixel] = _slots(part, view, axial, at, f, length, ra, rb, along, n_right, n_down, facing)


def _slots(part, view, axial, at, f, length, ra, rb, along, n_right, n_down, facing):
    if part.paint.kind == 'plain':
        return part.paint.slots[0]
    axes = view.axes().T
    front, left = (part.front @ axes).astype(np.float32)[f], (part.left @ axes).astype(np.float32)[f]
    ahead = n_right * front[:, 0] + n_down * front[:, 1] + facing * front[:, 2]
    aside = n_right * left[:, 0] + n_down * left[:, 1] + facing * left[:, 2]
    low, high = (ra * part.cap).astype(np.float32), (rb * part.cap).astype(np.float32)
    whole = (low + length + high).astype(np.float32)
    height = (axial.ravel()[at] + low[f]) / whole[f]
    return part.paint(Surface(along, height, np.arctan2(aside, ahead), n_down))
