"""The start of the VLAD words: k-means over part descriptors of training clips, as the network at its start gives them."""

import jax
import numpy as np
from jax.experimental import multihost_utils

from pvlad_jax.config import Config
from pvlad_jax.data.records import TrackletDataset, TrackletTable
from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.models.tracklet_network import TrackletNetwork
from pvlad_jax.models.vlad_init import DescriptorSample, initialise_words


def sample_descriptors(config: Config, network: TrackletNetwork, variables: dict, batches: TrainBatches) -> np.ndarray:
    """Part descriptors u of valid places [n, P, D], float32, n at most config.vlad_init.descriptors.

    A uniform sample of the valid places of config.vlad_init.batches training batches; `batches` gives whole batches, so that every
    process draws the same.
    """
    describe = jax.jit(lambda v, clips, valid: _descriptors(network, v, clips, valid))
    sample = DescriptorSample(config.vlad_init.descriptors, config.seed)
    for step in range(config.vlad_init.batches):
        batch = batches[step]
        sample.add(*jax.device_get(describe(variables, batch['clips'], batch['valid'])))
    return sample.descriptors()


def _descriptors(network, variables, clips, valid):
    output = network.apply(variables, clips, valid)
    u = output.part_descriptors  # [B S t h w P D]
    places = np.prod(u.shape[:5])
    return u.reshape(places, *u.shape[5:]), jax.numpy.broadcast_to(output.valid[..., None, None], u.shape[:5]).reshape(places)


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
