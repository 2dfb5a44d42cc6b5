"""Our training step, and embedding, against the same network in PyTorch.

    export GLIBC_TUNABLES=glibc.malloc.hugetlb=1                        # memory in huge pages, for both sides
    python benchmarks/train_step.py --output=train_step.json       # CPU: small clips; GPU: those of configs/mars.py
    python benchmarks/train_step.py --layers --output=layers.json  # convolutions and poolings of R3D-18, I3D and OSNet

Same layers, losses (smoothed cross-entropy, batch-hard triplet), batch, AdamW with clipping, and the same weights.
Before anything is timed, embedding, loss and gradient norm of two steps are compared: the command ends with 1 where
they differ. Both sides run in turn, medians are compared. Ratios above 1 = ours is faster. "Cores" are the processor
seconds of a run by its seconds; PyTorch's threads spin while they wait.

JAX_NUM_CPU_DEVICES=2 (JAX's own) splits our batch over two virtual devices, as it does for main.py: more of two cores
is used.
PyTorch: channels_last_3d, oneDNN (CPU) or cudnn.benchmark and TF32 or bf16 autocast (GPU), fused AdamW, `--compile` for
torch.compile.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peak_memory import process_memory
from benchmarks.rows import at_least_one, child_output, draw, need, new_file, row, write

if __name__ == '__main__':
    need('torch')

import jax
import jax.numpy as jnp
import torch
from interleaved import check, interleaved, speed_row
from torch.utils.flop_counter import FlopCounterMode
from train_sides import DEVICE, ON_GPU, Peer, configuration, our_side

from pvlad_jax.config import Config
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.terminal import say


def flops_of(config: Config) -> tuple[float, float]:
    """(training step, embedding) of the convolutions and products as PyTorch counts them: 2 a multiplication, as if
    none were saved.
    """
    peer = Peer(config, compiled=False)
    with FlopCounterMode(display=False) as train:
        peer.step()
    with FlopCounterMode(display=False) as forward:
        peer.embed()
    return train.get_total_flops(), forward.get_total_flops()


def product_flops(dtype: str, rounds: int) -> float:
    """FLOP/s of a matrix product of this machine, the better of the two libraries."""
    n = 8192 if ON_GPU else 2048
    a = jnp.ones((n, n), dtype)
    product = jax.jit(lambda a: a @ a)
    b = torch.ones((n, n), dtype=getattr(torch, dtype), device=DEVICE)

    def peer():
        (b @ b)[0, 0].item()

    times = interleaved({'ours': lambda: product(a).block_until_ready(), 'peer': peer}, rounds)
    return 2 * n**3 / min(t.median for t in times.values())


def peak_memory(options: argparse.Namespace, backbone: str, side: str) -> float:
    """MiB of a process that makes three steps of one side and nothing else (GPU: of its allocator)."""
    command = [sys.executable, __file__, f'--memory_of={side}', f'--backbones={backbone}']
    command += [f'--batch={options.batch}', f'--dtype={options.dtype}'] + ['--compile'] * options.compile
    return float(child_output(command, f'The process that measures the memory of {side}').splitlines()[-1])


def print_memory(options: argparse.Namespace) -> None:
    config = configuration(options, options.backbones.split(',')[0])
    peer = Peer(config, options.compile)
    run = peer if options.memory_of == 'peer' else our_side(config, peer.variables)
    before = process_memory('VmHWM')  # libraries, weights, compiler
    for _ in range(3):
        run.step()
    if not ON_GPU:
        print(process_memory('VmHWM') if options.memory_of == 'peer' else max(process_memory('VmHWM'), before))
    elif options.memory_of == 'peer':
        print(torch.cuda.max_memory_allocated() / 2**20)
    else:
        print(jax.devices()[0].memory_stats()['peak_bytes_in_use'] / 2**20)


def measure(options: argparse.Namespace, backbone: str, peak: float) -> list[dict]:
    config = configuration(options, backbone)
    peer = Peer(config, options.compile)
    ours = our_side(config, peer.variables)
    half = config.model.dtype == 'bfloat16'
    check(f'{backbone} embedding', ours.embed(), peer.embed(), 5e-2 if half else 2e-4)
    for i in range(2):
        # The second loss has gone through the gradients and AdamW, whose first step blows up rounding (it divides by
        # the gradient's size).
        tolerance = 5e-2 if half else (1e-3, 1e-2)[i]
        for what, a, b in zip(('loss', 'gradient norm'), ours.step(), peer.step()):
            check(f'{backbone} {what} of step {i + 1}', a, b, tolerance * (1 if what == 'loss' else 10))
    clips, flops = config.batch.size, flops_of(config)
    rows = []
    for what, count in (('step', flops[0]), ('embed', flops[1])):
        times = interleaved(
            {'ours': getattr(ours, what), 'peer': getattr(peer, what)}, options.rounds, turn=options.turn
        )
        name = f'{backbone} {"training step" if what == "step" else "embedding"}'
        shares = {f'{side}_share_of_product': count / t.median / peak for side, t in times.items()}
        rows.append(speed_row(name, times, clips, 'clips/s', gflop=count / 1e9, **shares))
    rows[0]['compile_seconds'] = ours.compile_seconds
    del ours, peer
    if options.memory:
        memory = {side: peak_memory(options, backbone, side) for side in ('ours', 'peer')}
        ratio = memory['peer'] / memory['ours']
        rows.append(row(f'{backbone} peak memory of training', **memory, unit='MiB', ratio=ratio))
    return rows


def _of_sides(row: dict, what: str, form: str) -> list[str]:
    """Of both sides, '' where it was not measured."""
    return [format(row[key], form) if (key := f'{side}_{what}') in row else '' for side in ('ours', 'peer')]


def show(rows: list[dict], title: str) -> None:
    headings = ['', 'ours', '(spread)', 'PyTorch', '(spread)', 'unit', 'ratio']
    headings += ['share of product', 'PyTorch', 'cores', 'PyTorch']
    lines = []
    for r in rows:
        spread = [' - '.join(f'{x:.3g}' for x in r.get(f'{side}_spread', ())) for side in ('ours', 'peer')]
        figures = [f'{r["ours"]:.3g}', spread[0], f'{r["peer"]:.3g}', spread[1], r['unit'], f'{r["ratio"]:.2f}']
        lines.append([r['name'], *figures, *_of_sides(r, 'share_of_product', '.0%'), *_of_sides(r, 'cores', '.1f')])
    draw(title, headings, lines, left=('', 'unit'))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--output', type=new_file, help='JSON file for the rows')
    parser.add_argument(
        '--backbones',
        help='by commas: r3d_*, i3d*, c3d*, osnet_*, resnet50*; with --layers r3d_18, i3d or osnet_*. '
        'Default: r3d_18,i3d,c3d,r3d_tiny,osnet_x0_25',
    )
    parser.add_argument(
        '--batch',
        default='16x4x16x256x128' if ON_GPU else '2x2x8x128x64',
        help='people x tracklets x frames x height x width',
    )
    parser.add_argument('--dtype', default='bfloat16' if ON_GPU else 'float32', choices=('float32', 'bfloat16'))
    parser.add_argument('--rounds', type=at_least_one, default=30 if ON_GPU else 5)
    parser.add_argument(
        '--turn',
        type=at_least_one,
        default=3,
        help='runs of a side in a row, as in training; of several the first is not counted (default 3)',
    )
    parser.add_argument('--compile', action='store_true', help='torch.compile on the side of PyTorch')
    parser.add_argument('--no-memory', dest='memory', action='store_false', help='leave the peak memory out')
    parser.add_argument('--layers', action='store_true', help='every layer shape of the backbones by itself instead')
    parser.add_argument('--memory_of', choices=('ours', 'peer'), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.backbones = options.backbones or (
        'r3d_18,i3d,osnet_x0_25' if options.layers else 'r3d_18,i3d,c3d,r3d_tiny,osnet_x0_25'
    )
    if options.memory_of:
        print_memory(options)
        return 0
    peak = product_flops(options.dtype, 5)
    ours_on = 1 if ON_GPU else len(jax.devices())
    title = (
        f'{jax.devices()[0].device_kind}, {os.cpu_count()} cores (ours on {ours_on} device(s)), {options.batch}, '
        f'{options.dtype}; product {peak / 1e9:.0f} GFLOP/s'
    )
    if options.layers:
        import layer_speed

        rows = layer_speed.measure(options, interleaved, DEVICE)
        layer_speed.show(rows, title)
    else:
        rows = []
        for backbone in options.backbones.split(','):
            rows += measure(options, backbone, peak)
            show(rows, title)
        for r in rows:
            if 'compile_seconds' in r:
                say(f'{r["name"]}: {r["gflop"]:.0f} GFLOP, ours compiled in {r["compile_seconds"]:.1f} s')
    if options.output:
        about = {
            'device': jax.devices()[0].device_kind,
            'cores': os.cpu_count(),
            'batch': options.batch,
            'dtype': options.dtype,
            'product_gflops': peak / 1e9,
            'jax': jax.__version__,
            'torch': torch.__version__,
            'torch_compile': options.compile,
        }
        write(options.output, rows, about=about)
    return 0


if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
