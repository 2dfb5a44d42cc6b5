"""Metrics learned from a training set's embeddings, as their authors' code computes them: XQDA and KISSME.

XQDA: Liao et al., *Person Re-identification by Local Maximal Occurrence Representation and Metric Learning*, CVPR 2015.
KISSME: Köstinger et al., *Large Scale Metric Learning from Equivalence Constraints*, CVPR 2012. Both compare Σ_I, the
mean outer product of the differences x - y over pairs of one person, with Σ_E, that over pairs of two people, and use
Σ_I⁻¹ - Σ_E⁻¹ in a subspace.

Pairs are cross-view: two tracklets of different cameras. The authors define them for two views, gallery and probe; here
every pair of cameras counts, each pair of tracklets once. With two cameras that is their definition. (The public MARS
evaluation code draws two random halves of each person's tracklets instead, so its result changes from run to run.) An
unknown camera counts as a camera of its own.

Neither metric is independent of the embeddings' scale: both codes add or clip by fixed numbers, meant for features of
about unit length.

`xqda_shrunk` is ours: the paper's generalised eigenvectors, with both covariances shrunk as far as the number of
tracklets asks for. It is independent of scale and better with few training tracklets (docs/notes/learned_distances.md),
but not what the literature calls XQDA.
"""

import dataclasses

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.labels import UNKNOWN_CAMERA
from pvlad_jax.evaluation.embeddings import Embeddings

XQDA_RIDGE = 0.001  # `lambda` of XQDA.m
KISSME_COMPONENTS = 200  # PCA before KISSME in the public MARS evaluation code (Zheng et al., ECCV 2016)
MIN_SHRINKAGE = 1e-3
KISSME_ZERO, KISSME_MIN = 1e-10, 1e-6  # of validateCovMatrix.m: eigenvalues up to the first become the second


@dataclasses.dataclass(frozen=True)
class LearnedMetric:
    """d(x, y) = (x - y)ᵀ A diag(signs) Aᵀ (x - y).

    A distance may be negative where a sign is: XQDA's form need not be definite.
    """

    projection: Float[np.ndarray, 'E R']  # A
    signs: Float[np.ndarray, 'R']  # 1 or -1

    @property
    def matrix(self) -> Float[np.ndarray, 'E E']:
        """A diag(signs) Aᵀ."""
        return (self.projection * self.signs) @ self.projection.T

    @property
    def definite(self) -> bool:
        """Whether no distance can be negative."""
        return bool((self.signs > 0).all())


def xqda(train: Embeddings) -> LearnedMetric:
    """Cross-view quadratic discriminant analysis, equal to the authors' XQDA.m.

    W = the left singular vectors of (Σ_I + 0.001 1)⁻¹ Σ_E with singular values above 1, at least one of them; the
    metric is (Wᵀ Σ_I W)⁻¹ - (Wᵀ Σ_E W)⁻¹ on Wᵀ x. (The paper derives generalised eigenvectors of the two; its code, by
    which the literature's numbers were made, takes singular vectors.)

    UserError for a training set without cross-view pairs, or one that makes a covariance singular.
    """
    x, person, camera = _people_only(train, 'XQDA')
    basis = None
    # All differences lie in the span of the rows, and outside it Σ_I⁻¹ Σ_E is 0: the same W at less cost.
    if x.shape[1] > len(x):
        basis, x = np.linalg.qr((x - x.mean(axis=0)).T)
        x = x.T
    within, between = _difference_covariances(x, person, camera)
    within = within + XQDA_RIDGE * np.eye(len(within))
    try:
        vectors, values, _ = np.linalg.svd(np.linalg.solve(within, between))
        w = vectors[:, : max(1, int(np.sum(values > 1)))]
        metric = np.linalg.inv(w.T @ within @ w) - np.linalg.inv(w.T @ between @ w)
    except np.linalg.LinAlgError as error:
        raise UserError(_singular('XQDA')) from error
    return _factors(w if basis is None else basis @ w, metric, 'XQDA')


def kissme(train: Embeddings, components: int = KISSME_COMPONENTS) -> LearnedMetric:
    """Keep it simple and straightforward metric, equal to the authors' LearnAlgoKISSME.m after a PCA.

    Σ_I⁻¹ - Σ_E⁻¹, and, unless that is positive definite, its eigenvalues up to 1e-10 set to 1e-6 (`validateCovMatrix`).
    All pairs of two people count, where code for MARS draws as many of them at random as there are of one person.

    Args:
      components: of the PCA. At most the embedding size, and at most half as many as there are independent differences
        within people (tracklets minus people): with more, Σ_I comes near to singular and its inverse is noise. (The
        authors choose 34 for 316 pairs.)

    UserError as for `xqda`.
    """
    x, person, camera = _people_only(train, 'KISSME')
    n = max(1, min(components, x.shape[1], (len(x) - len(np.unique(person))) // 2))
    centred = x - x.mean(axis=0)
    _, principal = scipy.linalg.eigh(centred.T @ centred, subset_by_index=(x.shape[1] - n, x.shape[1] - 1))
    within, between = _difference_covariances(centred @ principal, person, camera)
    try:
        metric = np.linalg.inv(within) - np.linalg.inv(between)
        values, vectors = np.linalg.eigh((metric + metric.T) / 2)
    except np.linalg.LinAlgError as error:
        raise UserError(_singular('KISSME')) from error
    values = np.where(values <= KISSME_ZERO, KISSME_MIN, values)
    return _factors(principal, (vectors * values) @ vectors.T, 'KISSME')


def xqda_shrunk(train: Embeddings) -> LearnedMetric:
    """XQDA by generalised eigenvectors of shrunk covariances: those with eigenvalues λ above 1 span W.

    scipy scales them to Wᵀ Σ_I W = 1, Wᵀ Σ_E W = diag λ, so the metric in it, Σ_I⁻¹ - Σ_E⁻¹, is diag(1 - 1/λ).
    UserError as for `xqda`, and where no eigenvalue is above 1.
    """
    x, person, camera = _people_only(train, 'XQDA')
    within, between = _difference_covariances(x, person, camera)
    within, between = shrunk(within, len(x) - len(np.unique(person))), shrunk(between, len(x) - 1)
    values, vectors = scipy.linalg.eigh(between, within)
    kept = values > 1
    if not kept.any():
        raise UserError(
            'xqda_shrunk finds no direction in which tracklets of one person are nearer than those of two: the '
            'training embeddings do not separate people. Use cosine or euclidean.'
        )
    return LearnedMetric(vectors[:, kept] * np.sqrt(1 - 1 / values[kept]), np.ones(int(kept.sum())))


def shrunk(covariance: Float[np.ndarray, 'E E'], n_samples: int) -> Float[np.ndarray, 'E E']:
    """(1 - ρ) covariance + ρ (mean variance) 1, ρ by the oracle approximating shrinkage of Chen et al. (IEEE TSP 2010),
    equation 23.

    Terms 2/E are left out of it, as scikit-learn does, since E is large. Embeddings that are all the same give a
    smallest number above 0.
    """
    size = len(covariance)
    mean = np.trace(covariance) / size
    square = np.mean(covariance**2)
    spread = (n_samples + 1) * (square - mean**2 / size)
    rho = 1.0 if spread <= 0 else min(1.0, max(MIN_SHRINKAGE, (square + mean**2) / spread))
    return (1 - rho) * covariance + rho * max(mean, np.finfo(np.float64).tiny ** 0.5) * np.eye(size)


LEARNED = {'xqda': xqda, 'kissme': kissme, 'xqda_shrunk': xqda_shrunk}


def _factors(w: Float[np.ndarray, 'E r'], metric: Float[np.ndarray, 'r r'], name: str) -> LearnedMetric:
    """W M Wᵀ as A diag(signs) Aᵀ."""
    if not np.isfinite(metric).all():
        raise UserError(_singular(name))
    values, vectors = np.linalg.eigh((metric + metric.T) / 2)
    return LearnedMetric(w @ (vectors * np.sqrt(np.abs(values))), np.where(values < 0, -1.0, 1.0))


def _singular(name: str) -> str:
    return (
        f'{name} cannot be learned from these training embeddings: a covariance of their differences has no inverse. '
        'Embeddings that are all the same, constant numbers in them, too few tracklets or a scale far from 1 cause '
        'that. Use cosine or euclidean.'
    )


def _people_only(
    train: Embeddings, name: str
) -> tuple[Float[np.ndarray, 'N E'], Int[np.ndarray, 'N'], Int[np.ndarray, 'N']]:
    """(embedding in float64, person, camera) without junk and distractors.

    Unknown cameras have numbers of their own.
    """
    train = train.select(train.person_id > 0)
    person = np.unique(train.person_id, return_inverse=True)[1].ravel()
    if not len(person) or not person.any():
        raise UserError(
            f'{name} learns from pairs of one and of two people; the training embeddings hold {len(np.unique(person))} '
            'people.'
        )
    return train.embedding.astype(np.float64), person, views(train.camera_id)


def views(camera_id: Int[np.ndarray, 'N']) -> Int[np.ndarray, 'N']:
    """A number for each camera, from 0; an unknown one counts as a camera of its own."""
    camera = np.unique(camera_id, return_inverse=True)[1].ravel()
    return np.where(camera_id == UNKNOWN_CAMERA, len(camera) + np.arange(len(camera)), camera)


def _difference_covariances(
    x: Float[np.ndarray, 'N E'], person: Int[np.ndarray, 'N'], camera: Int[np.ndarray, 'N']
) -> tuple[Float[np.ndarray, 'E E'], Float[np.ndarray, 'E E']]:
    """Mean of (x_i - x_j)(x_i - x_j)ᵀ over the cross-camera pairs of one person, and over those of two people, without
    listing pairs.

    Over the ordered pairs within groups of n_i tracklets, Σ_ij (x_i - x_j)(x_i - x_j)ᵀ = 2 (Σ_i n_i x_i x_iᵀ - Σ_groups
    s sᵀ), s being a group's sum. Pairs of one person in two cameras are those of the person less those of the person
    and camera; pairs of two people in two cameras are all, less those of a camera, less the former. UserError without a
    pair of either kind.
    """
    x = x - x.mean(axis=0)
    _, both = np.unique(np.stack([person, camera]), axis=1, return_inverse=True)
    all_tracklets = np.zeros(len(x), np.int64)
    size, sums, n_pairs = zip(*(_grouped(x, group.ravel()) for group in (all_tracklets, camera, person, both)))
    pairs_of = (n_pairs[2] - n_pairs[3], n_pairs[0] - n_pairs[1] - n_pairs[2] + n_pairs[3])
    if not all(pairs_of):
        raise UserError(
            'Learned distances need pairs of tracklets of one person, and of two people, in different cameras; '
            f'the training embeddings have {pairs_of[0] // 2} and {pairs_of[1] // 2}.'
        )
    weights = (size[2] - size[3], size[0] - size[1] - size[2] + size[3])
    cross = (sums[2].T @ sums[2] - sums[3].T @ sums[3], sums[0].T @ sums[0] - sums[1].T @ sums[1])
    cross = (cross[0], cross[1] - cross[0])
    return tuple(2 * ((x * weight[:, None]).T @ x - outer) / n for weight, outer, n in zip(weights, cross, pairs_of))


def _grouped(
    x: Float[np.ndarray, 'N E'], group: Int[np.ndarray, 'N']
) -> tuple[Int[np.ndarray, 'N'], Float[np.ndarray, 'G E'], int]:
    """(size of each row's group, the groups' sums, ordered pairs within groups)."""
    _, group, size = np.unique(group, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind='stable')
    sums = np.add.reduceat(x[order], np.cumsum(size) - size, axis=0)
    return size[group], sums, int(np.sum(size.astype(np.int64) * (size - 1)))
