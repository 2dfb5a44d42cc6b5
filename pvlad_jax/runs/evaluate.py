"""Evaluation: embed the query and gallery tracklets, rank, and in mode `eval` report."""

import dataclasses
import time

import jax

from pvlad_jax.core.errors import UserError
from pvlad_jax.data.tracklet_dataset import TrackletTable
from pvlad_jax.embedding.tracklets import TrackletEmbedder
from pvlad_jax.evaluation import Embeddings, Result, score
from pvlad_jax.evaluation.metric_learning import LEARNED
from pvlad_jax.runs.checkpoint import Checkpoints
from pvlad_jax.runs.experiment import Experiment, NetworkOnData
from pvlad_jax.runs.outputs import Log, Scored, report
from pvlad_jax.runs.preflight import check_frames
from pvlad_jax.runs.run_data import RunData
from pvlad_jax.runs.run_start import begin
from pvlad_jax.runs.trained_model import UNTRAINED, write_evaluated_config
from pvlad_jax.runs.workdir import Folder
from pvlad_jax.training.train_state import TrainState

_MAX_NAMED = 10  # tracklets in one line


class EvaluationFailed(UserError):
    """A saved state could not be scored. All processes of a run raise it alike."""


class Evaluator:
    """Scores any state of an experiment; the embedding step is compiled once for all of them."""

    def __init__(self, experiment: NetworkOnData, log: Log = lambda text: None):
        self.experiment, self.log = experiment, log
        self.embed = TrackletEmbedder(experiment.network, experiment.config, experiment.dataset)

    def labelled(self, variables: dict, table: TrackletTable) -> Embeddings:
        """Without those that cannot be decoded, where config.input.on_error is 'skip'; UserError for the first where it
        is 'stop'.
        """
        if self.experiment.config.input.on_error == 'skip':
            embedding, kept = self.embed.decodable(variables, table)
            if not kept.any():
                raise UserError(
                    'config.input.on_error = skip: none of the tracklets to embed can be decoded. Convert the data set '
                    'again.'
                )
            self._log_skipped(table.select(~kept))
            table = table.select(kept)
        else:
            embedding = self.embed(variables, table)
        return Embeddings(
            embedding=embedding, person_id=table.person_id, camera_id=table.camera_id, tracklet=table.tracklet
        )

    def _log_skipped(self, table: TrackletTable) -> None:
        if len(table):
            more = f' and {len(table) - _MAX_NAMED} more' if len(table) > _MAX_NAMED else ''
            self.log(
                f'Left out, since they cannot be decoded: tracklets {", ".join(table.tracklet[:_MAX_NAMED])}{more}.'
            )

    def __call__(self, variables: dict, step: int, role: str = 'test') -> Scored:
        """Of the test people, or with role='validation' of the training people held out."""
        config, roles = self.experiment.config, self.experiment.partition
        tables = (roles.query, roles.gallery) if role == 'test' else (roles.validation_query, roles.validation_gallery)
        query, gallery = (self.labelled(variables, table) for table in tables)
        train = self.labelled(variables, roles.train) if config.evaluation.distance in LEARNED else None
        metadata = self.experiment.dataset.metadata
        result = score(
            query,
            gallery,
            config.evaluation.protocol or roles.protocol,
            config.evaluation.distance,
            config.evaluation.rerank,
            train=train,
            unknown_cameras=config.evaluation.unknown_cameras,
            dataset=self.experiment.dataset.name,
            split=roles.name if role == 'test' else 'validation',
            step=step,
            frames=config.evaluation.frames,
            convention=roles.convention,
            partial=bool(metadata.get('partial')),
        )
        result = dataclasses.replace(
            result,
            skipped_query=len(tables[0]) - len(query),
            skipped_gallery=len(tables[1]) - len(gallery),
            skipped_train=len(roles.train) - len(train) if train is not None else 0,
            trained_people=roles.trained_people if role == 'test' else 0,
        )
        return Scored(result, query, gallery, train)


def restore_chosen(experiment: Experiment, checkpoints: Checkpoints) -> tuple[TrainState, str]:
    """(the state that config.evaluation.checkpoint says, 'last' or 'best' with what it was chosen by).

    The test people choose nothing.
    """
    if experiment.config.evaluation.checkpoint == 'last':
        return checkpoints.restore(experiment.state_shapes())[0], 'last'
    best = checkpoints.best()
    if best is None:
        raise UserError(
            f"config.evaluation.checkpoint = 'best', but no checkpoint in {checkpoints.directory} was scored on "
            'validation '
            f'people (there are those of step {", ".join(map(str, checkpoints.steps()))}). They are scored every '
            "config.training.eval_every steps and at the end of training. Score the 'last' one, or train on."
        )
    step, validation_map = best
    return checkpoints.restore(experiment.state_shapes(), step)[0], f'best by validation mAP ({validation_map:.1%})'


def evaluate(experiment: Experiment, workdir: Folder, log: Log, output: Folder) -> Result:
    """Mode `eval`: scores what config.evaluation.checkpoint says, a checkpoint of the working directory or the
    untrained network.

    Results go to `output`; where that is another folder, the working directory is only read.
    """
    checkpoints = Checkpoints(workdir / 'checkpoints', experiment.config.checkpoint, read_only=True)
    if experiment.config.evaluation.checkpoint == UNTRAINED:
        experiment.check_weights(experiment.state_shapes())
        data = RunData(workdir, experiment.dataset, experiment.num_identities)
        check_frames(experiment.config, experiment.dataset, experiment.partition, data)
        log(f'The network as training would begin with it; {workdir} needs no checkpoint.')
        state, which = experiment.initial_state(log), UNTRAINED
        if jax.process_index() == 0:
            write_evaluated_config(output, experiment.config)  # what pvlad_jax.load needs
    elif checkpoints.latest_step() is None:
        raise UserError(
            f'{workdir} holds no checkpoint to evaluate. Train first, with --mode=train, or set '
            f'--config.evaluation.checkpoint={UNTRAINED} to score imported weights as they are.'
        )
    else:
        experiment, _ = begin(experiment, workdir, checkpoints, log, new=False, read_only=output != workdir)
        state, which = checkpoints.read_during_training(lambda: restore_chosen(experiment, checkpoints))
    step = int(state.step)
    began = time.monotonic()
    try:
        scored = Evaluator(experiment, log)(state.variables(), step).of(which)
    except UserError as error:
        raise EvaluationFailed(f'The evaluation of step {step} failed: {error}') from error
    log(
        f'Step {step}: embedded {len(scored.query) + len(scored.gallery)} tracklets in {time.monotonic() - began:.1f} '
        's.'
    )
    report(experiment, output, state.variables(), scored, log)
    checkpoints.close()
    return scored.result
