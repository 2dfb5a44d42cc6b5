"""Measures of part masks on masks made by hand: perfect parts reach 1, uniform and random ones the level of chance."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from benchmarks.part_measures import (
    adjusted_rand_index,
    best_match,
    contingency,
    mass,
    matched_iou,
    normalised_mutual_information,
    other_frame,
    soft_iou,
    steadiness,
    strongest_part,
)

LABELS = 5
# Whole cells of one label, that move by a row from frame to frame.
TRUTH = np.stack([np.roll(np.repeat(np.arange(LABELS), 2), f)[:, None].repeat(4, 1) for f in range(6)])
SHARES = np.eye(LABELS)[TRUTH]  # [6, 10, 4, 5]
TRACKLET = np.array([0, 0, 0, 1, 1, 1])


def agreement(masks):
    table = contingency(masks, SHARES)
    return normalised_mutual_information(table), adjusted_rand_index(table)


def test_perfect_parts_reach_1_whatever_their_order_and_level():
    order, level = [2, 0, 3, 1], np.array([0.3, 1.0, 1e-3, 0.5])
    masks = SHARES[..., 1:][..., order] * level
    iou = soft_iou(masks, SHARES)[:, 1:]
    part = best_match(iou)
    np.testing.assert_array_equal(np.array(order)[part], np.arange(4))
    np.testing.assert_allclose(matched_iou(iou, part), 1)
    np.testing.assert_allclose(agreement(masks), 1)
    np.testing.assert_allclose(mass(masks, SHARES)[part, np.arange(1, LABELS)], 1)
    np.testing.assert_allclose(mass(masks, SHARES)[:, 0], 0, atol=1e-12)
    np.testing.assert_allclose(np.stack(steadiness(masks, SHARES, TRACKLET)), 1)


def test_uniform_masks_have_the_level_of_chance():
    masks = np.full((6, 10, 4, 8), 0.4)
    np.testing.assert_allclose(agreement(masks), 0, atol=1e-9)
    area = SHARES.mean((0, 1, 2))
    np.testing.assert_allclose(mass(masks, SHARES), np.tile(area, (8, 1)))
    np.testing.assert_allclose(soft_iou(masks, SHARES), np.tile(area / (2 - area), (8, 1)))


def test_random_masks_agree_with_nothing():
    masks = np.random.default_rng(0).uniform(size=(60, 10, 4, 8))
    table = contingency(masks, np.tile(SHARES, (10, 1, 1, 1)))
    assert normalised_mutual_information(table) < 0.02 and abs(adjusted_rand_index(table)) < 0.02


def test_agreement_equals_scikit_learns_on_pixels():
    rng = np.random.default_rng(1)
    masks = 0.4 * SHARES[..., [1, 2, 2, 3]] + rng.uniform(size=(6, 10, 4, 4))
    parts, seen = strongest_part(masks)[TRUTH > 0], TRUTH[TRUTH > 0]
    expected = normalized_mutual_info_score(seen, parts), adjusted_rand_score(seen, parts)
    np.testing.assert_allclose(agreement(masks), expected)
    assert 0.05 < expected[0] < 0.9


def test_cells_of_several_labels_count_as_their_pixels():
    truth = np.random.default_rng(2).integers(0, 3, (2, 4, 4))
    shares = np.eye(3)[truth].reshape(2, 2, 2, 2, 2, 3).mean((2, 4))
    masks = np.random.default_rng(3).uniform(size=(2, 2, 2, 2))
    table = contingency(masks, shares, pixels=4)
    enlarged = strongest_part(masks).repeat(2, 1).repeat(2, 2)
    expected = [[((enlarged == p) & (truth == label)).sum() for label in (1, 2)] for p in range(2)]
    np.testing.assert_allclose(table, expected)
    on_foreground = enlarged[truth > 0], truth[truth > 0]
    assert adjusted_rand_index(table) == pytest.approx(adjusted_rand_score(*on_foreground))


def test_a_label_without_a_part_of_its_own_counts_0():
    masks = SHARES[..., 1:3]
    iou = soft_iou(masks, SHARES)[:, 1:]
    part = best_match(iou)
    np.testing.assert_array_equal(part, [0, 1, -1, -1])
    np.testing.assert_allclose(matched_iou(iou, part), [1, 1, 0, 0])


def test_steadiness_sees_parts_that_are_exchanged():
    swapped = SHARES[..., 1:].copy()
    swapped[TRACKLET == 1] = swapped[TRACKLET == 1][..., [1, 0, 2, 3]]
    found = steadiness(swapped, SHARES, TRACKLET)  # between tracklets
    np.testing.assert_allclose(found.in_tracklet, 1)
    np.testing.assert_allclose(found.overall, [0.5, 0.5, 1, 1])
    swapped = SHARES[..., 1:].copy()
    swapped[[0, 3]] = swapped[[0, 3]][..., [1, 0, 2, 3]]
    found = steadiness(swapped, SHARES, TRACKLET)  # within
    np.testing.assert_allclose(found.in_tracklet, [2 / 3, 2 / 3, 1, 1])
    unseen = np.concatenate([SHARES, np.zeros((6, 10, 4, 1))], -1)
    assert np.isnan(steadiness(swapped, unseen, TRACKLET).in_tracklet[-1])


def test_masks_that_stay_where_limbs_were_are_told_from_those_that_follow():
    other = other_frame(TRACKLET)
    assert (TRACKLET[other] == TRACKLET).all() and (other != np.arange(6)).all()
    masks = SHARES[..., 1:]
    own, later = (np.diag(soft_iou(masks, shares)[:, 1:]) for shares in (SHARES, SHARES[other]))
    assert (own - later > 0.2).all()
    still = np.broadcast_to(masks.mean(0), masks.shape)
    own, later = (np.diag(soft_iou(still, shares)[:, 1:]) for shares in (SHARES, SHARES[other]))
    np.testing.assert_allclose(own, later, atol=1e-9)
