"""Evaluation: embed the query and gallery tracklets, rank, report."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from pvlad_jax.checkpoint import Checkpoints
from pvlad_jax.data.frame_decoding import decode_clips
from pvlad_jax.data.records import TrackletTable
from pvlad_jax.embedding import TrackletEmbedder
from pvlad_jax.errors import UserError
from pvlad_jax.evaluation import Embeddings, Result, print_table, ranked_strips, score, write_embeddings, write_result, write_strips
from pvlad_jax.jobs.experiment import Experiment

Say = Callable[[str], None]


class Scored(NamedTuple):
    result: Result
    query: Embeddings
    gallery: Embeddings
    train: Embeddings | None  # for distances learned on the training set


class Evaluator:
    """Scores any state of an experiment; the embedding step is compiled once for all of them."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.embed = TrackletEmbedder(experiment.network, experiment.config, experiment.dataset)

    def labelled(self, variables: dict, table: TrackletTable) -> Embeddings:
        return Embeddings(embedding=self.embed(variables, table), person_id=table.person_id, camera_id=table.camera_id,
                          tracklet=table.tracklet)

    def __call__(self, variables: dict, step: int, role: str = 'test') -> Scored:
        """Of the test people, or with role='validation' of the training people held out."""
        config, roles = self.experiment.config, self.experiment.partition
        tables = (roles.query, roles.gallery) if role == 'test' else (roles.validation_query, roles.validation_gallery)
        query, gallery = (self.labelled(variables, table) for table in tables)
        train = self.labelled(variables, roles.train) if config.evaluation.distance in ('xqda', 'kissme') else None
        metadata = self.experiment.dataset.metadata
        result = score(query, gallery, config.evaluation.protocol or roles.protocol, config.evaluation.distance, config.evaluation.rerank,
                       train=train, dataset=self.experiment.dataset.name, split=roles.name if role == 'test' else 'validation', step=step,
                       frames=config.evaluation.frames, convention=roles.convention, partial=bool(metadata.get('partial')))
        return Scored(result, query, gallery, train)


def report(experiment: Experiment, workdir: Path, scored: Scored, say: Say) -> None:
    """The table, WORKDIR/eval/latest.json and step_N.json, WORKDIR/embeddings/*.npz and the picture of ranked strips."""
    if jax.process_index() != 0:
        return
    result, query, gallery, train = scored
    print_table(result)
    for name in (f'step_{result.step}', 'latest'):
        write_result(workdir / 'eval' / f'{name}.json', result)
    for name, embeddings in (('query', query), ('gallery', gallery)):
        write_embeddings(workdir / 'embeddings' / f'{name}.npz', embeddings)
    count = experiment.config.evaluation.strips
    if count:
        path = workdir / 'eval' / 'ranked_strips.png'
        tables = {name: (table, row) for table in (experiment.partition.query, experiment.partition.gallery)
                  for row, name in enumerate(table.tracklet)}

        def frames(tracklet: str) -> np.ndarray:
            table, row = tables[tracklet]
            record = experiment.dataset.read(table.split[row], table.row[row])
            index = np.linspace(0, len(record.frames) - 1, 4).round().astype(int)
            return decode_clips(record.frames, index, 128, 64, tracklet)

        write_strips(path, ranked_strips(query, gallery, frames, result.protocol, result.distance, result.rerank, train=train,
                                         n_queries=count))
        say(f'Ranked strips: {path}')


def evaluate(experiment: Experiment, workdir: Path, say: Say) -> Result:
    """Mode `eval`: scores the last checkpoint of a working directory."""
    checkpoints = Checkpoints(workdir / 'checkpoints', experiment.config.checkpoint)
    if checkpoints.latest_step() is None:
        raise UserError(f'{workdir} holds no checkpoint to evaluate. Train first, with --mode=train.')
    state, _ = checkpoints.restore(experiment.state_shapes())
    step = int(state.step)
    began = time.monotonic()
    scored = Evaluator(experiment)(state.variables(), step)
    say(f'Step {step}: embedded {len(scored.query) + len(scored.gallery)} tracklets in {time.monotonic() - began:.1f} s.')
    report(experiment, workdir, scored, say)
    checkpoints.close()
    return scored.result
