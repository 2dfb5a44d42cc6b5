"""Memory that a training batch keeps for the backward pass: the residuals of `jax.vjp`, traced and not run.

    python benchmarks/backward_memory.py --config=configs/mars.py                       # as its docstring says
    python benchmarks/backward_memory.py --config=configs/mars.py:backbone=resnet50
    python benchmarks/backward_memory.py --config=configs/mars.py --config.model.backbone.remat=True

An upper bound: XLA's fusions need not keep all of it. No data and no device are needed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
from absl import app
from ml_collections import config_flags

from pvlad_jax.config import Config, freeze
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.terminal import say
from pvlad_jax.launch.flags import parse_flags
from pvlad_jax.models.tracklet_network import build_network

CONFIG = config_flags.DEFINE_config_file('config')
PEOPLE = 625  # of MARS, classes of the classifier


def residuals(config: Config, tracklets: int) -> int:
    """Bytes for a batch of so many tracklets."""
    c, network = config.clips, build_network(config.model, PEOPLE)
    clips = jax.ShapeDtypeStruct((tracklets, c.segments, c.frames, c.height, c.width, 3), jnp.uint8)
    valid = jax.ShapeDtypeStruct(clips.shape[:3], bool)

    def kept(variables, clips, valid):
        def forward(params):
            output, _ = network.apply(
                {**variables, 'params': params}, clips, valid, train=True, mutable=['batch_stats']
            )
            return output.embedding, output.logits

        return jax.vjp(forward, variables['params'])[1]

    variables = jax.eval_shape(lambda *x: network.init(jax.random.key(0), *x, train=True), clips, valid)
    leaves = jax.tree.leaves(jax.eval_shape(kept, variables, clips, valid))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def main(_) -> None:
    with one_sentence():
        config = freeze(CONFIG.value)
        each = (residuals(config, 4) - residuals(config, 2)) / 2 / 2**30  # without what all of them share
        say(f'{each:.2f} GiB a tracklet, {each * config.batch.size:.0f} GiB for a batch of {config.batch.size}')


if __name__ == '__main__':
    app.run(main, flags_parser=parse_flags(lambda: ('config',), Config))
