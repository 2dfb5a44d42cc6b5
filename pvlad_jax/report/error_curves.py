"""ROC and DET of a calibration: the two kinds of error over all thresholds, with the chosen one marked."""

import statistics
from os import PathLike
from typing import Any

import numpy as np

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import atomic_write
from pvlad_jax.evaluation.threshold import Calibration

try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ImportError as error:
    raise UserError('Curves need matplotlib, which is not installed: pip install -r requirements-use.txt') from error

# Of a DET, whose axes are normal deviates.
_TICKS = (0.00001, 0.0001, 0.001, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999)


def draw_curves(path: str | PathLike, calibration: Calibration) -> None:
    """Writes a PNG with the ROC (correct accepts over false ones) and the DET (misses over false accepts)."""
    false, miss = (np.asarray(calibration.curve[name]) for name in ('false_accepts', 'misses'))
    here = _false_accepts(calibration), calibration.misses.value
    figure = Figure(figsize=(11, 5), layout='constrained')
    FigureCanvasAgg(figure)
    roc, det = figure.subplots(1, 2)
    seen = false > 0
    roc.semilogx(false[seen], 1 - miss[seen], color='#1f5fa8')
    roc.semilogx(here[0], 1 - here[1], 'o', color='#c23b22', label=_label(calibration))
    roc.set(
        xlabel='false accepts, share of pairs of two people',
        ylabel='accepted, share of pairs of one person',
        title='ROC',
        ylim=(0, 1.01),
    )
    inside = (false > 0) & (false < 1) & (miss > 0) & (miss < 1)
    det.plot(_deviates(false[inside]), _deviates(miss[inside]), color='#1f5fa8')
    if 0 < here[0] < 1 and 0 < here[1] < 1:
        det.plot(*_deviates(np.array(here)), 'o', color='#c23b22', label=_label(calibration))
    det.set(xlabel='false accepts', ylabel='misses', title='DET')
    for axis, values in ((det.xaxis, false[inside]), (det.yaxis, miss[inside])):
        _label_rates(axis, values)
    for axes in (roc, det):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc='lower right' if axes is roc else 'upper right')
    figure.suptitle(
        f'{calibration.people} people, {calibration.pairs_of_one_person:,} pairs of one person, '
        f'{calibration.pairs_of_two_people:,} of two'
    )
    with atomic_write(path) as partial:
        figure.savefig(partial, format='png', dpi=110)


def _false_accepts(calibration: Calibration) -> float:
    """The share of pairs of two people that is accepted at the threshold. Where the rate is one of searches, that of
    the nearest point of the curve below it: the next one may hold pairs that the threshold was set to leave out.
    """
    if calibration.per == 'pair':
        return calibration.false_accepts.value
    below = int(np.searchsorted(calibration.curve['threshold'], calibration.same.value, side='right'))
    return calibration.curve['false_accepts'][below - 1] if below else 0.0


def _label(calibration: Calibration) -> str:
    return f'distance {calibration.same.value:.3f}: {100 * calibration.misses.value:.1f} % missed'


def _deviates(rates: Any) -> np.ndarray:
    normal = statistics.NormalDist()
    return np.array([normal.inv_cdf(float(rate)) for rate in rates])


def _label_rates(axis: Any, values: np.ndarray) -> None:
    ticks = [t for t in _TICKS if not len(values) or values.min() / 3 <= t <= 1 - (1 - values.max()) / 3]
    axis.set_ticks(_deviates(np.array(ticks)), [f'{100 * t:g} %' for t in ticks])
