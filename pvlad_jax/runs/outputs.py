"""What an evaluation leaves in the working directory: results, embeddings, the printed table, pictures."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from pvlad_jax.data.frame_decoding import CorruptRecord, decode_clips
from pvlad_jax.evaluation import Embeddings, Result, print_table, write_embeddings, write_result
from pvlad_jax.parallel.mesh import gather_to_host
from pvlad_jax.report.ranked_strips import ranked_strips, write_strips
from pvlad_jax.runs.experiment import NetworkOnData
from pvlad_jax.runs.part_intermediates import CODEWORDS, MASKS, write_part_intermediates
from pvlad_jax.runs.workdir import Folder

STRIPS = 'ranked_strips.png'

Log = Callable[[str], None]  # prints a line


class Scored(NamedTuple):
    """The result of an evaluation, and the embeddings that it is of."""

    result: Result
    query: Embeddings
    gallery: Embeddings
    train: Embeddings | None  # for distances learned on the training set

    @property
    def tracklets(self) -> int:
        """How many were scored."""
        return len(self.query) + len(self.gallery)

    def of(self, checkpoint: str) -> 'Scored':
        """The same, with the choice of the checkpoint said in the result."""
        return self._replace(result=dataclasses.replace(self.result, checkpoint=checkpoint))


def report(
    experiment: NetworkOnData, workdir: Folder, variables: dict, scored: Scored, log: Log, name: str = ''
) -> None:
    """WORKDIR/eval/latest.json and step_N.json, WORKDIR/embeddings/*.npz, then the table, then pictures.

    embeddings/train.npz is there for learned distances only, which a report or another scoring learns from it again.

    name: of another data set than the run's own: then eval/NAME.json, embeddings/NAME/*.npz, eval/NAME/*.png.
    """
    variables = gather_to_host(variables)  # all processes must take part in gathering
    if jax.process_index() != 0:
        return
    try:
        write_scored(workdir, scored, [name] if name else [f'step_{scored.result.step}', 'latest'], name)
    finally:  # printed where it cannot be written, too
        print_table(scored.result)
    draw(experiment, workdir, variables, scored, log, name)


def write_scored(workdir: Folder, scored: Scored, files: Sequence[str], name: str = '') -> None:
    """The result as WORKDIR/eval/FILE.json of each of `files`, and WORKDIR/embeddings/NAME/*.npz. Pictures of a former
    evaluation are removed, since not every evaluation draws all of them.
    """
    for file in files:
        write_result(workdir / 'eval' / f'{file}.json', scored.result)
    folder = workdir / 'embeddings' / name
    for role, embeddings in (('query', scored.query), ('gallery', scored.gallery), ('train', scored.train)):
        if embeddings is not None:
            write_embeddings(folder / f'{role}.npz', embeddings)
        else:  # that of a former evaluation would be of other weights
            (folder / f'{role}.npz').unlink(missing_ok=True)
    for drawn in (STRIPS, MASKS, CODEWORDS):
        (workdir / 'eval' / name / drawn).unlink(missing_ok=True)


def draw(experiment: NetworkOnData, workdir: Folder, variables: dict, scored: Scored, log: Log, name: str = '') -> None:
    """ranked_strips.png in WORKDIR/eval/NAME, and there what `write_part_intermediates` writes; none where
    config.evaluation.strips is 0. `variables` are on the host.
    """
    if not experiment.config.evaluation.strips:
        return
    folder = workdir / 'eval' / name
    roles, clips_config = experiment.partition, experiment.config.clips
    places = {name: (table, row) for table in (roles.query, roles.gallery) for row, name in enumerate(table.tracklet)}

    def frames(tracklet: str, index: np.ndarray | None = None) -> np.ndarray:
        table, row = places[tracklet]
        record = experiment.dataset.read(table.split[row], table.row[row])
        index = np.linspace(0, len(record.frames) - 1, 4).round().astype(int) if index is None else index
        try:
            return decode_clips(record.frames, index, clips_config.height, clips_config.width, tracklet)
        except CorruptRecord:  # a frame that was not scored (evaluation.frames); the numbers do not depend on it
            log(f'Tracklet {tracklet} is black in the pictures: it has a frame that cannot be decoded.')
            return np.zeros((*np.shape(index), clips_config.height, clips_config.width, 3), np.uint8)

    result, query, gallery, train = scored
    count = experiment.config.evaluation.strips
    scored_by = result.protocol, result.distance, result.rerank
    options = {'train': train, 'unknown_cameras': result.unknown_cameras, 'n_queries': count}
    write_strips(folder / STRIPS, ranked_strips(query, gallery, frames, *scored_by, **options))
    log(f'Ranked strips: {folder / STRIPS}')

    def fill_a_clip(table: Embeddings) -> list[str]:
        lengths = [(name, places[name]) for name in table.tracklet.tolist()]
        return [name for name, (role, row) in lengths if role.n_frames[row] >= clips_config.frames]

    write_part_intermediates(
        experiment.network,
        variables,
        lambda name: frames(name, np.arange(clips_config.frames)),
        fill_a_clip(query),
        fill_a_clip(gallery),
        count,
        folder,
        result.step,
        log,
    )
