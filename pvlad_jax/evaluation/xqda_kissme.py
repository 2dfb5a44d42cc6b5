"""Metrics learned from a training set's embeddings: KISSME (Köstinger et al., CVPR 2012) and XQDA (Liao et al., CVPR 2015).

Both compare the covariance Σ_I of differences within a person with the covariance Σ_E of differences between people. Both are returned as a
linear map A [E, R]: the learned distance is the squared Euclidean distance of x A and y A.

Small samples: both covariances are shrunk towards their mean variance times the identity, as far as the number of tracklets asks for (OAS,
Chen et al. 2010) and at least by `LEAST_SHRINKAGE` (the ridge of Liao's code, made independent of the embeddings' scale). So with few
training tracklets, or with fewer than dimensions, both metrics go towards the Euclidean distance instead of towards noise.
"""

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

from pvlad_jax.errors import UserError
from pvlad_jax.evaluation.embedding_file import UNKNOWN_CAMERA, Embeddings

LEAST_SHRINKAGE = 1e-3
_NOBODY_APART = ('{} finds no direction in which tracklets of one person are nearer than those of two: '
                 'the training embeddings tell nobody apart.')
PRINCIPAL_COMPONENTS = 128


def xqda(train: Embeddings) -> Float[np.ndarray, 'E R']:
    """Cross-view quadratic discriminant analysis.

    The subspace W is spanned by the generalised eigenvectors of (Σ_E, Σ_I) with eigenvalues λ above 1. scipy scales them to
    Wᵀ Σ_I W = 1, Wᵀ Σ_E W = diag λ, so the metric in it, Σ_I⁻¹ - Σ_E⁻¹, is diag(1 - 1/λ), and its square root goes into the map.
    """
    within, between = _difference_covariances(*_people_only(train, 'XQDA'))
    eigenvalues, vectors = scipy.linalg.eigh(between, within)
    kept = eigenvalues > 1
    if not kept.any():
        raise UserError(_NOBODY_APART.format('XQDA'))
    return vectors[:, kept] * np.sqrt(1 - 1 / eigenvalues[kept])[None, :]


def kissme(train: Embeddings, components: int = PRINCIPAL_COMPONENTS) -> Float[np.ndarray, 'E R']:
    """Keep it simple and straightforward metric: PCA, then Σ_I⁻¹ - Σ_E⁻¹ with its negative eigenvalues set to 0 (as its authors do).

    Args:
      components: of the PCA; the embedding size where that is less.
    """
    embedding, person, camera = _people_only(train, 'KISSME')
    n = min(components, embedding.shape[1])
    centred = embedding - embedding.mean(axis=0)
    _, principal = scipy.linalg.eigh(centred.T @ centred, subset_by_index=(embedding.shape[1] - n, embedding.shape[1] - 1))
    within, between = _difference_covariances(centred @ principal, person, camera)
    metric = scipy.linalg.inv(within) - scipy.linalg.inv(between)
    eigenvalues, vectors = scipy.linalg.eigh((metric + metric.T) / 2)
    kept = eigenvalues > 0
    if not kept.any():
        raise UserError(_NOBODY_APART.format('KISSME'))
    return principal @ (vectors[:, kept] * np.sqrt(eigenvalues[kept])[None, :])


def _people_only(train: Embeddings, name: str) -> tuple[Float[np.ndarray, 'N E'], Int[np.ndarray, 'N'], Int[np.ndarray, 'N']]:
    """(embedding in float64, person, camera) without junk and distractors."""
    train = train.select(train.person_id > 0)
    if len(np.unique(train.person_id)) < 2:
        raise UserError(f'{name} learns from pairs of one and of two people; the training embeddings hold '
                        f'{len(np.unique(train.person_id))} people.')
    return train.embedding.astype(np.float64), train.person_id, train.camera_id


def _difference_covariances(x: Float[np.ndarray, 'N E'], person: Int[np.ndarray, 'N'],
                            camera: Int[np.ndarray, 'N']) -> tuple[Float[np.ndarray, 'E E'], Float[np.ndarray, 'E E']]:
    """Mean of (x_i - x_j)(x_i - x_j)ᵀ over the pairs of one person, and over those of two people.

    Pairs are of different cameras, as a search is; an unknown camera counts as one of its own. Both are shrunk. UserError without a pair.
    """
    x = x - x.mean(axis=0)
    camera = np.where(camera == UNKNOWN_CAMERA, camera.max() + 1 + np.arange(len(camera)), camera)
    everybody = np.zeros(len(x), np.int64)
    all_pairs, same_camera = _pair_scatter(x, everybody), _pair_scatter(x, camera)
    same_person, same_both = _pair_scatter(x, person), _pair_scatter(x, person * np.int64(camera.max() + 1) + camera)
    within = [a - b for a, b in zip(same_person, same_both)]
    between = [a - b - c for a, b, c in zip(all_pairs, same_camera, within)]
    if within[1] == 0 or between[1] == 0:
        raise UserError('Learned distances need pairs of tracklets of one person, and of two people, in different cameras; '
                        f'the training embeddings have {int(within[1]) // 2} and {int(between[1]) // 2}.')
    n_people = len(np.unique(person))
    return shrunk(within[0] / within[1], len(x) - n_people), shrunk(between[0] / between[1], len(x) - 1)


def _pair_scatter(x: Float[np.ndarray, 'N E'], group: Int[np.ndarray, 'N']) -> tuple[Float[np.ndarray, 'E E'], float]:
    """Sum of (x_i - x_j)(x_i - x_j)ᵀ over ordered pairs within groups, and their number, without listing them:

    Σ_ij (x_i - x_j)(x_i - x_j)ᵀ = 2 (n Σ_i x_i x_iᵀ - s sᵀ) with s = Σ_i x_i, in every group of n.
    """
    _, group, size = np.unique(group, return_inverse=True, return_counts=True)
    sums = np.zeros((len(size), x.shape[1]))
    np.add.at(sums, group, x)
    scatter = 2 * ((x * size[group][:, None]).T @ x - sums.T @ sums)
    return scatter, float(np.sum(size.astype(np.float64) * (size - 1)))


def shrunk(covariance: Float[np.ndarray, 'E E'], n_samples: int) -> Float[np.ndarray, 'E E']:
    """(1 - ρ) covariance + ρ (mean variance) 1, ρ by the oracle approximating shrinkage of Chen et al. (IEEE TSP 2010), equation 23.

    Terms 2/E are left out of it, as scikit-learn does, since E is large. Embeddings that are all the same give a smallest number above 0.
    """
    size = len(covariance)
    mean = np.trace(covariance) / size
    square = np.mean(covariance**2)
    spread = (n_samples + 1) * (square - mean**2 / size)
    rho = 1.0 if spread <= 0 else min(1.0, max(LEAST_SHRINKAGE, (square + mean**2) / spread))
    return (1 - rho) * covariance + rho * max(mean, np.finfo(np.float64).tiny ** 0.5) * np.eye(size)
