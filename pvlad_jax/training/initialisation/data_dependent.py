"""Data-dependent initialisation: from part descriptors of training clips, as the network gives them in its first
training step.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Bool, UInt8

from pvlad_jax.config import Config
from pvlad_jax.data.joined_dataset import AnyDataset
from pvlad_jax.data.tracklet_dataset import TrackletTable
from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.models.tracklet_network import TrackletNetwork, clip_statistics
from pvlad_jax.parallel.mesh import batch_sharding, local_mesh, replicated
from pvlad_jax.training.initialisation.descriptor_sample import DescriptorSample
from pvlad_jax.training.initialisation.kmeans import cluster_centres
from pvlad_jax.training.train_step import rows_of_part


def sample_descriptors(
    config: Config, network: TrackletNetwork, variables: dict, batches: TrainBatches, devices: int = 1
) -> np.ndarray:
    """Part descriptors u of valid locations [n, P, D], float32, n at most config.vlad_init.max_descriptors.

    A uniform sample of the valid locations of config.vlad_init.batches training batches, computed in the mode in which
    the network trains: with the statistics of the clips that a training step normalises together, or with the imported
    ones where BatchNorm is frozen. `batches` gives whole batches, so that every process draws the same.

    Args:
      devices: of the mesh that will train, each of which normalises its share alone with
        config.model.backbone.batch_norm='local'.
    """
    frozen = config.model.backbone.batch_norm == 'frozen'
    groups = _in_steps if frozen else _normalised_together
    # A frozen network is that of an evaluation, for which it is then traced no more; but never more clips than a batch
    # has.
    n = (
        min(config.evaluation.clips_per_step, config.batch.size * config.clips.segments)
        if frozen
        else _clips_together(config, devices)
    )
    mesh = _sampling_mesh(n)
    variables = jax.device_put(variables, replicated(mesh))
    describe = jax.jit(functools.partial(_descriptors, network, not frozen))
    sample, pending = DescriptorSample(config.vlad_init.max_descriptors, config.seed), None
    for step in range(config.vlad_init.batches):
        batch = batches[step]
        for clips, valid in groups(batch['clips'], batch['valid'], n, config):
            described = describe(variables, *jax.device_put((clips, valid), batch_sharding(mesh)))
            if pending is not None:  # fetched while the next ones are computed
                sample.add(*jax.device_get(pending))
            pending = described
    if pending is not None:
        sample.add(*jax.device_get(pending))
    return sample.descriptors()


def _sampling_mesh(clips: int) -> Mesh:
    """One CPU device, since its neighbours share its memory and another number of them would round otherwise.
    Accelerators share a group of clips among as many of this process's devices as divide it: one of them need not hold
    a batch that all will share.
    """
    devices = jax.local_devices()
    return local_mesh(devices[: 1 if devices[0].platform == 'cpu' else math.gcd(len(devices), clips)])


def _clips_together(config: Config, devices: int) -> int:
    """How many clips a training step normalises with common statistics."""
    parts = config.optimizer.accumulate * (devices if config.model.backbone.batch_norm == 'local' else 1)
    return config.batch.size // parts * config.clips.segments


Groups = Iterator[tuple[UInt8[np.ndarray, 'N T H W 3'], Bool[np.ndarray, 'N T']]]


def _normalised_together(
    clips: UInt8[np.ndarray, 'B S T H W 3'], valid: Bool[np.ndarray, 'B S T'], n: int, config: Config
) -> Groups:
    """The groups of N clips that a training step normalises together: parts of an accumulated gradient, shares of
    devices.
    """
    for part in range(config.optimizer.accumulate):
        taken = (
            x[rows_of_part(len(x), part, config.optimizer.accumulate, config.batch.tracklets)] for x in (clips, valid)
        )
        some = [x.reshape(-1, *x.shape[2:]) for x in taken]
        for start in range(0, len(some[0]), n):
            yield tuple(x[start : start + n] for x in some)


def _in_steps(
    clips: UInt8[np.ndarray, 'B S T H W 3'], valid: Bool[np.ndarray, 'B S T'], n: int, _config: Config
) -> Groups:
    """N clips at a time; the last are filled up with padding."""
    clips, valid = (x.reshape(-1, *x.shape[2:]) for x in (clips, valid))
    for start in range(0, len(clips), n):
        some = clips[start : start + n], valid[start : start + n]
        yield tuple(
            np.concatenate([x, np.zeros((n - len(x), *x.shape[1:]), x.dtype)]) if len(x) < n else x for x in some
        )


def _descriptors(network, train, variables, clips, valid):
    if train:
        (_, intermediates, times), _ = network.apply(
            variables, clips, valid, train=True, method='statistics', mutable=['batch_stats']
        )
    else:
        _, intermediates, times = clip_statistics(network, variables, clips, valid)
    u = intermediates.part_descriptors  # [N t h w P D]
    locations = np.prod(u.shape[:4])
    return u.reshape(locations, *u.shape[4:]), jnp.broadcast_to(times[..., None, None], u.shape[:4]).reshape(locations)


def data_dependent_params(
    config: Config,
    network: TrackletNetwork,
    variables: dict,
    dataset: AnyDataset,
    train: TrackletTable,
    devices: int = 1,
) -> dict[str, Any]:
    """The parameters that the pooling begins with (`Pooling.initial_params`), the same on every process.

    `variables` are whole host arrays (parallel.mesh.gather_to_host); `devices` as in `sample_descriptors`.
    """
    batches = TrainBatches(dataset, train, config, augment=False)
    descriptors = sample_descriptors(config, network, variables, batches, devices)
    random = variables['params']['aggregator']
    params = network.aggregator.initial_params(random, descriptors, config.vlad_init, config.seed, cluster_centres)
    return multihost_utils.broadcast_one_to_all(params) if jax.process_count() > 1 else params
