"""Mode `report`: a page to look at what a run ranked, and why (docs/report.md)."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from pvlad_jax.config import Config
from pvlad_jax.config.data_set_names import is_join, joined_data_sets
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import atomic_folder
from pvlad_jax.core.paths import is_remote, user_path
from pvlad_jax.core.saved_files import json_object
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from pvlad_jax.evaluation import read_embeddings
from pvlad_jax.evaluation.distances import learned_metric
from pvlad_jax.evaluation.metric_learning import LEARNED, LearnedMetric
from pvlad_jax.evaluation.result import read_result
from pvlad_jax.evaluation.scoring import ranked_tables, score_rows_by
from pvlad_jax.images import ImageError, decode_image
from pvlad_jax.models.pooling import POOLINGS
from pvlad_jax.report.codeword_use import read_codeword_use
from pvlad_jax.report.page import TITLE, page
from pvlad_jax.report.query_outcomes import query_outcomes
from pvlad_jax.report.tracklet_pictures import PICTURES, TrackletPictures
from pvlad_jax.runs.metric_writer import MetricLine
from pvlad_jax.runs.part_intermediates import CODEWORDS, MASKS
from pvlad_jax.runs.workdir import Folder

REPORT, PAGE = 'report', 'index.html'
TOP = 6  # nearest tracklets of a query


def write_report(config: Config, workdir: Folder, output: Path | None, log: Callable[[str], None]) -> Path:
    """Writes a folder with index.html and its pictures, and returns it. A former report is replaced. Of joined data
    sets each has a folder of its own in it, by its name.

    Args:
      config: names the data sets, for pictures. Where one is not there any more, its page has none.
      output: a folder on a disk; None = WORKDIR/report.

    Raises:
      UserError: no evaluation in the working directory, one by a learned distance without what it was learned from, or
        an output that cannot be written.
    """
    if output is None and is_remote(workdir):
        raise UserError(f'{workdir} is in object storage: say with --output=DIR where on a disk the report goes.')
    folder = user_path(str(output or workdir / REPORT))
    name = config.dataset.name
    pages = {one.written: one.name for one in joined_data_sets(name)} if is_join(name) else {'': name}
    for page_folder in (folder / part for part in pages):
        if page_folder.exists() and not _is_replaceable(page_folder):
            raise UserError(
                f'{page_folder} exists and is no report, or holds other files too: it is left as it is. Give another '
                '--output.'
            )
    for part, data_set in pages.items():
        of_part = dataclasses.replace(config, dataset=dataclasses.replace(config.dataset, name=data_set))
        _write_page(of_part, workdir, part, folder / part, log)
    return folder


def _write_page(config: Config, workdir: Folder, name: str, folder: Path, log: Callable[[str], None]) -> None:
    """The page of one data set, that of `config`; `name`: that its result goes by, '' where it is the only one."""
    file = f'{name or "latest"}.json'
    result = read_result(workdir / 'eval' / file)
    if result is None:
        raise UserError(f'{workdir} holds no result of one evaluation (eval/{file}). Make one with --mode=eval.')
    notes = []
    learned = _learned(workdir / 'embeddings' / name, result['distance'], result['rerank'], notes)
    tables = (read_embeddings(workdir / 'embeddings' / name / f'{role}.npz') for role in ('query', 'gallery'))
    query, gallery, protocol = ranked_tables(*tables, result['protocol'], result['unknown_cameras'])
    scores = score_rows_by(query, gallery, result['distance'], result['rerank'], learned)
    outcomes = query_outcomes(scores, query, gallery, protocol, TOP, result['unknown_cameras'])
    ranked_first = float(np.mean(outcomes.first_rank[outcomes.first_rank > 0] == 1))
    if abs(ranked_first - result['rank_1']) > 1e-3:
        notes.append(f'The embeddings are not those of this result: rank-1 of these is {100 * ranked_first:.2f} %.')
    shown = list(dict.fromkeys([*query.tracklet.tolist(), *gallery.tracklet.tolist()]))
    frames = _frames(config, shown, notes)
    with atomic_folder(folder) as partial:
        pictures = TrackletPictures(partial, frames)
        drawn = workdir / 'eval' / name
        masks = MASKS if (drawn / MASKS).exists() else ''
        if masks:
            (partial / MASKS).write_bytes((drawn / MASKS).read_bytes())
        codewords = None
        if POOLINGS[config.model.pooling].data_dependent:  # others have no codewords
            codewords = read_codeword_use(drawn / CODEWORDS, result['step'], notes.append)
        history = _history(workdir, name)
        text = page(result, outcomes, query, gallery, pictures.path, history, notes, masks, codewords, learned)
        (partial / PAGE).write_text(text, encoding='utf-8')
    if pictures.broken:
        log(f'Without a picture, since a frame cannot be decoded: {", ".join(pictures.broken[:10])}.')
    for note in notes:
        log(f'Note: {note}')
    log(f'{folder / PAGE}: {int((outcomes.first_rank > 0).sum())} queries. Open it in a browser; it fetches nothing.')


def _learned(folder: Folder, distance: str, rerank: bool, notes: list[str]) -> LearnedMetric | None:
    """The metric of a learned distance, learned once more from the training set's embeddings; None for others."""
    if distance not in LEARNED:
        return None
    path = folder / 'train.npz'
    if not path.exists():
        raise UserError(
            f'The result is by the distance {distance}, which is learned from the embeddings of the training set, and '
            f'{path} is not there: former versions did not keep them. Evaluate again, with --mode=eval.'
        )
    train = read_embeddings(path)
    learned = learned_metric(distance, train)
    count = int((train.person_id > 0).sum())
    note = f'The distance {distance} was learned from {count:,} tracklets of training people.'
    if not rerank:
        sign = '' if learned.definite else ', and may be negative: the less, the nearer'
        note += f' It has no upper end{sign}.'
    notes.append(note)
    return learned


def _is_replaceable(folder: Path) -> bool:
    """Whether a folder is empty or holds a report and nothing else, since all of it is deleted."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    if not names:
        return True
    page_there = (folder / PAGE).read_text(encoding='utf-8', errors='replace') if (folder / PAGE).is_file() else ''
    return names <= {PAGE, PICTURES, MASKS} and f'<title>{TITLE}' in page_there


def _frames(config: Config, tracklets: list[str], notes: list[str]) -> Callable[[str, int], list[np.ndarray] | None]:
    """Frames of one of these tracklets by its name; None where the data set does not hold it, which is noted."""
    try:
        dataset = TrackletDataset.open(config.dataset.data_dir, config.dataset.name)
    except UserError as error:
        notes.append(f'There are no pictures: {error}')
        return lambda name, count: None
    places = {
        name: (table, row)
        for split, table in dataset.tables.items()
        for row, name in enumerate(table.tracklet.tolist())
    }
    if missing := [name for name in tracklets if name not in places]:
        lacking = 'There are no pictures' if len(missing) == len(tracklets) else 'Some pictures are missing'
        notes.append(
            f'{lacking}: the data set {config.dataset.name!r} in {config.dataset.data_dir} lacks '
            f'{len(missing):,} of {len(tracklets):,} tracklets, such as {missing[0]!r}.'
        )

    def frames(name: str, count: int) -> list[np.ndarray] | None:
        if name not in places:
            return None
        table, row = places[name]
        encoded = dataset.read(table.split[row], table.row[row]).frames
        shown = np.unique(np.linspace(0, len(encoded) - 1, min(count, len(encoded))).round().astype(int))
        try:
            return [decode_image(encoded[i]) for i in shown]
        except (ImageError, IndexError) as error:
            raise UserError(f'Tracklet {name!r}: {error}') from error

    return frames


def _history(workdir: Folder, name: str) -> list[dict]:
    """The lines of metrics.jsonl that are whole; of the evaluations of joined data sets, those on `name`."""
    try:
        lines = (workdir / 'metrics.jsonl').read_bytes().splitlines()
    except OSError:
        return []
    history = []
    for line in lines:
        try:
            parsed = json_object(line)
            msgspec.convert(parsed, MetricLine)
        except ValueError:  # damaged, such as the last one of a run that was killed
            continue
        if name and parsed.get('kind') in ('eval', f'eval/{name}'):
            parsed['kind'] = 'eval' if parsed['kind'] != 'eval' else 'mean'
        history.append(parsed)
    return history
