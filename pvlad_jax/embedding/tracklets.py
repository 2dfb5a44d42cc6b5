"""Whole tables of tracklets -> embeddings, over all devices of all processes."""

import copy
import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Bool, Float

from pvlad_jax.config import Config
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.clip_sampling import kept_frames
from pvlad_jax.data.eval_batches import eval_batches
from pvlad_jax.data.joined_dataset import AnyDataset
from pvlad_jax.data.tracklet_dataset import TrackletTable
from pvlad_jax.embedding.streaming import embed_batch, initial_carry
from pvlad_jax.models.tracklet_network import TrackletNetwork
from pvlad_jax.ops import vector_options
from pvlad_jax.parallel.mesh import batch_sharding, check_divides, gather_to_host, local_mesh, replicated


def shares_of_processes(n_clips: np.ndarray, processes: int) -> list[np.ndarray]:
    """Rows for each process, so that the numbers of clips differ little: longest first, each to the process with the
    least so far.
    """
    load, shares = np.zeros(processes, np.int64), [[] for _ in range(processes)]
    for row in np.argsort(-n_clips, kind='stable'):
        least = int(np.argmin(load))
        shares[least].append(row)
        load[least] += n_clips[row]
    return [np.sort(np.array(share, np.int64)) for share in shares]


class EmbeddingStopped(Exception):
    """A process was asked to stop in the midst of embedding. All processes raise it."""


class TrackletEmbedder:
    """Embeds tables of tracklets with one compiled step.

    Each process embeds its share on its own devices; all get the whole result.

    Args:
      config: `evaluation` (frames, flip, clips_per_step), `clips` and `input.threads` are used.
      dataset: whose tracklets are embedded; `on` takes another one.
      devices: of this process; None = all.

    Attributes:
      stop: asked after every step; where it is true, embedding is given up.
    """

    def __init__(self, network: TrackletNetwork, config: Config, dataset: AnyDataset, devices=None):
        self.network, self.config, self.dataset = network, config, dataset
        self.mesh = local_mesh(devices)
        check_divides('config.evaluation.clips_per_step', config.evaluation.clips_per_step, self.mesh)
        self.stop: Callable[[], bool] = lambda: False  # asked after every step; true = give up
        batch, whole = batch_sharding(self.mesh), replicated(self.mesh)
        self._step = jax.jit(
            functools.partial(embed_batch, network, flip=config.evaluation.flip),
            in_shardings=(whole, whole, batch, batch, whole, whole, whole),
            out_shardings=(whole, whole),
            compiler_options=vector_options(self.mesh.devices.flat[0].platform),
        )

    def on(self, dataset: AnyDataset) -> 'TrackletEmbedder':
        """The same compiled step for the tracklets of another data set."""
        other = copy.copy(self)
        other.dataset = dataset
        return other

    def __call__(
        self, variables: dict, table: TrackletTable, progress: Callable[[int], None] = lambda done: None
    ) -> Float[np.ndarray, 'N E']:
        """Unit embeddings of the table's tracklets, in its order, float32.

        Args:
          variables: the network's parameters and BatchNorm statistics; they may be sharded.
          progress: called with the number of tracklets that this process has done.

        Raises:
          UserError: a tracklet cannot be decoded; in all processes alike.
          EmbeddingStopped: `stop` was true after a step.
        """
        return self._embed(variables, table, progress, None)[0]

    def decodable(
        self, variables: dict, table: TrackletTable
    ) -> tuple[Float[np.ndarray, 'M E'], Bool[np.ndarray, 'N']]:
        """(embeddings of the tracklets that can be decoded, mask of these among the table's rows):
        config.input.on_error = 'skip'.
        """
        embedding, skipped = self._embed(variables, table, lambda done: None, set())
        return embedding[~skipped], ~skipped

    def _embed(
        self, variables: dict, table: TrackletTable, progress: Callable[[int], None], skipped: set[int] | None
    ) -> tuple[Float[np.ndarray, 'N E'], Bool[np.ndarray, 'N']]:
        """(embeddings, mask of the rows that are not to be used); `skipped` collects those of this process's share,
        None = an error.
        """
        config, clips = self.config, self.config.clips
        n_clips = np.array(
            [-(-len(kept_frames(int(n), config.evaluation.frames)) // clips.frames) for n in table.n_frames], np.int64
        )
        shares = shares_of_processes(n_clips, jax.process_count())
        mine = shares[jax.process_index()]
        variables = jax.device_put(gather_to_host(variables), replicated(self.mesh))
        shape = (config.evaluation.clips_per_step, clips.frames, clips.height, clips.width, 3)
        like = (
            jax.ShapeDtypeStruct(*about, sharding=batch_sharding(self.mesh))
            for about in ((shape, 'uint8'), (shape[:2], 'bool'))
        )
        empty = jax.device_put(
            initial_carry(self.network, variables, *like, config.evaluation.flip), replicated(self.mesh)
        )
        carry, pending, result = empty, None, np.zeros((len(mine), self.network.embedding), np.float32)
        done, failure = 0, None
        steps = eval_batches(
            self.dataset,
            table.select(mine),
            config.evaluation.clips_per_step,
            (clips.frames, clips.height, clips.width),
            config.evaluation.frames,
            config.input.threads,
            skipped,
        )
        while True:
            try:
                step = next(steps)
            except StopIteration:
                break
            except UserError as error:  # reported once all processes know of it: they wait for each other below
                failure = error
                break
            clips_here, valid_here = (jax.device_put(x, batch_sharding(self.mesh)) for x in (step.clips, step.valid))
            videos = step.segment, np.int32(len(step.videos) - 1), np.bool_(step.unfinished)
            embedding, carry = self._step(variables, carry, clips_here, valid_here, *videos)
            if pending is not None:  # results of the step before are fetched while this one computes
                _keep(result, *pending)
            pending = (embedding, step)
            done += len(step.videos) - step.unfinished
            progress(done)
            if self.stop():
                break
        if pending is not None:
            _keep(result, *pending)
        unusable = np.isin(np.arange(len(mine)), list(skipped or ()))
        return _gather(result, unusable, shares, len(table), self.stop(), failure)


def _keep(result: np.ndarray, embedding: jax.Array, step) -> None:
    finished = len(step.videos) - step.unfinished
    result[step.videos[:finished]] = np.asarray(embedding)[:finished]


_FAILURE_BYTES = 1024  # of a message, as processes exchange it


def _gather(
    mine: np.ndarray, skipped: np.ndarray, shares: list[np.ndarray], rows: int, stopped: bool, failure: UserError | None
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and mask of the whole table.

    EmbeddingStopped where any process has stopped, UserError where one has failed.
    """
    if len(shares) == 1:
        if failure is not None:
            raise failure
        if stopped:
            raise EmbeddingStopped
        return mine, skipped
    longest = max(map(len, shares))
    padded, mask = np.zeros((longest, mine.shape[1]), np.float32), np.zeros(longest, bool)
    text = np.zeros(_FAILURE_BYTES, np.uint8)
    padded[: len(mine)], mask[: len(mine)] = mine, skipped
    message = str(failure or '').encode()[:_FAILURE_BYTES]
    text[: len(message)] = list(message)
    everyone, masks, any_stopped, texts = multihost_utils.process_allgather((padded, mask, np.array(stopped), text))
    messages = [bytes(t).rstrip(b'\0').decode(errors='ignore') for t in np.asarray(texts)]
    if any(messages):
        raise UserError(next(filter(None, messages))) from failure
    if any_stopped.any():
        raise EmbeddingStopped
    result, unusable = np.zeros((rows, mine.shape[1]), np.float32), np.zeros(rows, bool)
    for share, part, part_mask in zip(shares, everyone, masks):
        result[share], unusable[share] = part[: len(share)], part_mask[: len(share)]
    return result, unusable
