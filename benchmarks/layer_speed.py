"""Every distinct convolution and pooling of R3D-18, I3D and OSNet-x0.25 by itself: XLA's own, ours, PyTorch
(`train_step.py --layers`).
"""

from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from jax import lax

from benchmarks.rows import draw, row
from pvlad_jax.models.backbones import BACKBONES, build_backbone, i3d, osnet
from pvlad_jax.models.conv import Conv3D
from pvlad_jax.ops import vector_options
from pvlad_jax.ops.conv3d import conv3d
from pvlad_jax.ops.depthwise_conv import depthwise_conv
from pvlad_jax.ops.max_pool3d import max_pool3d
from pvlad_jax.ops.padding import centred_padding


class Layer(NamedTuple):
    """kind: 'conv', 'depthwise' or 'pool'; shape: of its input, NTHWC."""

    kind: str
    shape: tuple
    kernel: tuple
    strides: tuple
    padding: tuple
    features: int


def layers_of(backbone: str, shape: tuple[int, int, int, int]) -> dict[Layer, int]:
    """The distinct layers of a backbone for clips [N, T, H, W], and how many there are of each."""
    found: dict[Layer, int] = {}

    def add(*about):
        found[Layer(*about)] = found.get(Layer(*about), 0) + 1

    def watch_convolution(call, arguments, options, context):
        m = context.module
        if isinstance(m, Conv3D) and context.method_name == '__call__':
            x = arguments[0]
            add('conv', x.shape, m.kernel, m.strides, tuple(m.padding or centred_padding(m.kernel)), m.features)
        if isinstance(m, osnet.DepthwiseConv) and context.method_name == '__call__':
            x = arguments[0]
            add('depthwise', x.shape, (1, 3, 3), (1, 1, 1), ((0, 0), (1, 1), (1, 1)), x.shape[-1])
        return call(*arguments, **options)

    def watch_pooling(x, kernel, strides, padding):
        add('pool', x.shape, kernel, strides, tuple(padding), x.shape[-1])
        return max_pool3d(x, kernel, strides, padding)

    module = build_backbone(backbone)
    clips, valid = jax.ShapeDtypeStruct((*shape, 3), jnp.float32), jax.ShapeDtypeStruct(shape[:2], bool)
    with (
        nn.intercept_methods(watch_convolution),
        mock.patch.object(i3d, 'max_pool3d', watch_pooling),
        mock.patch.object(osnet, 'max_pool3d', watch_pooling),
    ):
        jax.eval_shape(lambda x, v: module.init(jax.random.key(0), x, v, False), clips, valid)
    return found


def _jax_layer(layer: Layer, native: bool) -> Callable:
    kind, _, kernel, strides, padding, _ = layer
    if kind == 'conv':
        return lambda x, w: conv3d(x, w, strides, padding, 'native' if native else 'auto')
    if kind == 'depthwise':
        return lambda x, w: depthwise_conv(x, w[0, :, :, 0], 'native' if native else 'auto')
    if native:
        window, steps, pads = (1, *kernel, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0))
        return lambda x, w: lax.reduce_window(x, -jnp.inf, lax.max, window, steps, pads)
    return lambda x, w: max_pool3d(x, kernel, strides, padding)


def _torch_layer(layer: Layer) -> Callable:
    kind, _, kernel, strides, padding, _ = layer
    even = [p[0] for p in padding] if all(a == b for a, b in padding) else None
    beyond = [n for pair in reversed(padding) for n in pair]
    if kind == 'conv':
        if even:
            return lambda x, w: F.conv3d(x, w, None, strides, even)
        return lambda x, w: F.conv3d(F.pad(x, beyond), w, None, strides)
    if kind == 'depthwise':  # of frames, as PyTorch's users write it

        def of_frames(x, w):
            y = F.conv2d(x.transpose(1, 2).flatten(0, 1), w[:, :, 0], None, 1, 1, groups=x.shape[1])
            return y.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)

        return of_frames
    return lambda x, w: F.max_pool3d(F.pad(x, beyond, value=float('-inf')), kernel, strides)


def _runs(layer: Layer, dtype: str, device: str) -> dict[str, Callable]:
    """'native', 'ours', 'peer' forward, and the same with ' both' forward and backward; pixels get no gradient."""
    kind, shape, kernel, _, _, features = layer
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32)
    seen = 1 if kind == 'depthwise' else shape[-1]  # input channels of an output channel
    w = rng.standard_normal((*kernel, seen, features), np.float32) / np.float32(np.sqrt(np.prod(kernel) * seen))
    to = [i for i, wanted in enumerate((shape[-1] > 3, kind != 'pool')) if wanted]  # x, w
    runs, results = {}, {}
    jx, jw = jnp.asarray(x, dtype), jnp.asarray(w, dtype)
    like = jax.eval_shape(_jax_layer(layer, False), jx, jw)
    g = rng.standard_normal(like.shape, np.float32)
    jg = jnp.asarray(g, dtype)
    for name in ('native', 'ours'):
        function = _jax_layer(layer, name == 'native')

        def backward(x, w, g, function=function):
            y, pull = jax.vjp(function, x, w)
            return y, [pull(g)[i] for i in to]

        options = vector_options(jax.default_backend())  # as training and embedding
        forward, both = (jax.jit(f, compiler_options=options) for f in (function, backward))
        runs[name] = lambda f=forward: jax.block_until_ready(f(jx, jw))
        runs[f'{name} both'] = lambda f=both: jax.block_until_ready(f(jx, jw, jg))
        results[name] = np.asarray(forward(jx, jw), np.float32)

    last = torch.channels_last_3d

    def put(a, order):
        return torch.from_numpy(a).to(device, getattr(torch, dtype)).permute(*order).contiguous(memory_format=last)

    order = (0, 4, 1, 2, 3)
    tensors = [put(x, order), put(w, (4, 3, 0, 1, 2))]
    tg, peer = put(g, order), _torch_layer(layer)
    for i in to:
        tensors[i].requires_grad_()

    def wait():
        if device == 'cuda':
            torch.cuda.synchronize()

    def forward_peer():
        with torch.no_grad():
            y = peer(*tensors)
        wait()
        return y

    def both_peer():
        torch.autograd.grad(peer(*tensors), [tensors[i] for i in to], tg)
        wait()

    runs['peer'], runs['peer both'] = forward_peer, both_peer
    results['peer'] = forward_peer().permute(0, 2, 3, 4, 1).float().cpu().numpy()
    for name, y in results.items():
        error = np.abs(y - results['native']).max() / np.abs(results['native']).max()
        if error > (1e-5 if dtype == 'float32' and device == 'cpu' else 3e-2):
            raise SystemExit(
                f'{name} of layer {layer} differs from the native one by {error:.1e} of its largest value.'
            )
    return runs


def measure(options, interleaved: Callable, device: str) -> list[dict]:
    """Rows of all layers; 'ours' and 'peer' in GFLOP/s (pooling: results a second, 10^9), 'before' is XLA's own."""
    people, tracklets, *clip = map(int, options.batch.split('x'))
    rows = []
    for backbone in [b for b in options.backbones.split(',') if b in BACKBONES]:
        for layer, count in layers_of(backbone, (people * tracklets, *clip)).items():
            kind, shape, kernel, strides, padding, features = layer
            outputs = [(n + sum(p) - k) // s + 1 for n, p, k, s in zip(shape[1:4], padding, kernel, strides)]
            terms = {'conv': 2 * np.prod(kernel) * shape[-1], 'depthwise': 2 * np.prod(kernel), 'pool': 1}
            work = shape[0] * np.prod(outputs) * features / 1e9 * terms[kind]
            times = interleaved(_runs(layer, options.dtype, device), options.rounds)
            sizes = ['x'.join(map(str, numbers)) for numbers in (shape, kernel, strides)]
            place = f'{backbone} {kind} {sizes[0]} -> {features}, {sizes[1]} / {sizes[2]}'
            for both in ('', ' both'):
                passes = 2 + (shape[-1] > 3) if both and kind != 'pool' else 1
                before, ours, peer = (
                    float(work * passes / times[side + both].median) for side in ('native', 'ours', 'peer')
                )
                name = place + (', forward and backward' if both else ', forward')
                unit = '1e9 results/s' if kind == 'pool' else 'GFLOP/s'
                more = {'layers': count, 'before': before, 'ratio_before': before / peer}
                rows.append(row(name, ours, peer, unit, ours / peer, **more))
    return rows


def show(rows: list[dict], title: str) -> None:
    lines = []
    for r in rows:
        rates = [f'{r[k]:.3g}' for k in ('before', 'ours', 'peer')]
        lines.append([r['name'], str(r['layers']), *rates, r['unit'], f'{r["ratio_before"]:.2f}', f'{r["ratio"]:.2f}'])
    headings = ('layer', 'how many', 'XLA', 'ours', 'PyTorch', 'unit', 'ratio before', 'ratio')
    draw(title, headings, lines, left=('layer', 'unit'))
