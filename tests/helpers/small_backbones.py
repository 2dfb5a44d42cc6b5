"""Backbones small enough for tests: their weights, inputs and compilation."""

import jax
import numpy as np

from pvlad_jax.models.backbones import c3d, i3d
from tests.helpers.quick_compilation import OPTIONS

SMALL = {'blocks': (1, 1, 1, 1), 'widths': (4, 4, 8, 8), 'stem_width': 4}


def shapes(module, clip):
    frames = jax.ShapeDtypeStruct((1, *clip, 3), np.float32)
    valid = jax.ShapeDtypeStruct((1, clip[0]), bool)
    return jax.eval_shape(lambda k, x, v: module.init_with_output(k, x, v, False), jax.random.key(0), frames, valid)


def draw(tree, seed=0):
    """Weights of a plausible scale for a tree of shapes: He kernels, norms about one."""
    rng = np.random.default_rng(seed)

    def leaf(path, like):
        name = path[-1].key
        x = rng.standard_normal(like.shape, np.float32)
        if name == 'kernel':
            return x * np.float32(np.sqrt(2 / np.prod(like.shape[:-1])))
        return np.exp(0.2 * x) if name in ('scale', 'var') else 0.2 * x

    return jax.tree_util.tree_map_with_path(leaf, tree)


def compiled(function, *arguments):
    return jax.jit(function).lower(*arguments).compile(compiler_options=OPTIONS)(*arguments)


def clips(shape, seed=0):
    return np.random.default_rng(seed).standard_normal((*shape, 3), np.float32)


def thin_channels(monkeypatch):
    """I3D and C3D with an eighth of their channels."""
    monkeypatch.setattr(c3d, 'CHANNELS', {k: v // 16 for k, v in c3d.CHANNELS.items()})
    monkeypatch.setattr(i3d, 'MIXED', {k: tuple(f // 8 for f in v) for k, v in i3d.MIXED.items()})
