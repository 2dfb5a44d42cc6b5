"""How much a network loses where queries show a person who is partly covered, or in a box that fits badly.

    python benchmarks/corrupted_queries.py runs/person_vlad runs/average --data_dir=data --output=corrupted.json

The queries are corrupted in the ways of benchmarks/corruptions.py, the gallery stays as it is. Scored are the training
people who were held out of each run (config.dataset.validation_share), by the run's protocol and distance, without
re-ranking; test people never. What is drawn depends on the tracklet alone, so all runs see the same pictures of the
same people; runs that held other people out, as those of other seeds, or have another protocol are refused.
"""

import dataclasses
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from benchmarks.corruptions import CORRUPTIONS, Corruption
from benchmarks.part_masks import parser_of_runs
from benchmarks.rows import draw, write
from benchmarks.same_tracklets import check_same, config_of_run, data_set_of
from pvlad_jax.config import Config
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.terminal import say
from pvlad_jax.data.frame_decoding import decode_clips
from pvlad_jax.data.joined_dataset import AnyDataset
from pvlad_jax.data.tracklet_dataset import EncodedTracklet, TrackletDataset, TrackletTable
from pvlad_jax.embedding.tracklets import TrackletEmbedder
from pvlad_jax.evaluation import Embeddings, score
from pvlad_jax.evaluation.metric_learning import LEARNED
from pvlad_jax.runs.open_data import OpenedData, open_data
from pvlad_jax.runs.trained_model import load_trained

AS_IT_IS = 'as they are'


class CorruptedDataset(TrackletDataset):
    """A data set whose tracklets are read in the network's size, and corrupted. It only reads."""

    def __init__(self, dataset: AnyDataset, table: TrackletTable, corruption: Corruption, size: tuple[int, int]):
        """table: the tracklets that are read; what covers one of them is another person's of these. size: (H, W)."""
        self.dataset, self.table, self.corruption, self.size = dataset, table, corruption, size

    def read(self, split: str, row: int | np.integer) -> EncodedTracklet:
        record = self.dataset.read(split, row)
        rng = np.random.default_rng(zlib.crc32(record.tracklet.encode()))
        (mine,) = np.flatnonzero((self.table.split == split) & (self.table.row == row))
        others = np.flatnonzero(self.table.person_id != self.table.person_id[mine])
        other = others[rng.integers(len(others))]
        cover = self._frames(self.dataset.read(self.table.split[other], self.table.row[other]))
        corrupted = self.corruption(self._frames(record), cover, rng)
        # PNG, which loses nothing.
        return EncodedTracklet(
            record.tracklet, [cv2.imencode('.png', frame[..., ::-1])[1].tobytes() for frame in corrupted]
        )

    def _frames(self, record: EncodedTracklet) -> np.ndarray:
        return decode_clips(record.frames, np.arange(len(record.frames)), *self.size, record.tracklet)


def held_out(workdir: Path, data_dir: str) -> tuple[Config, OpenedData]:
    """The configuration and the data of a run. UserError where it holds too few people out, or learns its distance from
    training people.
    """
    config = config_of_run(workdir)
    about = dataclasses.replace(config.dataset, data_dir=data_dir or config.dataset.data_dir)
    config = dataclasses.replace(config, dataset=about)
    if config.evaluation.distance in LEARNED:
        raise UserError(
            f'{workdir}: config.evaluation.distance = {config.evaluation.distance!r} is learned from training people, '
            'which is not done here. Compare runs whose distance is cosine or euclidean.'
        )
    data = open_data(config)
    if len(np.unique(data.roles.validation_query.person_id)) < 2:
        raise UserError(f'{workdir} holds no two people out. Train with --config.dataset.validation_share=0.2')
    return config, data


def check_same_people(workdirs: Sequence[Path], data_dir: str) -> None:
    """UserError where runs are not asked for the same people, or not scored alike."""
    shown = {}
    for workdir in workdirs:
        config, data = held_out(workdir, data_dir)
        shown[workdir] = {
            'data set': data_set_of(config, ''),
            'protocol': config.evaluation.protocol or data.roles.protocol,
            'treatment of unknown cameras': config.evaluation.unknown_cameras,
            'held-out queries': data.roles.validation_query,
            'held-out gallery': data.roles.validation_gallery,
        }
    check_same(
        shown,
        'Compare runs of one data set, protocol, config.seed and config.dataset.validation_share; the others each by '
        'themselves.',
    )


def scores_of_run(workdir: Path, checkpoint: str | None, data_dir: str) -> dict[str, Mapping[str, float]]:
    """{corruption: {'rank_1', 'mAP'}}, in %. UserError as `held_out`."""
    config, data = held_out(workdir, data_dir)
    model = load_trained(workdir, checkpoint)
    query, gallery = data.roles.validation_query, data.roles.validation_gallery
    embed = TrackletEmbedder(model.network, config, data.dataset)

    def embedded(table: TrackletTable, dataset: AnyDataset) -> Embeddings:
        vectors = embed.on(dataset)(model.variables, table)
        labels = {name: getattr(table, name) for name in ('person_id', 'camera_id', 'tracklet')}
        return Embeddings(embedding=vectors, **labels)

    # The queries as they are belong to the gallery of protocols that have them there; a tracklet's name tells that a
    # corrupted query is the same.
    clean, whole = embedded(query, data.dataset), embedded(TrackletTable.concatenate([gallery, query]), data.dataset)
    asked = {AS_IT_IS: clean}
    for name, corruption in CORRUPTIONS.items():
        asked[name] = embedded(query, CorruptedDataset(data.dataset, query, corruption, model.clip[1:]))
        say(f'{workdir}: {name}')
    protocol = config.evaluation.protocol or data.roles.protocol
    distance, unknown_cameras = config.evaluation.distance, config.evaluation.unknown_cameras
    scored = {}
    for name, queries in asked.items():
        result = score(queries, whole, protocol, distance, unknown_cameras=unknown_cameras).to_json()
        scored[name] = {measure: 100 * float(result[measure]) for measure in ('rank_1', 'mAP')}
    return scored


def main() -> None:
    given = parser_of_runs(__doc__).parse_args()
    check_same_people(given.workdirs, given.data_dir)
    rows = []
    for workdir in given.workdirs:
        scored = scores_of_run(workdir, given.checkpoint, given.data_dir)
        before = scored[AS_IT_IS]['mAP']
        rows += [
            {'run': str(workdir), 'queries': name, **measured, 'lost': before - measured['mAP']}
            for name, measured in scored.items()
        ]
    if given.output:
        write(given.output, rows)
    draw(
        'Corrupted queries',
        ['', 'queries', 'rank-1 %', 'mAP %', 'mAP lost'],
        [[r['run'], r['queries'], *(f'{r[name]:.1f}' for name in ('rank_1', 'mAP', 'lost'))] for r in rows],
    )


if __name__ == '__main__':
    with one_sentence():
        main()
