"""A network state scored on a data set: its query and gallery tracklets are embedded, and ranked by the protocol."""

import dataclasses
from collections.abc import Callable

from pvlad_jax.core.errors import UserError
from pvlad_jax.data.tracklet_dataset import TrackletTable
from pvlad_jax.embedding.tracklets import TrackletEmbedder
from pvlad_jax.evaluation import Embeddings, score
from pvlad_jax.evaluation.metric_learning import LEARNED
from pvlad_jax.parallel.mesh import gather_to_host
from pvlad_jax.runs.experiment import NetworkOnData
from pvlad_jax.runs.outputs import Log, Scored
from pvlad_jax.runs.trained_model import checked

_MAX_NAMED = 10  # tracklets in one line


class EvaluationFailed(UserError):
    """A saved state could not be scored. All processes of a run raise it alike."""


class Evaluator:
    """Scores any state of an experiment; the embedding step is compiled once for all of them."""

    def __init__(self, experiment: NetworkOnData, log: Log = lambda text: None, embed: TrackletEmbedder | None = None):
        """`embed`: of the same network and configuration, whose compiled step is used."""
        self.experiment, self.log = experiment, log
        if embed is None:
            embed = TrackletEmbedder(experiment.network, experiment.config, experiment.dataset)
        self.embed = embed.on(experiment.dataset)

    def stop_when(self, asked: Callable[[], bool]) -> None:
        """An evaluation is given up soon after this is true: EmbeddingStopped."""
        self.embed.stop = asked

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

    def _fingerprint(self, variables: dict) -> str:
        """Of the network with these weights. All processes must take part in gathering them."""
        config = self.experiment.config
        return checked(config, gather_to_host(variables), '', 'this run').fingerprint(config.evaluation.flip)

    def __call__(self, variables: dict, step: int, role: str = 'test') -> Scored:
        """Of the test people, or with role='validation' of the training people held out."""
        config, roles = self.experiment.config, self.experiment.partition
        tables = (roles.query, roles.gallery) if role == 'test' else (roles.validation_query, roles.validation_gallery)
        query, gallery = (self.labelled(variables, table) for table in tables)
        train = self.labelled(variables, roles.train) if config.evaluation.distance in LEARNED else None
        fingerprint = self._fingerprint(variables)
        query, gallery, train = (
            None if table is None else dataclasses.replace(table, fingerprint=fingerprint)
            for table in (query, gallery, train)
        )
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
