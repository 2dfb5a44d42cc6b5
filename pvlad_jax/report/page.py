"""The page of a report: everything that is put into it is escaped, since people choose names of tracklets and data
sets.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.labels import UNKNOWN_CAMERA, camera_label, person_label
from pvlad_jax.core.terminal import printable
from pvlad_jax.evaluation.embeddings import Embeddings, Labels
from pvlad_jax.evaluation.metric_learning import LearnedMetric
from pvlad_jax.evaluation.result import MAIN_METRICS, protocol_line
from pvlad_jax.report.charts import HEIGHT, WIDTH, Chart, Dot, HeatMap, heat_map, line_chart, plane
from pvlad_jax.report.codeword_use import CodewordUse
from pvlad_jax.report.query_outcomes import QueryOutcomes

TITLE = 'Re-identification on'  # what the title begins with


class Cell(NamedTuple):
    """A tracklet in a row of results. picture: its path, '' = none."""

    tracklet: str
    caption: str
    picture: str


class Row(NamedTuple):
    """A query with its nearest tracklets.

    Attributes:
      nearest: (tracklet, whether it is right).
      rank: of the first match.
      random: its place where rows are shown in random order.
    """

    query: Cell
    nearest: list[tuple[Cell, bool]]
    person: int
    camera: str
    rank: int
    random: int


def page(
    result: Mapping[str, Any],
    outcomes: QueryOutcomes,
    query: Embeddings,
    gallery: Embeddings,
    picture: Callable[[str], str],
    history: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
    masks: str = '',
    codewords: CodewordUse | None = None,
    learned: LearnedMetric | None = None,
) -> str:
    """The page as HTML, which refers to pictures by relative paths and to nothing else.

    Args:
      result: fields of a `Result`.
      query, gallery: the tables that were ranked.
      picture: path of a tracklet's picture by its name, '' = none.
      history: lines of metrics.jsonl.
      notes: said below the result.
      masks: path of a picture of part masks.
      codewords: None = not known.
      learned: the metric of a learned distance.
    """
    try:
        import jinja2
    except ImportError as error:
        raise UserError('A report needs Jinja2, which is not installed: pip install -r requirements-use.txt') from error
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, loader=jinja2.PackageLoader('pvlad_jax.report', '.')
    )
    mapped, about_map = _seen_by(result['distance'], learned, np.asarray(query.embedding, np.float64))
    cameras = sorted({camera for pair in outcomes.camera_pairs for camera in pair})
    split = f'{result["dataset"]} {result["split"]}'.strip()
    return environment.get_template('page.html.j2').render(
        title=f'{TITLE} {printable(split)}',
        protocol=printable(protocol_line(result)),
        result=result,
        metrics=[(name, f'{100 * result[key]:.2f} %') for name, key in MAIN_METRICS.items()],
        charts=list(filter(None, _charts(result, outcomes, history))),
        cameras=[_camera(camera) for camera in cameras],
        camera_rows=[(_camera(own), [outcomes.camera_pairs.get((own, other)) for other in cameras]) for own in cameras],
        dots=_dots(mapped, query, picture),
        size=mapped.shape[1],
        about_map=about_map,
        map_width=WIDTH,
        map_height=HEIGHT,
        notes=[printable(note) for note in notes],
        masks=masks,
        codewords=codewords,
        codeword_map=codewords and _codeword_map(codewords),
        rows=_rows(outcomes, query, gallery, picture),
    )


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _charts(
    result: Mapping[str, Any], outcomes: QueryOutcomes, history: Sequence[Mapping[str, Any]]
) -> list[Chart | None]:
    def series(kind: str, name: str) -> tuple[list, list]:
        lines = (line for line in history if line.get('kind') == kind and _is_finite(line.get(name)))
        last = {line['step']: line[name] for line in lines}  # a finished run that is given again evaluates once more
        return list(last), list(last.values())

    centres = (outcomes.edges[1:] + outcomes.edges[:-1]) / 2
    shares = {
        name: (centres, counts / max(counts.sum(), 1))
        for name, counts in (('one person', outcomes.one_person), ('two people', outcomes.two_people))
    }
    ranks = np.arange(1, len(result['cmc']) + 1)
    scored = {'rank-1': series('eval', 'rank_1'), 'mAP': series('eval', 'mAP')}
    return [
        line_chart('Cumulative match', 'rank', '', {'CMC': (ranks, result['cmc'])}, y_top=1),
        line_chart('Distances of pairs, shares', 'distance', '', shares),
        line_chart('Loss in training', 'step', '', {'loss': series('train', 'loss')}),
        line_chart('Accuracy among training people', 'step', '', {'accuracy': series('train', 'accuracy')}, y_top=1),
        line_chart('Evaluations in training', 'step', '', scored, y_top=1),
    ]


def _codeword_map(use: CodewordUse) -> HeatMap:
    notes = [f'{n} in use, {e:.1f} effective' for n, e in zip(use.in_use, use.effective)]
    return heat_map(use.shares, 'part', 'codeword', notes)


def _seen_by(
    distance: str, learned: LearnedMetric | None, embedding: Float[np.ndarray, 'n E']
) -> tuple[Float[np.ndarray, 'n R'], str]:
    """What the map shows, and what is to be said of it."""
    if learned is None:
        return embedding, ''
    if learned.definite:
        return embedding @ learned.projection, f'Embeddings are shown as {distance} sees them, after its linear map.'
    negative, size = int((learned.signs < 0).sum()), len(learned.signs)
    return embedding, (
        f'{negative} of the {size} directions of {distance} draw tracklets together the more they differ, which no map '
        'can show: these are the embeddings of the network, and what is near here need not be near by that distance.'
    )


def _dots(mapped: Float[np.ndarray, 'n R'], query: Labels, picture: Callable[[str], str]) -> list[Dot]:
    return [
        Dot(
            float(x),
            float(y),
            int(person) * 137 % 360,
            f'{person_label(person)}, {camera_label(camera)}, {printable(name)}',
            picture(name),
        )
        for (x, y), person, camera, name in zip(
            plane(mapped), query.person_id, query.camera_id, query.tracklet.tolist()
        )
    ]


def _camera(camera: int) -> str:
    """As a table and the field that filters have it."""
    return 'unknown' if camera == UNKNOWN_CAMERA else str(camera)


def _distance(value: float) -> str:
    """0.123; 4.56e+03 where a learned distance leaves the range of cosines."""
    return f'{value:.3f}' if 0.01 <= abs(value) < 100 or not value else f'{value:.3g}'


def _rows(outcomes: QueryOutcomes, query: Embeddings, gallery: Embeddings, picture: Callable[[str], str]) -> list[Row]:
    order = outcomes.worst_first()
    random = np.random.default_rng(0).permutation(len(order))
    rows = []
    for place, q in enumerate(order):
        rank, person, camera = int(outcomes.first_rank[q]), int(query.person_id[q]), int(query.camera_id[q])
        name = str(query.tracklet[q])
        asked = Cell(
            printable(name),
            f'{person_label(person)}, {camera_label(camera)}; first match at rank {rank}',
            picture(name),
        )
        nearest = []
        for column, distance, right in zip(outcomes.nearest[q], outcomes.distance[q], outcomes.right[q]):
            if column >= 0:
                other = str(gallery.tracklet[column])
                whose = f'{person_label(gallery.person_id[column])}, {camera_label(gallery.camera_id[column])}'
                about = f'{_distance(distance)}; {whose}'
                nearest.append((Cell(printable(other), about, picture(other)), bool(right)))
        rows.append(Row(asked, nearest, person, _camera(camera), rank, int(random[place])))
    return rows
