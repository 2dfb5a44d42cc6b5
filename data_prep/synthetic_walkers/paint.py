"""Where on a body part which colour shows: painters map places on its surface to slots of the walker's palette."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from data_prep.synthetic_walkers.clothes import Outfit

# Slots of a palette.
SKIN, HAIR, TOP, SECOND, INNER, BOTTOM, SHOE, SOLE, BAG, STRAP, HAT, DARK, TIP = range(13)


class Surface(NamedTuple):
    """Places on a part's surface.

    along runs 0 to 1 from a to b of the part's bone; height the same with its round ends; azimuth is the turn about the
    bone, 0 in front, positive to the walker's left, radians; under is the share of the normal that points down in the
    picture.
    """

    along: Float[np.ndarray, ' n']
    height: Float[np.ndarray, ' n']
    azimuth: Float[np.ndarray, ' n']
    under: Float[np.ndarray, ' n']


@dataclass(frozen=True)
class Paint:
    """A pattern and the slots it shows.

    Attributes:
      kind: A name of PAINTERS.
      slots: Palette slots, as the kind needs them.
      size: Number of stripes, or a share of the part's length, as the kind needs it.
      span: Values of along at a and b, where several parts share one pattern.
    """

    kind: str = 'plain'
    slots: tuple[int, ...] = (DARK,)
    size: float = 0.0
    span: tuple[float, float] = field(default=(0.0, 1.0))

    def __call__(self, surface: Surface) -> UInt8[np.ndarray, ' n'] | int:
        """The palette slot of each place."""
        if self.kind == 'plain':
            return self.slots[0]
        along = self.span[0] + surface.along * (self.span[1] - self.span[0])
        chosen = PAINTERS[self.kind](self, along, surface)
        return np.asarray(self.slots, np.uint8)[chosen.astype(np.uint8)]


def _hoops(paint, along, _surface):
    return (along * 2 * paint.size) % 2 >= 1


def _stripes(paint, _along, surface):
    return (surface.azimuth * (paint.size / np.pi) + 0.25) % 1 > 0.62


def _checks(paint, along, surface):
    across = (surface.azimuth * (paint.size / np.pi)) % 1 > 0.55
    return across.astype(np.uint8) + (along * paint.size % 1 > 0.55)


def _block(paint, along, _surface):
    return along > paint.size


def _print(_paint, along, surface):
    return (np.abs(surface.azimuth) < 0.75) & (along > 0.48) & (along < 0.80)


def _open(paint, along, surface):
    return np.abs(surface.azimuth) < paint.size * (0.55 + 0.6 * along)


def _side(paint, _along, surface):
    return np.abs(np.abs(surface.azimuth) - np.pi / 2) < paint.size


def _head(_paint, _along, surface):
    """Slots: skin, hair, dark (eyes, brows), beard."""
    h, a = surface.height, np.abs(surface.azimuth)
    ear = (a > 1.35) & (a < 1.75) & (h > 0.32) & (h < 0.52)
    face = (a < 1.25 - 0.25 * h) & (h < 0.80) | (h < 0.30) & (a < 1.7) | ear
    slot = np.where(face, 0, 1)
    eyes = face & (h > 0.50) & (h < 0.585) & (a > 0.16) & (a < 0.62)
    mouth = face & (h > 0.20) & (h < 0.25) & (a < 0.28)
    slot[eyes | mouth] = 2
    slot[face & (h < 0.33) & ((h < 0.16) | (a > 0.35) | (h > 0.27)) & (a < 1.5)] = 3
    return slot


def _shoe(_paint, _along, surface):
    return surface.under > 0.62


PAINTERS = {
    'hoops': _hoops, 'stripes': _stripes, 'checks': _checks, 'block': _block, 'print': _print, 'open': _open,
    'side': _side, 'head': _head, 'shoe': _shoe,
}  # fmt: skip


def trunk_paint(outfit: Outfit, span: tuple[float, float]) -> Paint:
    """The top's paint on a part of the trunk that covers span of its height (0 hips, 1 shoulders)."""
    match outfit.pattern:
        case 'plain':
            return Paint('plain', (TOP,))
        case 'open':
            return Paint('open', (TOP, INNER), 0.42, span)
        case 'checks':
            return Paint('checks', (TOP, TIP, SECOND), outfit.pattern_size, span)
        case 'block':
            return Paint('block', (SECOND, TOP), outfit.pattern_size, span)
        case kind:
            return Paint(kind, (TOP, SECOND), outfit.pattern_size, span)


def palette(outfit: Outfit) -> Float[np.ndarray, 'slots 3']:
    """Colours of the slots, 0 to 1."""
    colours = np.zeros((13, 3), np.float32)
    colours[SKIN], colours[HAIR], colours[TOP] = outfit.skin, outfit.hair, outfit.top_colour
    colours[SECOND], colours[INNER], colours[BOTTOM] = outfit.second_colour, outfit.inner_colour, outfit.bottom_colour
    colours[SHOE], colours[SOLE], colours[BAG] = outfit.shoe_colour, outfit.sole_colour, outfit.bag_colour
    colours[STRAP] = np.multiply(outfit.bag_colour, 0.75)
    colours[HAT] = outfit.hat_colour
    colours[DARK] = np.multiply(outfit.skin, 0.38)
    colours[TIP] = np.add(outfit.top_colour, outfit.second_colour) / 2
    return colours
