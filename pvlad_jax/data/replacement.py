"""Which tracklet takes the place of one that cannot be decoded, in a training batch (config.input.on_error = 'skip').

The answer depends on (seed, step, place in the batch) and on the data alone, not on what was met before. So a resumed
run, any number of threads and any number of processes make the same batch.
"""

from collections.abc import Callable, Iterator

import numpy as np

from pvlad_jax.core.errors import UserError
from pvlad_jax.data.pk_sampler import PKSampler


class Replacements:
    """Rows of the training table that may take the place of one that cannot be decoded.

    Args:
      identities: the batches that are drawn, and whose rows these are.
      seed: config.seed.
      intact: whether all frames of a row's tracklet can be decoded; asked only where a tracklet has to be replaced.
    """

    def __init__(self, identities: PKSampler, seed: int, intact: Callable[[int], bool]):
        self._identities, self._seed, self._intact = identities, seed, intact

    def rows(self, step: int, place: int) -> Iterator[int]:
        """Intact tracklets for this place, the most suitable first.

        First the same identity's, those that the batch does not hold before those that it does; then those of another
        identity, the same one for all places of an identity that has no intact tracklet, and if possible one that the
        batch does not hold. Places of one identity begin at different tracklets.

        UserError at the end, where no tracklet of the training set is intact.
        """
        ids, batch = self._identities, self._identities.rows(step)
        own, turn = int(ids.labels[batch[place]]), place % ids.tracklets
        same = np.random.default_rng([self._seed, 4, step, own]).permutation(ids.rows_of_label(own))
        in_batch = np.isin(same, batch)
        for group in (same[~in_batch], same[in_batch & (same != batch[place])]):
            yield from filter(self._intact, np.roll(group, -turn).tolist())
        others = np.random.default_rng([self._seed, 5, step, own]).permutation(len(ids.person_ids))
        others = others[others != own]
        met = np.isin(others, ids.labels[batch])
        for label in (*others[~met].tolist(), *others[met].tolist()):
            drawn = ids.of_label(step, label)
            rest = np.setdiff1d(ids.rows_of_label(label), drawn)
            yield from filter(self._intact, dict.fromkeys((*np.roll(drawn, -turn).tolist(), *rest.tolist())))
        raise UserError(
            'config.input.on_error = skip: no tracklet of the training set can be decoded. Convert the data set again '
            'from intact frames.'
        )
