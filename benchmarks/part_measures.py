"""How well part masks agree with limbs: measures on arrays, of any network's masks.

Letters: N frames, h x w their grid, P parts, L labels. `masks` [N,h,w,P] are at least 0; `shares` [N,h,w,L] is the part
of each cell that carries each label, label 0 the background; they add to 1. What a mask's level is means nothing (the
VLAD is normalised after it), so every measure divides each mask by its sum over everything.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

EPSILON = 1e-12


def scaled(weights: Float[np.ndarray, 'N h w X']) -> Float[np.ndarray, 'n X']:
    """Each column divided by its sum over all frames and places; zeros stay."""
    flat = weights.reshape(-1, weights.shape[-1]).astype(np.float64)
    return flat / np.maximum(flat.sum(0), EPSILON)


def mass(masks: Float[np.ndarray, 'N h w P'], shares: Float[np.ndarray, 'N h w L']) -> Float[np.ndarray, 'P L']:
    """Share of each mask's sum that lies on each label; rows add to 1."""
    return scaled(masks).T @ shares.reshape(-1, shares.shape[-1])


def soft_iou(masks: Float[np.ndarray, 'N h w P'], shares: Float[np.ndarray, 'N h w L']) -> Float[np.ndarray, 'P L']:
    """Σ min(m, l) / Σ max(m, l) of mask and label, both scaled to the sum 1: 1 where they are proportional, 0 where
    they never meet, a / (2 - a) for a uniform mask and a label that fills whole cells and the share a of everything."""
    m, labels = scaled(masks), scaled(shares)
    smaller = np.stack([np.minimum(m, label[:, None]).sum(0) for label in labels.T], 1)
    return smaller / np.maximum(m.sum(0)[:, None] + labels.sum(0) - smaller, EPSILON)


def best_match(iou: Float[np.ndarray, 'P L']) -> Int[np.ndarray, 'L']:
    """The part of each label, one part for one label at most, that make the sum of IoU largest; -1 = none is left."""
    part = np.full(iou.shape[1], -1)
    parts, labels = linear_sum_assignment(iou, maximize=True)
    part[labels] = parts
    return part


def matched_iou(iou: Float[np.ndarray, 'P L'], part: Int[np.ndarray, 'L']) -> Float[np.ndarray, 'L']:
    """IoU of each label with its part, 0 where it has none."""
    return np.where(part < 0, 0.0, iou[part, np.arange(len(part))])


def strongest_part(masks: Float[np.ndarray, 'N h w P']) -> Int[np.ndarray, 'N h w']:
    """The part that is highest at each place, compared with its own mean."""
    return scaled(masks).argmax(-1).reshape(masks.shape[:-1])


def contingency(
    masks: Float[np.ndarray, 'N h w P'], shares: Float[np.ndarray, 'N h w L'], pixels: int = 1
) -> Float[np.ndarray, 'P F']:
    """Pixels of the foreground by strongest part and label (F = L - 1), `pixels` to a cell: the table that the masks
    enlarged to the picture, each cell to a block of pixels, would give."""
    chosen = np.eye(masks.shape[-1])[strongest_part(masks).ravel()]
    return pixels * chosen.T @ shares.reshape(-1, shares.shape[-1])[:, 1:]


def normalised_mutual_information(table: Float[np.ndarray, 'P F']) -> float:
    """Mutual information over the mean of the two entropies: 1 = same partition, 0 = independent or one of them
    trivial (as scikit-learn's, on a table)."""
    joint = table / table.sum()
    parts, labels = joint.sum(1), joint.sum(0)

    def entropy(p):
        return -(p[p > 0] * np.log(p[p > 0])).sum()

    information = entropy(parts) + entropy(labels) - entropy(joint)
    return float(np.clip(2 * information / max(entropy(parts) + entropy(labels), EPSILON), 0, 1))


def adjusted_rand_index(table: Float[np.ndarray, 'P F']) -> float:
    """Share of pairs of pixels on which the two partitions agree, less chance: 1 = same partition, about 0 =
    independent (Hubert and Arabie 1985)."""

    def pairs(n):
        return (n * (n - 1) / 2).sum()

    together, parts, labels = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    chance = parts * labels / pairs(table.sum())
    span = 0.5 * (parts + labels) - chance
    return float((together - chance) / span) if abs(span) > EPSILON else 0.0


class Steadiness(NamedTuple):
    """Shares of a label's frames in which its strongest part is the most frequent one.

    Attributes:
      in_tracklet: of its own tracklet.
      overall: of all tracklets.
    """

    in_tracklet: Float[np.ndarray, 'F']
    overall: Float[np.ndarray, 'F']


def steadiness(
    masks: Float[np.ndarray, 'N h w P'],
    shares: Float[np.ndarray, 'N h w L'],
    tracklet: Int[np.ndarray, 'N'],
    least: float = 0.5,
) -> Steadiness:
    """Whether a limb keeps its part through time, for each label of the foreground; nan where it is never seen.

    A limb's part in a frame is the one that is strongest on most of it; frames where it fills fewer than `least` cells
    are left out. One part for everything is perfectly steady, so it only means something next to mutual information.
    """
    votes = np.einsum('nhwp,nhwl->nlp', np.eye(masks.shape[-1])[strongest_part(masks)], shares[..., 1:])
    seen, winner = shares[..., 1:].sum((1, 2)) >= least, votes.argmax(-1)
    result = np.full((2, votes.shape[1]), np.nan)
    for label in range(votes.shape[1]):
        where = seen[:, label]
        if not where.any():
            continue
        part, group = winner[where, label], np.unique(tracklet[where], return_inverse=True)[1]
        counts = np.zeros((group.max() + 1, votes.shape[2]))
        np.add.at(counts, (group, part), 1)
        result[:, label] = counts.max(1).sum() / len(part), counts.sum(0).max() / len(part)
    return Steadiness(*result)


def other_frame(tracklet: Int[np.ndarray, 'N']) -> Int[np.ndarray, 'N']:
    """For each frame another of the same tracklet, half the tracklet later, around its end. Frames of a tracklet lie
    together; a single one is its own other."""
    other = np.empty(len(tracklet), np.int64)
    for number in np.unique(tracklet):
        rows = np.flatnonzero(tracklet == number)
        other[rows] = np.roll(rows, -(len(rows) // 2))
    return other
