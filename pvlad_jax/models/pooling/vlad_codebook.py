"""The VLAD layer: residuals of part descriptors from cluster centres, summed over the whole video (NetVLAD,
Arandjelović 2016).

    û = u / |u|
    a_{p,k,n} = softmax_k(w_{p,k} · û_{p,n} + b_{p,k})
    V_{p,k}   = Σ_n m_n M_{p,n} a_{p,k,n} (û_{p,n} − c_{p,k})

u: part descriptors at the locations n of all clips, for each part p; k: codewords; c: cluster centres; w, b: of the
soft assignment; M: part masks; m: 1 at valid frames, else 0.

The mask weighs the residual: a scalar times a descriptor that is then normalised would cancel out. Everything here is
float32; `precision='highest'` because GPUs and TPUs otherwise multiply float32 with fewer bits, and w = 2αc magnifies
that.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pvlad_jax.core.errors import UserError
from pvlad_jax.models.pooling.interface import KMeans
from pvlad_jax.ops.l2_normalise import l2_normalise


def residual_sums(
    u: Float[Array, 'N L P D'],
    weight: Float[Array, 'N L P'],
    w: Float[Array, 'P K D'],
    b: Float[Array, 'P K'],
    c: Float[Array, 'P K D'],
) -> tuple[Float[Array, 'N P K D'], Float[Array, 'N L P K']]:
    """(V summed over the L locations of each clip, the soft assignment a).

    `weight` is m·M. The sum is factored, `Σ (m M a) û − (Σ m M a) c`, so that no `L·K·D` tensor arises; it adds over
    clips.
    """
    u = l2_normalise(u)
    assignment = jax.nn.softmax(jnp.einsum('nlpd,pkd->nlpk', u, w, precision='highest') + b, axis=-1)
    weighted = weight[..., None] * assignment
    sums = jnp.einsum('nlpk,nlpd->npkd', weighted, u, precision='highest')
    sums -= jnp.sum(weighted, axis=1)[..., None] * c
    return sums, assignment


def vlad_descriptor(sums: Float[Array, 'B P K D'], norm: str = 'codeword') -> Float[Array, 'B F']:
    """Residual sums as one unit vector. F = P·K·D.

    norm: what is brought to length 1 before the whole. 'codeword': the sum of each codeword (intra-normalisation,
      Arandjelović 2013), so that none outweighs others, and how much each met is lost; 'part': the sums of each part
      together, so that its codewords keep their shares (ours).
    """
    if norm == 'part':
        sums = sums.reshape(*sums.shape[:2], -1)
    return l2_normalise(l2_normalise(sums).reshape(sums.shape[0], -1))


class NetVlad(nn.Module):
    """The codebook of each part: parameters `centres` [P,K,D], `assignment_weight` [P,K,D] and `assignment_bias` [P,K],
    1 for P where it is shared. They are initialised together (`initial_codebook`), then learned each by itself, without
    weight decay.

    Before that, they are random unit centres with α = 10.
    """

    parts: int
    clusters: int
    descriptor_dim: int
    shared_codebook: bool = False

    @nn.compact
    def __call__(
        self, u: Float[Array, 'N L P D'], weight: Float[Array, 'N L P']
    ) -> tuple[Float[Array, 'N P K D'], Float[Array, 'N L P K']]:
        books = 1 if self.shared_codebook else self.parts
        shape = (books, self.clusters, self.descriptor_dim)
        centres = self.param('centres', lambda key: l2_normalise(jax.random.normal(key, shape)))
        w = self.param('assignment_weight', lambda key: 20 * centres)
        b = self.param('assignment_bias', lambda key: jnp.full(shape[:2], -10.0))
        w, b, centres = (jnp.broadcast_to(x, (self.parts, *x.shape[1:])) for x in (w, b, centres))
        return residual_sums(u, weight, w, b, centres)


def l2_normalise_rows(descriptors: Float[np.ndarray, '*n D']) -> Float[np.ndarray, '*n D']:
    """û = u / |u|, and 0 for 0."""
    norm = np.linalg.norm(descriptors, axis=-1, keepdims=True)
    return descriptors / np.where(norm > 0, norm, 1)


def assignment_from_centres(
    centres: Float[np.ndarray, 'K D'],
    descriptors: Float[np.ndarray, 'n D'],
    rule: str = 'netvlad',
    alpha: float = 1000.0,
    alpha_scale: float = 1.0,
) -> tuple[Float[np.ndarray, 'K D'], Float[np.ndarray, 'K'], float]:
    """(w, b, α) with w = 2αc and b = -α|c|², so that softmax(w · û + b) = softmax(-α |û - c|²).

    Args:
      centres: c, of one part.
      descriptors: û, unit vectors of that part.
      rule: 'netvlad': α = -ln 0.01 / mean(d2² - d1²), d1 and d2 a descriptor's distances to its nearest and second
        nearest centre: on (geometric) average the nearest centre gets 100 times the weight of the second. With one
        cluster there is no second, and softmax is 1 for any α: 1 is taken. 'fixed': `alpha` (ActionVLAD, Girdhar 2017:
        1000).
      alpha_scale: multiplies either.

    Raises:
      UserError: an unknown rule, α not above 0, or descriptors that are all as near to two centres.
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
        raise UserError(
            'config.vlad_init.rule = netvlad finds no α: every local descriptor is as near to a second cluster '
            'as to its first. Lower config.model.clusters, or set rule to fixed.'
        )
    return -np.log(0.01) / gap


def initial_codebook(
    descriptors: Float[np.ndarray, 'n P D'] | Sequence[Float[np.ndarray, 'n D']],
    clusters: int,
    seed: int,
    kmeans: KMeans,
    rule: str = 'netvlad',
    alpha: float = 1000.0,
    alpha_scale: float = 1.0,
    shared_codebook: bool = False,
    limit: int | None = None,
) -> dict[str, np.ndarray]:
    """Initial parameters of `NetVlad`: `centres` [P K D], `assignment_weight` [P K D], `assignment_bias`
    [P K].

    Args:
      descriptors: local descriptors u of each part (one array, or one a part), normalised here; zero vectors,
        which have no direction, are left out.
      clusters: K.
      seed: of k-means; part p uses a seed of its own.
      kmeans: (unit vectors, K, seed) -> centres.
      rule, alpha, alpha_scale: of `assignment_from_centres`, for each part by itself.
      shared_codebook: one codebook from the descriptors of all parts together, stored once: the results
        have 1 for P.
      limit: the most descriptors in one k-means (config.vlad_init.max_descriptors); matters for a shared
        codebook, which otherwise takes P times as many as a part.
    Raises UserError, naming the part, where `kmeans` or `assignment_from_centres` does.
    """
    parts = list(np.moveaxis(descriptors, 1, 0)) if isinstance(descriptors, np.ndarray) else list(descriptors)
    if shared_codebook:
        parts = [np.concatenate(parts)]
    if limit is not None:
        parts = [_subsample(part, limit, seed) for part in parts]

    def codebook_of(p: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        part = np.asarray(parts[p], np.float32)
        part = l2_normalise_rows(part[np.any(part != 0, axis=-1)])
        try:
            centres = kmeans(part, clusters, seed + 1000 * p)
            weight, bias, _ = assignment_from_centres(centres, part, rule, alpha, alpha_scale)
        except UserError as error:
            raise UserError(f'{"Shared codebook" if shared_codebook else f"Part {p}"}: {error}') from None
        return centres, weight, bias

    start = [codebook_of(p) for p in range(len(parts))]
    return {
        name: np.stack(values) for name, values in zip(('centres', 'assignment_weight', 'assignment_bias'), zip(*start))
    }


def _subsample(descriptors: Float[np.ndarray, 'n D'], limit: int, seed: int) -> Float[np.ndarray, 'm D']:
    if len(descriptors) <= limit:
        return descriptors
    # Drawn, not every n-th: a fixed step could meet the same location of every frame.
    chosen = np.random.default_rng([seed % 2**32, 0x71D]).choice(len(descriptors), limit, replace=False)
    return descriptors[np.sort(chosen)]
