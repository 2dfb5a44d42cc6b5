"""What is looked at of the parts of a network."""

import jax
import numpy as np
import pytest

from pvlad_jax.config import BackboneConfig, ModelConfig
from pvlad_jax.models.tracklet_network import build_network, clip_statistics, init_variables
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
