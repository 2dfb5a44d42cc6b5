"""What the convolution on this machine rounds: largest errors against float64, ours and PyTorch's.

    python benchmarks/rounding.py --output=rounding.json

Layers of R3D-18 and I3D as `train_step.py --layers` times them: result, gradient of the input, gradient of the kernel.
Inputs are what layers see, normal numbers behind a ReLU; kernels and output gradients are normal. The oracle is PyTorch
in float64. Errors are shares of the largest value; a ratio above 1 = ours errs less.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rows import draw, need, new_file, row, write

if __name__ == '__main__':
    need('torch')

import jax
import numpy as np
import torch

from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.ops.conv3d import conv3d

SAME, POINT = ((1, 1),) * 3, (1, 1, 1)
# Input N x T x H x W x C, channels, kernel, strides, padding.
LAYERS = {
    'r3d_18 stem': ((4, 8, 128, 64, 3), 64, (3, 7, 7), (1, 2, 2), ((1, 1), (3, 3), (3, 3))),
    'i3d stem': ((4, 8, 128, 64, 3), 64, (7, 7, 7), (2, 2, 2), ((2, 3),) * 3),
    '64 -> 64, 8 x 64 x 32': ((4, 8, 64, 32, 64), 64, (3, 3, 3), POINT, SAME),
    '64 -> 192, 4 x 32 x 16': ((4, 4, 32, 16, 64), 192, (3, 3, 3), POINT, SAME),
    '128 -> 192, 4 x 16 x 8': ((4, 4, 16, 8, 128), 192, (3, 3, 3), POINT, SAME),
    '256 -> 256, 2 x 16 x 8': ((4, 2, 16, 8, 256), 256, (3, 3, 3), POINT, SAME),
    '64 -> 128, 8 x 64 x 32, strides 2': ((4, 8, 64, 32, 64), 128, (3, 3, 3), (2, 2, 2), SAME),
}


def torch_results(
    x: np.ndarray, w: np.ndarray, g: np.ndarray, strides, padding, dtype: torch.dtype
) -> list[np.ndarray]:
    """Result and both gradients, in our order of axes."""
    sides = [side for pair in reversed(padding) for side in pair]
    xt = torch.from_numpy(x).to(dtype).permute(0, 4, 1, 2, 3).requires_grad_()
    wt = torch.from_numpy(w).to(dtype).permute(4, 3, 0, 1, 2).requires_grad_()
    y = torch.nn.functional.conv3d(torch.nn.functional.pad(xt, sides), wt, stride=strides)
    y.backward(torch.from_numpy(g).to(dtype).permute(0, 4, 1, 2, 3))
    return [
        y.detach().permute(0, 2, 3, 4, 1).numpy(),
        xt.grad.permute(0, 2, 3, 4, 1).numpy(),
        wt.grad.permute(2, 3, 4, 1, 0).numpy(),
    ]


def our_results(x: np.ndarray, w: np.ndarray, g: np.ndarray, strides, padding) -> list[np.ndarray]:
    @jax.jit
    def everything(x, w, g):
        y, pull = jax.vjp(lambda x, w: conv3d(x, w, strides, padding), x, w)
        return y, *pull(g)

    return [np.asarray(a) for a in everything(x, w, g)]


def measure(name: str) -> list[dict]:
    shape, channels, kernel, strides, padding = LAYERS[name]
    rng = np.random.default_rng(0)
    x = np.maximum(rng.standard_normal(shape, np.float32), 0)
    w = rng.standard_normal((*kernel, shape[-1], channels), np.float32)
    places = [(n + sum(p) - k) // s + 1 for n, p, k, s in zip(shape[1:4], padding, kernel, strides)]
    g = rng.standard_normal((shape[0], *places, channels), np.float32)
    exact = torch_results(x, w, g, strides, padding, torch.float64)
    sides = our_results(x, w, g, strides, padding), torch_results(x, w, g, strides, padding, torch.float32)
    rows = []
    for i, what in enumerate(('result', 'gradient of the input', 'gradient of the kernel')):
        ours, peer = (float(np.abs(side[i] - exact[i]).max() / np.abs(exact[i]).max()) for side in sides)
        rows.append(row(f'{name}: {what}', ours, peer, 'of the largest value', peer / ours))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--output', type=new_file, help='JSON file for the rows')
    options = parser.parse_args()
    rows = [row for name in LAYERS for row in measure(name)]
    if options.output:
        about = {'device': jax.devices()[0].device_kind, 'jax': jax.__version__, 'torch': torch.__version__}
        write(options.output, rows, about=about)
    title = f'Largest error against float64, {jax.devices()[0].device_kind}, float32'
    lines = [[r['name'], f'{r["ours"]:.1e}', f'{r["peer"]:.1e}', f'{r["ratio"]:.2f}'] for r in rows]
    draw(title, ('', 'ours', 'PyTorch', 'ratio'), lines, width=120)
    return 0


if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
