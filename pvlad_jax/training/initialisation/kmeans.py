"""k-means on unit vectors, by OpenCV on the host.

Centres depend on the descriptors and the seed alone, not on the number of threads.
"""

import cv2
import numpy as np
from jaxtyping import Float

from pvlad_jax.core.errors import UserError

RESTARTS = 3  # k-means++ may begin with two centres in one cluster; the best of three seldom ends so
ITERATIONS = 100
# Distance on the unit sphere: k-means ends when no centre moves farther. Sums of squared distances of the demo's eight
# parts together: 16,274 with 0.03, 16,224 with this, 16,213 with 0.003 and twice the time at 100,000 descriptors;
# 16,232 by scikit-learn as it comes.
CENTRE_SHIFT_TOLERANCE = 1e-2


def cluster_centres(descriptors: Float[np.ndarray, 'n D'], clusters: int, seed: int) -> Float[np.ndarray, 'K D']:
    """The K = `clusters` centres of k-means (k-means++ start, best of three) over unit vectors, ordered by size,
    largest first.

    Centres are means of unit vectors and as such a little shorter than 1. Raises UserError if a descriptor is
    not finite or if there are fewer distinct descriptors than clusters.
    """
    descriptors = np.ascontiguousarray(descriptors, np.float32) + 0.0  # -0 and 0 are one value
    if not np.isfinite(descriptors).all():
        raise UserError(
            'The codebook cannot be initialised: some local descriptors of the training set are NaN or '
            "infinite. Look at the backbone's weights (config.model.backbone.weights)."
        )
    distinct = set()
    for row in descriptors:
        distinct.add(row.tobytes())
        if len(distinct) >= clusters:
            break
    if len(distinct) < clusters:
        raise UserError(
            f'config.model.clusters = {clusters} clusters need as many distinct local descriptors, but '
            f'only {len(distinct)} were found among {len(descriptors)}. Lower config.model.clusters, or '
            'raise config.vlad_init.max_descriptors or the number of training clips.'
        )
    # OpenCV's rather than scikit-learn's, which takes 0.7 s to import. Its threads share out distances and add nothing
    # up, so their number changes nothing.
    cv2.setRNGSeed(seed % 2**31)
    until = cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, ITERATIONS, CENTRE_SHIFT_TOLERANCE
    _, labels, centres = cv2.kmeans(descriptors, clusters, None, until, RESTARTS, cv2.KMEANS_PP_CENTERS)
    return centres[np.argsort(-np.bincount(labels[:, 0], minlength=clusters), kind='stable')]
