"""The exported program against the network that it is of, on this machine: error, processor seconds, sizes.

    python benchmarks/export.py --backbone=osnet_x0_25 --clip=2,256,128
    python benchmarks/export.py --backbone=r3d_18 --clip=8,128,64

`plain` is the same program with XLA's own convolutions on every platform, which an export could have instead of a
formulation for each. Weights are random; on a CPU. The three take turns; median of --repeats, with the range.
"""

import argparse
import contextlib
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from pvlad_jax.config import BackboneConfig, ModelConfig
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.export.program import embed_clips, exported_program, statistics_shapes
from pvlad_jax.models.tracklet_network import build_network, init_variables
from pvlad_jax.ops import conv3d, depthwise_conv


@contextlib.contextmanager
def plain_convolutions():
    """XLA's own, on every platform, while a network is traced inside."""
    before = conv3d._by_platform, depthwise_conv._by_platform
    conv3d._by_platform, depthwise_conv._by_platform = conv3d.native, depthwise_conv.native
    jax.clear_caches()
    try:
        yield
    finally:
        conv3d._by_platform, depthwise_conv._by_platform = before
        jax.clear_caches()


def random_weights(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Kernels as He 2015 draws them, the rest near 1 or 0: without compiling the network's own initialisation."""
    if len(shape) > 1:
        return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))).astype(np.float32)
    return rng.uniform(0.9, 1.1, shape).astype(np.float32) - (0 if name.endswith(('var', 'scale')) else 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--backbone', default='osnet_x0_25')
    parser.add_argument('--clip', default='2,256,128', help='frames, height, width')
    parser.add_argument('--clips', type=int, default=4, help='clips in a call')
    parser.add_argument('--repeats', type=int, default=5)
    given = parser.parse_args()
    clip = tuple(map(int, given.clip.split(',')))
    network = build_network(ModelConfig(backbone=BackboneConfig(name=given.backbone)), 1)
    shapes = flatten_dict(jax.eval_shape(init_variables, network, clip, jax.random.key(0)), sep='/')
    rng, size = np.random.default_rng(0), (1, given.clips)
    weights = {name: random_weights(rng, name, shape.shape) for name, shape in shapes.items()}
    frames, valid = rng.integers(0, 256, (*size, *clip, 3), dtype=np.uint8), np.ones((*size, clip[0]), bool)
    state = {k: np.zeros((1, *v.shape), v.dtype) for k, v in statistics_shapes(network, shapes, clip, False).items()}

    def serialised() -> bytes:
        return bytes(exported_program(network, shapes, clip, False).serialize())

    artifacts = {'exported': serialised()}
    with plain_convolutions():
        artifacts['plain'] = serialised()
    network_itself = jax.jit(embed_clips, static_argnums=(0, 1))
    programs = {name: jax.jit(jax.export.deserialize(content).call) for name, content in artifacts.items()}
    programs['network'] = lambda *arguments: network_itself(network, False, *arguments)
    arguments = jax.device_put((weights, frames, valid, state))
    results, seconds = {}, {name: [] for name in programs}
    for name, program in programs.items():
        began = time.process_time()
        results[name] = np.asarray(program(*arguments)[0])
        print(f'{name}: compiled in {time.process_time() - began:.0f} processor seconds', flush=True)
    for _ in range(given.repeats):
        for name, program in programs.items():
            began = time.process_time()
            jax.block_until_ready(program(*arguments))
            seconds[name].append(time.process_time() - began)
    for name, found in seconds.items():
        error = np.abs(results[name] - results['network']).max()
        text = f'{statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f}) processor seconds a call'
        kept = f', {len(artifacts[name]):,} bytes' if name in artifacts else ''
        print(f'{name}: {text}, largest difference {error:.1e}{kept}')


if __name__ == '__main__':
    with one_sentence():
        main()
