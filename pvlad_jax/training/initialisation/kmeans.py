"""The start of the VLAD words: k-means over descriptors of training frames (method.md §3; NetVLAD,
Arandjelović 2016).

Host code (NumPy, OpenCV). It depends on the descriptors and the seed alone, not on the number of
threads.
"""

import os
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float

from pvlad_jax.core.errors import UserError

RESTARTS = 3  # k-means++ may begin with two centres in one cluster; the best of three seldom ends so
ITERATIONS = 100
# Distance on the unit sphere: k-means ends when no centre moves farther. Sums of squared distances of the demo's eight parts together:
# 16,274 with 0.03, 16,224 with this, 16,213 with 0.003 and twice the time at 100,000 descriptors; 16,232 by scikit-learn as it comes.
STILL = 1e-2


class DescriptorSample:
    """At most `size` places drawn uniformly, without replacement, from a stream of local descriptors.

    Every valid place gets a random key from (seed, its number in the stream), and the places with the
    smallest keys are kept. So the sample does not depend on how the stream is cut into batches, and memory is
    bounded by size + one batch.

    Args:
      size: config.vlad_init.descriptors.
      seed: of the draw.
    """

    def __init__(self, size: int, seed: int):
        if size < 1:
            raise UserError(f'config.vlad_init.descriptors = {size} must be at least 1.')
        self._size = size
        self._rng = np.random.default_rng([seed % 2**32, 0x5A3])
        self._keys = np.zeros(0)
        self._kept = None
        self.seen = 0  # valid places so far

    def add(
        self, descriptors: Float[np.ndarray, 'n P D'], valid: Bool[np.ndarray, 'n'] | None = None,
    ) -> None:
        """Offers n places, with the descriptors of all P parts at each; those not valid (padding) are passed
        over.

        Raises UserError if a sample of `size` such places would take more than half of this machine's memory.
        """
        descriptors = np.asarray(descriptors, np.float32)
        if valid is not None:
            descriptors = descriptors[np.asarray(valid, bool)]
        if self._kept is None:
            self._kept = np.zeros((0, *descriptors.shape[1:]), np.float32)
            self._check_memory(int(np.prod(descriptors.shape[1:])) * 4)
        self.seen += len(descriptors)
        keys = self._rng.random(len(descriptors))
        if len(self._keys) == self._size:  # most of a long stream ends here, without being copied
            small = keys < self._keys.max()
            keys, descriptors = keys[small], descriptors[small]
        keys = np.concatenate([self._keys, keys])
        kept = np.concatenate([self._kept, descriptors])
        if len(keys) > self._size:
            chosen = np.sort(np.argpartition(keys, self._size - 1)[:self._size])  # in the order of the stream
            keys, kept = keys[chosen], kept[chosen]
        self._keys, self._kept = keys, kept

    def _check_memory(self, place_bytes: int) -> None:
        memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
        needed = 2 * self._size * place_bytes  # the old sample and the new one while it is being made
        if needed > memory / 2:
            raise UserError(f'config.vlad_init.descriptors = {self._size} places of {place_bytes} bytes take '
                            f'{needed / 2**30:.1f} GiB, more than half of this machine\'s '
                            f'{memory / 2**30:.1f} GiB. Set it to {int(memory / 4 / place_bytes)} or less.')

    def descriptors(self) -> Float[np.ndarray, 'n P D']:
        """The sample, in the order of the stream. Raises UserError if nothing was offered."""
        if self._kept is None or not len(self._kept):
            raise UserError('The VLAD words cannot start: the training set gave no valid local descriptor.')
        return self._kept


def unit(descriptors: Float[np.ndarray, '*n D']) -> Float[np.ndarray, '*n D']:
    """û = u / |u|, and 0 for 0."""
    norm = np.linalg.norm(descriptors, axis=-1, keepdims=True)
    return descriptors / np.where(norm > 0, norm, 1)


def kmeans_words(descriptors: Float[np.ndarray, 'n D'], words: int, seed: int) -> Float[np.ndarray, 'K D']:
    """The K = `words` centres of k-means (k-means++ start, best of three) over unit vectors, ordered by size,
    largest first.

    Centres are means of unit vectors and as such a little shorter than 1. Raises UserError if a descriptor is
    not finite or if there are fewer distinct descriptors than words.
    """
    descriptors = np.ascontiguousarray(descriptors, np.float32) + 0.0  # -0 and 0 are one value
    if not np.isfinite(descriptors).all():
        raise UserError('The VLAD words cannot start: some local descriptors of the training set are NaN or '
                        'infinite. Look at the backbone\'s weights (config.model.backbone.weights).')
    distinct = set()
    for row in descriptors:
        distinct.add(row.tobytes())
        if len(distinct) >= words:
            break
    if len(distinct) < words:
        raise UserError(f'config.model.words = {words} VLAD words need as many distinct local descriptors, but '
                        f'only {len(distinct)} were found among {len(descriptors)}. Lower config.model.words, or '
                        'raise config.vlad_init.descriptors or the number of training clips.')
    # OpenCV's rather than scikit-learn's, which takes 0.7 s to import. Its threads share out distances and add nothing up, so
    # their number changes nothing.
    cv2.setRNGSeed(seed % 2**31)
    until = cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, ITERATIONS, STILL
    _, labels, centres = cv2.kmeans(descriptors, words, None, until, RESTARTS, cv2.KMEANS_PP_CENTERS)
    return centres[np.argsort(-np.bincount(labels[:, 0], minlength=words), kind='stable')]


def assignment_from_centres(
    centres: Float[np.ndarray, 'K D'], descriptors: Float[np.ndarray, 'n D'],
    rule: str = 'netvlad', alpha: float = 1000.0, alpha_scale: float = 1.0,
) -> tuple[Float[np.ndarray, 'K D'], Float[np.ndarray, 'K'], float]:
    """(w, b, α) with w = 2αc and b = -α|c|², so that softmax(w · û + b) = softmax(-α |û - c|²).

    rule: 'netvlad': α = -ln 0.01 / mean(d2² - d1²), d1 and d2 a descriptor's distances to its nearest and
      second nearest centre: on (geometric) average the nearest word gets 100 times the weight of the second.
      With one word there is no second, and softmax is 1 for any α: 1 is taken. 'fixed': `alpha` (ActionVLAD,
      Girdhar 2017: 1000).
    alpha_scale: multiplies either.
    Raises UserError for an unknown rule, α not above 0, or descriptors that are all as near to two centres.
    """
    if rule == 'netvlad':
        alpha = _netvlad_alpha(np.asarray(centres, np.float64), np.asarray(descriptors, np.float64))
    elif rule != 'fixed':
        raise UserError(f'Unknown config.vlad_init.rule = {rule!r}: netvlad, fixed.')
    alpha = float(alpha * alpha_scale)
    if not (np.isfinite(alpha) and alpha > 0):
        raise UserError(f'config.vlad_init: α = {alpha} must be above 0; see alpha and alpha_scale.')
    wide = np.asarray(centres, np.float64)
    weight, bias = 2 * alpha * wide, -alpha * np.sum(wide**2, axis=-1)
    return weight.astype(np.float32), bias.astype(np.float32), alpha


def _netvlad_alpha(centres: Float[np.ndarray, 'K D'], descriptors: Float[np.ndarray, 'n D']) -> float:
    if len(centres) < 2:
        return 1.0
    # |û - c|² without |û|², which cancels in the difference.
    squared = np.sum(centres**2, axis=1) - 2 * descriptors @ centres.T
    nearest = np.partition(squared, 1, axis=1)
    gap = np.mean(nearest[:, 1] - nearest[:, 0])
    if not gap > 0:
        raise UserError('config.vlad_init.rule = netvlad finds no α: every local descriptor is as near to a second word '
                        'as to its first. Lower config.model.words, or set rule to fixed.')
    return -np.log(0.01) / gap


def initialise_words(
    descriptors: Float[np.ndarray, 'n P D'] | Sequence[Float[np.ndarray, 'n D']], words: int, seed: int,
    rule: str = 'netvlad', alpha: float = 1000.0, alpha_scale: float = 1.0,
    shared_codebook: bool = False, limit: int | None = None,
) -> dict[str, np.ndarray]:
    """The start of VladWords' parameters: `centres` [P K D], `assignment_weight` [P K D], `assignment_bias`
    [P K].

    Args:
      descriptors: local descriptors u of each part (one array, or one a part), normalised here; zero vectors,
        which have no direction, are left out.
      words: K.
      seed: of k-means; part p uses a seed of its own.
      rule, alpha, alpha_scale: of `assignment_from_centres`, for each part by itself.
      shared_codebook: one set of words from the descriptors of all parts together, stored once: the results
        have 1 for P.
      limit: at most so many descriptors go into one k-means (config.vlad_init.descriptors); matters for a shared
        codebook, which otherwise takes P times as many as a part.
    Raises UserError, naming the part, where `kmeans_words` or `assignment_from_centres` does.
    """
    parts = list(np.moveaxis(descriptors, 1, 0)) if isinstance(descriptors, np.ndarray) else list(descriptors)
    if shared_codebook:
        parts = [np.concatenate(parts)]
    if limit is not None:
        parts = [_thin(part, limit, seed) for part in parts]

    def words_of(p: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        part = np.asarray(parts[p], np.float32)
        part = unit(part[np.any(part != 0, axis=-1)])
        try:
            centres = kmeans_words(part, words, seed + 1000 * p)
            weight, bias, _ = assignment_from_centres(centres, part, rule, alpha, alpha_scale)
        except UserError as error:
            raise UserError(f'{"Shared codebook" if shared_codebook else f"Part {p}"}: {error}') from None
        return centres, weight, bias

    start = [words_of(p) for p in range(len(parts))]
    return {name: np.stack(values) for name, values in zip(('centres', 'assignment_weight', 'assignment_bias'), zip(*start))}


def _thin(descriptors: Float[np.ndarray, 'n D'], limit: int, seed: int) -> Float[np.ndarray, 'm D']:
    if len(descriptors) <= limit:
        return descriptors
    # Drawn, not every n-th: a fixed step could meet the same place of every frame.
    chosen = np.random.default_rng([seed % 2**32, 0x71D]).choice(len(descriptors), limit, replace=False)
    return descriptors[np.sort(chosen)]
