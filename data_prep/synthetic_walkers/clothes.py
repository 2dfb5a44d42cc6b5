"""What a walker wears: garments, colours, patterns, hair, bags and hats.

Colours come from short palettes of what people wear in the street, so that many people share them and mean colour alone
tells few of them apart.
"""

from dataclasses import dataclass

import numpy as np

Rgb = tuple[float, float, float]  # 0 to 1, as displayed

SKIN = ((0.90, 0.74, 0.64), (0.85, 0.66, 0.54), (0.76, 0.57, 0.44), (0.60, 0.43, 0.32), (0.43, 0.30, 0.23))
HAIR = (
    (0.07, 0.06, 0.06),
    (0.14, 0.10, 0.08),
    (0.26, 0.17, 0.11),
    (0.45, 0.30, 0.18),
    (0.72, 0.57, 0.36),
    (0.55, 0.54, 0.53),
)
HAIR_WEIGHTS = (0.32, 0.26, 0.18, 0.09, 0.08, 0.07)

DARKS = {
    'black': (0.09, 0.09, 0.10),
    'navy': (0.11, 0.14, 0.26),
    'charcoal': (0.24, 0.24, 0.26),
    'brown': (0.29, 0.20, 0.15),
}
LIGHTS = {
    'white': (0.90, 0.90, 0.89),
    'grey': (0.56, 0.57, 0.58),
    'beige': (0.75, 0.67, 0.53),
    'sky': (0.57, 0.71, 0.84),
}
VIVID = {
    'red': (0.72, 0.13, 0.14),
    'green': (0.17, 0.42, 0.24),
    'blue': (0.15, 0.30, 0.66),
    'yellow': (0.87, 0.72, 0.20),
    'orange': (0.87, 0.43, 0.14),
    'pink': (0.88, 0.55, 0.62),
    'purple': (0.40, 0.23, 0.48),
    'teal': (0.13, 0.46, 0.48),
    'olive': (0.38, 0.38, 0.20),
}
DENIM = {'denim': (0.25, 0.34, 0.50), 'dark denim': (0.15, 0.19, 0.30), 'light denim': (0.48, 0.58, 0.70)}

PATTERNS = ('plain', 'hoops', 'stripes', 'checks', 'block', 'print', 'open')
TOPS = ('t-shirt', 'shirt', 'jacket', 'coat', 'hoodie', 'tank')
BOTTOMS = ('trousers', 'jeans', 'shorts', 'skirt', 'leggings')
HAIRCUTS = ('short', 'long', 'tail', 'bun', 'bald')
BAGS = ('none', 'backpack', 'shoulder', 'hand')
HATS = ('none', 'cap', 'beanie')


@dataclass(frozen=True)
class Outfit:
    """Everything about a walker's looks but body and gait.

    Attributes:
      top, bottom: One of TOPS, BOTTOMS.
      pattern: One of PATTERNS, of the top. 'block' changes colour at pattern_size of its height, 'open' shows the inner
        shirt in front.
      pattern_size: Number of stripes over the trunk, or the share of its height where a block ends.
      top_colour, second_colour, inner_colour, bottom_colour, shoe_colour, sole_colour, bag_colour, hat_colour, skin,
        hair: Colours.
      side_stripe: Whether the trousers have a stripe of the second colour at the side.
      haircut, beard, bag, hat: One of HAIRCUTS; whether; one of BAGS; one of HATS.
      bag_side: 1 left, -1 right.
    """

    top: str
    bottom: str
    pattern: str
    pattern_size: float
    top_colour: Rgb
    second_colour: Rgb
    inner_colour: Rgb
    bottom_colour: Rgb
    shoe_colour: Rgb
    sole_colour: Rgb
    bag_colour: Rgb
    hat_colour: Rgb
    skin: Rgb
    hair: Rgb
    side_stripe: bool
    haircut: str
    beard: bool
    bag: str
    bag_side: int
    hat: str

    @property
    def sleeves(self) -> str:
        """'long', 'short' or 'none'."""
        return {'t-shirt': 'short', 'tank': 'none'}.get(self.top, 'long')

    @property
    def bulk(self) -> float:
        """Thickness of the top over the body, metres."""
        return {'jacket': 0.018, 'coat': 0.020, 'hoodie': 0.014, 'shirt': 0.006}.get(self.top, 0.003)


def _pick(rng: np.random.Generator, options, weights=None):
    options = list(options)
    p = None if weights is None else np.asarray(weights, float) / np.sum(weights)
    return options[int(rng.choice(len(options), p=p))]


def _cloth(rng: np.random.Generator, *palettes: tuple[dict[str, Rgb], float]) -> Rgb:
    """A colour from one of the palettes (with its weight), a little off as dyes are."""
    palette = _pick(rng, [p for p, _ in palettes], [w for _, w in palettes])
    base = np.asarray(_pick(rng, palette.values()))
    return _rgb(base * rng.normal(1.0, 0.06) + rng.normal(0, 0.012, 3))


def _rgb(values) -> Rgb:
    r, g, b = (float(v) for v in np.clip(values, 0.03, 0.95))
    return r, g, b


def _other(rng: np.random.Generator, colour: Rgb) -> Rgb:
    """A colour that stands out from the first."""
    for _ in range(20):
        second = _cloth(rng, (DARKS, 0.3), (LIGHTS, 0.45), (VIVID, 0.25))
        if np.abs(np.subtract(colour, second)).max() > 0.28:
            return second
    return _rgb(np.where(np.mean(colour) > 0.5, 0.12, 0.88) * np.ones(3))


def draw_outfit(rng: np.random.Generator) -> Outfit:
    """Clothes, hair and things carried, at random."""
    top = _pick(rng, TOPS, (0.30, 0.18, 0.22, 0.10, 0.14, 0.06))
    bottom = _pick(rng, BOTTOMS, (0.30, 0.30, 0.17, 0.13, 0.10))
    if top == 'coat':
        top_colour = _cloth(rng, (DARKS, 0.6), (LIGHTS, 0.2), (VIVID, 0.2))
    else:
        top_colour = _cloth(rng, (DARKS, 0.36), (LIGHTS, 0.30), (VIVID, 0.34))
    cloths = [(DENIM, 1.0)] if bottom == 'jeans' else [(DARKS, 0.6), (LIGHTS, 0.25), (VIVID, 0.15)]
    bottom_colour = _cloth(rng, *cloths)
    pattern = {
        'coat': lambda: _pick(rng, ('plain', 'open'), (0.6, 0.4)),
        'jacket': lambda: _pick(rng, ('plain', 'open', 'block'), (0.35, 0.4, 0.25)),
        'shirt': lambda: _pick(rng, ('plain', 'checks', 'stripes', 'hoops'), (0.35, 0.3, 0.2, 0.15)),
        'hoodie': lambda: _pick(rng, ('plain', 'print', 'block', 'open'), (0.35, 0.25, 0.2, 0.2)),
    }.get(top, lambda: _pick(rng, ('plain', 'hoops', 'print', 'block', 'checks'), (0.35, 0.25, 0.25, 0.1, 0.05)))()
    size = {
        'hoops': lambda: float(rng.integers(3, 7)),
        'stripes': lambda: float(rng.integers(5, 8)),
        'checks': lambda: float(rng.integers(4, 7)),
        'block': lambda: float(rng.uniform(0.35, 0.7)),
    }.get(pattern, lambda: 0.0)()
    haircut = _pick(rng, HAIRCUTS, (0.48, 0.24, 0.12, 0.09, 0.07))
    hat = _pick(rng, HATS, (0.80, 0.12, 0.08))
    return Outfit(
        top=top,
        bottom=bottom,
        pattern=pattern,
        pattern_size=size,
        top_colour=top_colour,
        second_colour=_other(rng, top_colour),
        inner_colour=_other(rng, top_colour),
        bottom_colour=bottom_colour,
        shoe_colour=_cloth(rng, (DARKS, 0.55), (LIGHTS, 0.3), (VIVID, 0.15)),
        sole_colour=_pick(rng, ((0.85, 0.85, 0.83), (0.15, 0.14, 0.13))),
        bag_colour=_cloth(rng, (DARKS, 0.5), (LIGHTS, 0.15), (VIVID, 0.35)),
        hat_colour=_cloth(rng, (DARKS, 0.5), (LIGHTS, 0.2), (VIVID, 0.3)),
        skin=_rgb(np.asarray(_pick(rng, SKIN, (0.28, 0.28, 0.2, 0.14, 0.1))) * rng.normal(1, 0.03)),
        hair=_rgb(np.asarray(_pick(rng, HAIR, HAIR_WEIGHTS)) * rng.normal(1, 0.05)),
        side_stripe=bool(rng.uniform() < 0.15),
        haircut=haircut,
        beard=bool(haircut in ('short', 'bald') and rng.uniform() < 0.25),
        bag=_pick(rng, BAGS, (0.46, 0.24, 0.18, 0.12)),
        bag_side=int(_pick(rng, (1, -1))),
        hat=hat,
    )
