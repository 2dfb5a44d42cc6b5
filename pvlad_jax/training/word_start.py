"""The start of the VLAD words: k-means over part descriptors of training clips, as the network at its start gives them."""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Bool, UInt8

from pvlad_jax.config import Config
from pvlad_jax.data.records import TrackletDataset, TrackletTable
from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.models.tracklet_network import TrackletNetwork, clip_statistics
from pvlad_jax.models.vlad_init import DescriptorSample, initialise_words
from pvlad_jax.parallel.mesh import batch_sharding, local_mesh, replicated


def sample_descriptors(config: Config, network: TrackletNetwork, variables: dict, batches: TrainBatches) -> np.ndarray:
    """Part descriptors u of valid places [n, P, D], float32, n at most config.vlad_init.descriptors.

    A uniform sample of the valid places of config.vlad_init.batches training batches; `batches` gives whole batches, so that every
    process draws the same. On one device: another number of them would round otherwise.
    """
    mesh = local_mesh(jax.local_devices()[:1])
    variables = jax.device_put(variables, replicated(mesh))
    describe = jax.jit(functools.partial(_descriptors, network))
    # As in an evaluation, for which the network is then traced no more; but never more than a batch has, since this device is alone.
    n = min(config.evaluation.clips_per_step, config.batch.size * config.clips.segments)
    sample, pending = DescriptorSample(config.vlad_init.descriptors, config.seed), None
    for step in range(config.vlad_init.batches):
        batch = batches[step]
        for clips, valid in _in_steps(batch['clips'], batch['valid'], n):
            described = describe(variables, *jax.device_put((clips, valid), batch_sharding(mesh)))
            if pending is not None:  # fetched while the next ones are computed
                sample.add(*jax.device_get(pending))
            pending = described
    if pending is not None:
        sample.add(*jax.device_get(pending))
    return sample.descriptors()


def _in_steps(clips: UInt8[np.ndarray, 'B S T H W 3'], valid: Bool[np.ndarray, 'B S T'], n: int) -> Iterator[tuple[
        UInt8[np.ndarray, 'N T H W 3'], Bool[np.ndarray, 'N T']]]:
    """N clips at a time; the last are filled up with padding."""
    clips, valid = (x.reshape(-1, *x.shape[2:]) for x in (clips, valid))
    for start in range(0, len(clips), n):
        some = clips[start:start + n], valid[start:start + n]
        yield tuple(np.concatenate([x, np.zeros((n - len(x), *x.shape[1:]), x.dtype)]) if len(x) < n else x for x in some)


def _descriptors(network, variables, clips, valid):
    _, looks, times = clip_statistics(network, variables, clips, valid)
    u = looks.part_descriptors  # [N t h w P D]
    places = np.prod(u.shape[:4])
    return u.reshape(places, *u.shape[4:]), jnp.broadcast_to(times[..., None, None], u.shape[:4]).reshape(places)


def words_from_data(config: Config, network: TrackletNetwork, variables: dict, dataset: TrackletDataset, train: TrackletTable) -> tuple[
        dict[str, np.ndarray], np.ndarray]:
    """(`assignment_weight`, `assignment_bias` and `centres` of the words; what to add to the descriptors' bias [P·D]), the same on every
    process.

    With config.vlad_init.centred the descriptors are moved to mean 0 before k-means. Features behind a ReLU point into one corner of the
    space: left there, all û nearly agree, the words crowd together, α comes out in the hundreds, and the first updates of a backbone that
    learns carry every û out of reach of all words but one.

    `variables` are whole host arrays (parallel.mesh.whole_on_host).
    """
    batches = TrainBatches(dataset, train, config, augment=False)
    descriptors = sample_descriptors(config, network, variables, batches)
    shift = -descriptors.mean(0) if config.vlad_init.centred else np.zeros(descriptors.shape[1:], np.float32)
    init = config.vlad_init
    words = initialise_words(descriptors + shift, config.model.words, config.seed, init.rule, init.alpha, init.alpha_scale,
                             config.model.shared_codebook, init.descriptors)
    start = words, shift.reshape(-1)
    return multihost_utils.broadcast_one_to_all(start) if jax.process_count() > 1 else start
