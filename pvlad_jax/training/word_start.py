"""The start of the VLAD words: k-means over part descriptors of training clips, as the network at its start gives them."""

import jax
import numpy as np
from jax.experimental import multihost_utils

from pvlad_jax.config import Config
from pvlad_jax.data.train_batches import TrainBatches
from pvlad_jax.models.person_vlad import l2_normalise
from pvlad_jax.models.tracklet_network import TrackletNetwork
from pvlad_jax.models.vlad_init import initialise_words


def sample_descriptors(config: Config, network: TrackletNetwork, variables: dict, batches: TrainBatches) -> np.ndarray:
    """Unit descriptors of valid places [n, P, D], float32, n at most config.vlad_init.descriptors.

    An equal share of each of config.vlad_init.batches training batches, drawn by the seed; `batches` gives whole batches, so that every
    process draws the same.
    """
    describe = jax.jit(lambda v, clips, valid: _descriptors(network, v, clips, valid))
    share = -(-config.vlad_init.descriptors // config.vlad_init.batches)
    kept = []
    for step in range(config.vlad_init.batches):
        batch = batches[step]
        u, valid = jax.device_get(describe(variables, batch['clips'], batch['valid']))
        u = u[valid]
        kept.append(u[np.sort(np.random.default_rng([config.seed, 4, step]).permutation(len(u))[:share])])
    return np.concatenate(kept)[:config.vlad_init.descriptors]


def _descriptors(network, variables, clips, valid):
    output = network.apply(variables, clips, valid)
    u = l2_normalise(output.part_descriptors)  # [B S t h w P D]
    places = np.prod(u.shape[:5])
    return u.reshape(places, *u.shape[5:]), jax.numpy.broadcast_to(output.valid[..., None, None], u.shape[:5]).reshape(places)


def words_from_data(config: Config, network: TrackletNetwork, variables: dict, dataset, train) -> dict[str, np.ndarray]:
    """`assignment_weight`, `assignment_bias` and `centres` of the network's words, the same on every process.

    `variables` are whole host arrays (parallel.mesh.whole_on_host).
    """
    batches = TrainBatches(dataset, train, config, augment=False)
    descriptors = sample_descriptors(config, network, variables, batches)
    init = config.vlad_init
    words = initialise_words(descriptors, config.model.words, config.seed, init.rule, init.alpha, init.alpha_scale,
                             config.model.shared_codebook, init.descriptors)
    return multihost_utils.broadcast_one_to_all(words) if jax.process_count() > 1 else words
