"""Evaluation: embed the query and gallery tracklets, rank, report."""

import dataclasses
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pvlad_jax.core.errors import UserError
from pvlad_jax.data.frame_decoding import CorruptRecord, decode_clips
from pvlad_jax.data.tracklet_dataset import TrackletTable
from pvlad_jax.embedding.tracklets import TrackletEmbedder
from pvlad_jax.evaluation import Embeddings, Result, print_table, score, write_embeddings, write_result
from pvlad_jax.evaluation.metric_learning import LEARNED
from pvlad_jax.models.tracklet_network import clip_statistics
from pvlad_jax.parallel.mesh import gather_to_host
from pvlad_jax.report.part_masks import part_mask_picture
from pvlad_jax.report.ranked_strips import ranked_strips, write_strips
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.experiment import Experiment
from pvlad_jax.runs.preflight import check_frames
from pvlad_jax.runs.run_data import RunData
from pvlad_jax.runs.run_start import begin
from pvlad_jax.runs.trained_model import write_evaluated_config
from pvlad_jax.runs.workdir import Folder
from pvlad_jax.training.train_state import TrainState

Say = Callable[[str], None]
UNTRAINED = 'untrained'  # of config.evaluation.checkpoint
_MAX_NAMED = 10  # tracklets in one line
_ATTEMPTS = 3  # to read a checkpoint before it is deleted


class EvaluationFailed(UserError):
    """A saved state could not be scored. All processes of a run raise it alike."""


class Scored(NamedTuple):
    result: Result
    query: Embeddings
    gallery: Embeddings
    train: Embeddings | None  # for distances learned on the training set

    def of(self, checkpoint: str) -> 'Scored':
        """The same, with the choice of the checkpoint said in the result."""
        return self._replace(result=dataclasses.replace(self.result, checkpoint=checkpoint))


class Evaluator:
    """Scores any state of an experiment; the embedding step is compiled once for all of them."""

    def __init__(self, experiment: Experiment, say: Say = lambda text: None):
        self.experiment, self.say = experiment, say
        self.embed = TrackletEmbedder(experiment.network, experiment.config, experiment.dataset)

    def labelled(self, variables: dict, table: TrackletTable) -> Embeddings:
        """Without those that cannot be decoded, where config.input.on_error is 'skip'; UserError for the first where it is 'stop'."""
        if self.experiment.config.input.on_error == 'skip':
            embedding, kept = self.embed.decodable(variables, table)
            if not kept.any():
                raise UserError('config.input.on_error = skip: none of the tracklets to embed can be decoded. Convert the data set again.')
            self._tell_skipped(table.select(~kept))
            table = table.select(kept)
        else:
            embedding = self.embed(variables, table)
        return Embeddings(embedding=embedding, person_id=table.person_id, camera_id=table.camera_id, tracklet=table.tracklet)

    def _tell_skipped(self, table: TrackletTable) -> None:
        if len(table):
            more = f' and {len(table) - _MAX_NAMED} more' if len(table) > _MAX_NAMED else ''
            self.say(f'Left out, since they cannot be decoded: tracklets {", ".join(table.tracklet[:_MAX_NAMED])}{more}.')

    def __call__(self, variables: dict, step: int, role: str = 'test') -> Scored:
        """Of the test people, or with role='validation' of the training people held out."""
        config, roles = self.experiment.config, self.experiment.partition
        tables = (roles.query, roles.gallery) if role == 'test' else (roles.validation_query, roles.validation_gallery)
        query, gallery = (self.labelled(variables, table) for table in tables)
        train = self.labelled(variables, roles.train) if config.evaluation.distance in LEARNED else None
        metadata = self.experiment.dataset.metadata
        result = score(query, gallery, config.evaluation.protocol or roles.protocol, config.evaluation.distance, config.evaluation.rerank,
                       train=train, unknown_cameras=config.evaluation.unknown_cameras,
                       dataset=self.experiment.dataset.name, split=roles.name if role == 'test' else 'validation', step=step,
                       frames=config.evaluation.frames, convention=roles.convention, partial=bool(metadata.get('partial')))
        result = dataclasses.replace(result, skipped_query=len(tables[0]) - len(query), skipped_gallery=len(tables[1]) - len(gallery),
                                     skipped_train=len(roles.train) - len(train) if train is not None else 0)
        return Scored(result, query, gallery, train)


def report(experiment: Experiment, workdir: Folder, variables: dict, scored: Scored, say: Say) -> None:
    """WORKDIR/eval/latest.json and step_N.json, WORKDIR/embeddings/*.npz, then the table, then pictures."""
    variables = gather_to_host(variables)  # all processes must take part in gathering
    if jax.process_index() != 0:
        return
    result, query, gallery, _ = scored
    try:
        for name in (f'step_{result.step}', 'latest'):
            write_result(workdir / 'eval' / f'{name}.json', result)
        for name, embeddings in (('query', query), ('gallery', gallery)):
            write_embeddings(workdir / 'embeddings' / f'{name}.npz', embeddings)
    finally:  # printed where it cannot be written, too
        print_table(result)
    if experiment.config.evaluation.strips:
        draw(experiment, workdir / 'eval', variables, scored, say)


def draw(experiment: Experiment, folder: Folder, variables: dict, scored: Scored, say: Say) -> None:
    """ranked_strips.png, and part_masks.png where the pooling has masks, of evenly spread queries."""
    roles, clips_config = experiment.partition, experiment.config.clips
    places = {name: (table, row) for table in (roles.query, roles.gallery) for row, name in enumerate(table.tracklet)}

    def frames(tracklet: str, index: np.ndarray | None = None) -> np.ndarray:
        table, row = places[tracklet]
        record = experiment.dataset.read(table.split[row], table.row[row])
        index = np.linspace(0, len(record.frames) - 1, 4).round().astype(int) if index is None else index
        try:
            return decode_clips(record.frames, index, clips_config.height, clips_config.width, tracklet)
        except CorruptRecord:  # a frame that was not scored (evaluation.frames); the numbers do not depend on it
            say(f'Tracklet {tracklet} is black in the pictures: it has a frame that cannot be decoded.')
            return np.zeros((*np.shape(index), clips_config.height, clips_config.width, 3), np.uint8)

    result, query, gallery, train = scored
    count = experiment.config.evaluation.strips
    write_strips(folder / 'ranked_strips.png', ranked_strips(query, gallery, frames, result.protocol, result.distance, result.rerank,
                                                             train=train, unknown_cameras=result.unknown_cameras, n_queries=count))
    say(f'Ranked strips: {folder / "ranked_strips.png"}')
    long_enough = [name for name in query.tracklet if roles.query.n_frames[places[name][1]] >= clips_config.frames]
    if long_enough:
        chosen = [long_enough[i] for i in np.unique(np.linspace(0, len(long_enough) - 1, min(count, 4)).round().astype(int))]
        clips = np.stack([frames(name, np.arange(clips_config.frames)) for name in chosen])
        look = jax.jit(lambda v, x: clip_statistics(experiment.network, v, x, jnp.ones(x.shape[:2], bool))[1].part_masks)
        masks = look(variables, clips)
        if masks is not None:
            write_strips(folder / 'part_masks.png', part_mask_picture(list(clips), list(np.asarray(masks))))
            say(f'Part masks: {folder / "part_masks.png"}')


def restore_chosen(experiment: Experiment, checkpoints: Checkpoints) -> tuple[TrainState, str]:
    """(the state that config.evaluation.checkpoint says, 'last' or 'best' with what it was chosen by). The test people choose nothing."""
    if experiment.config.evaluation.checkpoint == 'last':
        return checkpoints.restore(experiment.state_shapes())[0], 'last'
    best = checkpoints.best()
    if best is None:
        raise UserError(f"config.evaluation.checkpoint = 'best', but no checkpoint in {checkpoints.directory} was scored on validation "
                        f'people (there are those of step {", ".join(map(str, checkpoints.steps()))}). They are scored every '
                        "config.training.eval_every steps and at the end of training. Score the 'last' one, or train on.")
    step, validation_map = best
    return checkpoints.restore(experiment.state_shapes(), step)[0], f'best by validation mAP ({validation_map:.1%})'


def _restore_beside_training(experiment: Experiment, checkpoints: Checkpoints) -> tuple[TrainState, str]:
    """As `restore_chosen`; once more where the training that writes these checkpoints has deleted the one that was being read."""
    for _ in range(_ATTEMPTS - 1):
        listed = checkpoints.steps()
        try:
            return restore_chosen(experiment, checkpoints)
        except UserError:
            checkpoints.reload()
            if checkpoints.steps() == listed:
                raise
    return restore_chosen(experiment, checkpoints)


def evaluate(experiment: Experiment, workdir: Folder, say: Say) -> Result:
    """Mode `eval`: scores what config.evaluation.checkpoint says, a checkpoint of the working directory or the untrained network."""
    checkpoints = Checkpoints(workdir / 'checkpoints', experiment.config.checkpoint, read_only=True)
    if experiment.config.evaluation.checkpoint == UNTRAINED:
        experiment.check_weights(experiment.state_shapes())
        check_frames(experiment.config, experiment.dataset, experiment.partition, RunData(workdir, experiment.dataset, experiment.people))
        say(f'The network as training would begin with it; {workdir} needs no checkpoint.')
        state, which = experiment.initial_state(say), UNTRAINED
        if jax.process_index() == 0:
            write_evaluated_config(workdir, experiment.config)  # what pvlad_jax.load needs
    elif checkpoints.latest_step() is None:
        raise UserError(f'{workdir} holds no checkpoint to evaluate. Train first, with --mode=train, or set '
                        f'--config.evaluation.checkpoint={UNTRAINED} to score imported weights as they are.')
    else:
        begin(experiment, workdir, checkpoints, say, new=False)
        state, which = _restore_beside_training(experiment, checkpoints)
    step = int(state.step)
    began = time.monotonic()
    try:
        scored = Evaluator(experiment, say)(state.variables(), step).of(which)
    except UserError as error:
        raise EvaluationFailed(f'The evaluation of step {step} failed: {error}') from error
    say(f'Step {step}: embedded {len(scored.query) + len(scored.gallery)} tracklets in {time.monotonic() - began:.1f} s.')
    report(experiment, workdir, state.variables(), scored, say)
    checkpoints.close()
    return scored.result
