"""What is looked at of the parts of a network."""

import jax
import numpy as np
import pytest

from pvlad_jax.config import BackboneConfig, ModelConfig
from pvlad_jax.models.tracklet_network import build_network, clip_statistics, init_variables
from pvlad_jax.report.part_masks import part_mask_picture
from pvlad_jax.runs.part_intermediates import part_intermediates


@pytest.mark.parametrize('parts', [0, 2])
def test_codewords_are_counted_with_and_without_masks(parts):
    config = ModelConfig(backbone=BackboneConfig(name='r3d_tiny'), parts=parts, clusters=3, descriptor_dim=4)
    network = build_network(config, 2)
    variables = init_variables(network, (2, 16, 16), jax.random.key(0))
    clips = np.random.default_rng(0).integers(0, 256, (1, 2, 16, 16, 3), np.uint8)
    masks, total = part_intermediates(network, variables, clips)
    seen = clip_statistics(network, variables, clips, np.ones((1, 2), bool))[1]
    if parts:
        np.testing.assert_array_equal(masks, seen.part_masks)
        expected = np.einsum('nthwpk,nthwp->npk', seen.soft_assignment, seen.part_masks)
    else:  # VLAD without parts has no masks to draw
        assert masks is None
        expected = np.asarray(seen.soft_assignment).sum((1, 2, 3))
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_masks_are_drawn_in_the_span_that_a_part_has_in_its_clip():
    clip = np.full((4, 96, 48, 3), 128, np.uint8)
    masks = np.zeros((2, 1, 1, 2), np.float32)
    masks[1, ..., 0], masks[..., 1] = 3.0, 5.0  # the first part looks at the second time, the other everywhere alike
    picture = part_mask_picture([clip], [masks])
    frames = [picture[row * 98 + 48, 52 + time * 50 + 24].astype(int) for row in (1, 2) for time in (0, 1)]
    blue, red, *alike = frames
    assert blue[2] > blue[0] and red[0] > red[2] and all((one == blue).all() for one in alike)
