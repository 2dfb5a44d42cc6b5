"""Curves, points and a heat map as the numbers of SVG pictures, which the page's template draws: no library."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

WIDTH, HEIGHT = 460, 240  # of the plotted area, in units of the picture
_SQUARE, _MAP_WIDTH = 22.0, 860.0  # the largest side of a square of a heat map, and the widest row


class Curve(NamedTuple):
    """A line of a chart, in pixels."""

    name: str
    points: str  # 'x,y x,y ...'
    values: str  # the same in numbers of the axes, for those who point at it


class Chart(NamedTuple):
    """Curves over common axes. Ticks: (place in pixels, text)."""

    title: str
    x_label: str
    y_label: str
    curves: list[Curve]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT


class Square(NamedTuple):
    """Of a heat map. shade: 0 to 1."""

    x: float
    y: float
    shade: float
    label: str


class HeatMap(NamedTuple):
    """columns: as many squares as stand in a row. notes: at the end of each row, with its place."""

    squares: list[Square]
    columns: int
    side: float
    row_labels: list[tuple[float, str]]
    notes: list[tuple[float, str]]
    width: float
    height: float


class Dot(NamedTuple):
    """A query on the map. x, y: in pixels. hue: in degrees. picture: its path, '' = none."""

    x: float
    y: float
    hue: int
    label: str
    picture: str


def line_chart(
    title: str, x_label: str, y_label: str, curves: Mapping[str, tuple[Any, Any]], y_top: float | None = None
) -> Chart | None:
    """Curves (numbers of x, numbers of y) over common axes, the vertical one from 0 or the least value.

    A curve of a single point is left out, and None is returned where no curve is left.
    """
    arrays = {name: tuple(np.asarray(v, float) for v in xy) for name, xy in curves.items()}
    arrays = {name: (x[np.isfinite(y)], y[np.isfinite(y)]) for name, (x, y) in arrays.items()}
    arrays = {name: (x, y) for name, (x, y) in arrays.items() if len(set(x)) > 1}
    if not arrays:
        return None
    xs, ys = (np.concatenate([xy[i] for xy in arrays.values()]) for i in (0, 1))
    x_range = (xs.min(), xs.max())
    low = min(0.0, float(ys.min()))
    high = y_top if y_top is not None else float(ys.max())
    y_range = (low, high if high > low else low + 1)

    def place(x, y):
        return _scaled(x, x_range, WIDTH), HEIGHT - _scaled(y, y_range, HEIGHT)

    drawn = [
        Curve(
            name,
            ' '.join(f'{a:.1f},{b:.1f}' for a, b in zip(*place(*xy))),
            ' '.join(f'{_number(a)},{_number(b)}' for a, b in zip(*xy)),
        )
        for name, xy in arrays.items()
    ]
    x_ticks = [(float(place(t, low)[0]), f'{t:g}') for t in _ticks(*x_range)]
    y_ticks = [(float(place(x_range[0], t)[1]), f'{t:g}') for t in _ticks(*y_range)]
    return Chart(title, x_label, y_label, drawn, x_ticks, y_ticks)


def heat_map(shares: Float[np.ndarray, 'P K'], row: str, column: str, notes: Sequence[str]) -> HeatMap:
    """A row of squares for each row of shares, the strongest where the largest share is.

    Args:
      row, column: what a row and a column are.
      notes: said at the end of each row.
    """
    n_rows, n_columns = shares.shape
    side = min(_SQUARE, _MAP_WIDTH / n_columns)
    squares = [
        Square(c * side, r * side, share, f'{row} {r + 1}, {column} {c + 1}: {100 * shares[r, c]:.2f} %')
        for r, line in enumerate((shares / max(shares.max(), 1e-12)).tolist())
        for c, share in enumerate(line)
    ]
    middles = [(r + 0.5) * side for r in range(n_rows)]
    labels = [(y, f'{row} {r + 1}') for r, y in enumerate(middles)]
    return HeatMap(squares, n_columns, side, labels, list(zip(middles, notes)), n_columns * side, n_rows * side)


def plane(embedding: Float[np.ndarray, 'n E']) -> Float[np.ndarray, 'n 2']:
    """The two directions in which the embeddings vary most (principal components), scaled into the picture."""
    centred = embedding - embedding.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    flat = centred @ vectors[:, :-3:-1]
    flat = np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))
    span = np.ptp(flat, axis=0)
    return (flat - flat.min(0)) / np.where(span > 0, span, 1) * (WIDTH, HEIGHT)


def _scaled(values, limits: tuple[float, float], size: int):
    return (np.asarray(values, float) - limits[0]) / (limits[1] - limits[0]) * size


def _number(value: float) -> str:
    return f'{value:.0f}' if value == round(value) else f'{value:.4g}'


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers."""
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [float(v) for v in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step]
