"""Body parts and background of a clip by colour, without labels (ours).

In one clip each part has a colour or two (skin, shirt, trousers), and the scene behind has its own. A mixture of
Gaussians over the pixels' colours, whose prior at each place is `part_layout`, is fitted to each clip by some steps of
expectation-maximisation, as GrabCut (Rother 2004) does for one object. So the parts go where the limbs go, in every
frame.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from pvlad_jax.ops.part_layout import SCENES, part_layout

STEPS = 8  # of expectation-maximisation
FINER = 4  # pixels along each edge of a cell of the feature map
# Colours decide in full between body and scene, but less between parts, which often share one: a power of the density.
BETWEEN_PARTS = 0.5
VARIANCE = 3e-4  # added to each colour's, on a scale of 0 to 1: a standard deviation of 4 in 255
EPSILON = 1e-6
# RGB -> brightness, blue and red difference (JPEG's): nearly uncorrelated, so that three variances do.
YCBCR = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))


def log_densities(seen: Float[Array, 'N L 7'], weight: Float[Array, 'N L Q']) -> Float[Array, 'N L Q']:
    """Of each pixel's colour under the Gaussian of each component, fitted to the pixels by `weight`. seen: colours
    squared, colours, 1.
    """
    sums = jnp.einsum('nlq,nlc->nqc', weight, seen, precision='highest')
    square, mean = jnp.split(sums[..., :6] / (sums[..., 6:] + EPSILON), 2, -1)
    variance = jnp.maximum(square - mean**2, 0) + VARIANCE
    constant = (mean**2 / variance + jnp.log(variance)).sum(-1, keepdims=True)
    model = jnp.concatenate([1 / variance, -2 * mean / variance, constant], -1)
    return -0.5 * jnp.einsum('nlc,nqc->nlq', seen, model, precision='highest')


def colour_mixture(
    colours: Float[Array, 'N L 3'], valid: Bool[Array, 'N L'], prior: Float[np.ndarray, 'L Q'], steps: int = STEPS
) -> Float[Array, 'N L Q']:
    """How likely each of P parts and then each of the scenes (Q = P + SCENES) is at each of the L pixels of a clip,
    after `steps` of expectation-maximisation.

    prior: the same before a colour is seen; it stays as it is. Pixels that are not valid count nothing.
    """
    seen = jnp.concatenate([colours**2, colours, jnp.ones_like(colours[..., :1])], -1)
    log_prior = np.log(prior + EPSILON**2)
    parts = prior.shape[1] - SCENES
    share = jnp.broadcast_to(prior, (*colours.shape[:2], prior.shape[1]))
    for _ in range(steps):
        density = log_densities(seen, share * valid[..., None])
        full = jax.nn.softmax(density + log_prior)
        body = full[..., :parts].sum(-1, keepdims=True)
        within = jax.nn.softmax(BETWEEN_PARTS * density[..., :parts] + log_prior[:, :parts])
        share = jnp.concatenate([body * within, full[..., parts:]], -1)
    return share


def colour_segmentation(
    clips: UInt8[Array, 'N T H W 3'], valid: Bool[Array, 'N t'], parts: int, height: int, width: int, stride_t: int
) -> Float[Array, 'N t h w R']:
    """The share of each part and of the background, the last (R = P + 1), in each cell of the feature map (`height` x
    `width`), at the frames that its times stand for: time o for frame stride_t·o (`ops.frame_mask`). Each clip by
    itself; other frames are not looked at.
    """
    n, t = valid.shape
    fine = height * FINER, width * FINER
    frames = clips[:, ::stride_t].astype(jnp.float32) / 255
    frames = jnp.where(valid[:, :, None, None, None], frames, 0)
    colours = jax.image.resize(frames, (n, t, *fine, 3), 'linear').reshape(n, -1, 3)
    colours = jnp.matmul(colours, jnp.array(YCBCR).T, precision='highest')
    pixels = fine[0] * fine[1]
    prior = np.tile(part_layout(parts, *fine).reshape(pixels, -1), (t, 1))
    share = colour_mixture(colours, jnp.repeat(valid, pixels, 1), prior)
    share = jnp.concatenate([share[..., :parts], share[..., parts:].sum(-1, keepdims=True)], -1)
    return share.reshape(n, t, height, FINER, width, FINER, parts + 1).mean((3, 5))
