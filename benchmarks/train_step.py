"""Our training step, and embedding, against the same network in PyTorch.

    export GLIBC_TUNABLES=glibc.malloc.hugetlb=1                        # memory in huge pages, for both sides
    python benchmarks/train_step.py --output=train_step.json            # CPU: small clips; GPU: those of configs/mars.py
    python benchmarks/train_step.py --layers --output=layers.json       # every convolution and pooling of R3D-18, I3D and OSNet by itself

Same layers, losses (smoothed cross-entropy, batch-hard triplet), batch, AdamW with clipping, and the same weights. Before anything
is timed, embedding, loss and gradient norm of two steps are compared: the command ends with 1 where they differ. Both sides run in
turn, medians are compared. Ratios above 1 = ours is faster. "Cores" are the processor seconds of a run by its seconds; PyTorch's
threads spin while they wait.

JAX_NUM_CPU_DEVICES=2 (JAX's own) splits our batch over two virtual devices, as it does for main.py: more of two cores is used.
PyTorch: channels_last_3d, oneDNN (CPU) or cudnn.benchmark and TF32 or bf16 autocast (GPU), fused AdamW, `--compile` for torch.compile.
"""

import argparse
import dataclasses
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rows import child_output, need, new_file, write

if __name__ == '__main__':
    need('torch')

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch_peer
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from configs import mars
from pvlad_jax.config import Config, freeze
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.terminal import console, say
from pvlad_jax.models.tracklet_network import build_network
from pvlad_jax.parallel.mesh import global_batch, make_mesh
from pvlad_jax.training.optimizer import make_optimizer
from pvlad_jax.training.train_state import init_state
from pvlad_jax.training.train_step import make_train_step

os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'  # a GPU is shared with the peer
PEOPLE = 625  # of MARS, to be told apart by the classifier
ON_GPU = jax.default_backend() == 'gpu'
DEVICE = 'cuda' if ON_GPU else 'cpu'


def configuration(options: argparse.Namespace, backbone: str) -> Config:
    """configs/mars.py from a random start, one clip a tracklet, pooled by the mean."""
    c = mars.get_config(f'backbone={backbone},weights=,pooling=average,dtype={options.dtype}')
    c.model.bnneck = False
    c.model.backbone.batch_norm = 'sync'
    c.optimizer.warmup_steps = 0
    c.optimizer.schedule = 'constant'
    c.clips.segments = 1
    people, tracklets, c.clips.frames, c.clips.height, c.clips.width = map(int, options.batch.split('x'))
    c.batch.people, c.batch.tracklets = people, tracklets
    return freeze(c)


def batch_of(config: Config) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    c, n = config.clips, config.batch.size
    return {'clips': rng.integers(0, 256, (n, 1, c.frames, c.height, c.width, 3), np.uint8), 'valid': np.ones((n, 1, c.frames), bool),
            'label': np.repeat(np.arange(config.batch.people), config.batch.tracklets).astype(np.int32)}


class Peer:
    def __init__(self, config: Config, compiled: bool):
        if ON_GPU:
            torch.backends.cudnn.benchmark = True
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        self.config = config
        self.network = torch_peer.TorchNetwork(config, PEOPLE)
        torch_peer.randomise(self.network)
        self.variables = torch_peer.to_our_variables(self.network)
        self.network = torch_peer.channels_last(self.network.to(DEVICE))
        self.optimizer = torch_peer.make_optimizer(config, self.network, config.optimizer.learning_rate)
        self.forward = torch.compile(self.network) if compiled else self.network
        batch = batch_of(config)
        self.clips = torch.from_numpy(batch['clips'][:, 0]).to(DEVICE)
        self.label = torch.from_numpy(batch['label']).long().to(DEVICE)

    def _run(self):
        half = self.config.model.dtype == 'bfloat16'
        with torch.autocast(DEVICE, torch.bfloat16, enabled=half):
            return self.forward(self.clips)

    def step(self) -> tuple[float, float]:
        """(loss, gradient norm)"""
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch_peer.total_loss(self.config, *self._run(), self.label)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimizer.clip_norm)
        self.optimizer.step()
        return loss.item(), norm.item()

    def embed(self) -> np.ndarray:
        self.network.eval()
        with torch.inference_mode():
            return self._run()[0].float().cpu().numpy()


class Ours:
    def __init__(self, config: Config, variables: tuple[dict, dict]):
        mesh = make_mesh(config.mesh.data, config.mesh.fsdp, jax.devices()[:1] if ON_GPU else jax.devices())
        network = build_network(config.model, PEOPLE)
        optimizer = make_optimizer(config.optimizer, 1000, variables[0])
        state = init_state(config, network, optimizer, PEOPLE, mesh)

        def put(tree, like):
            return jax.tree.map(lambda x, y: jax.device_put(np.asarray(x).reshape(y.shape), y.sharding), tree, like)

        self.state = state.replace(params=put(variables[0], state.params), batch_stats=put(variables[1], state.batch_stats))
        self.batch = global_batch(batch_of(config), mesh)
        step = make_train_step(config, network, optimizer, mesh, self.state)
        began = time.perf_counter()
        self.compiled = step.lower(self.state, self.batch).compile()
        self.compile_seconds = time.perf_counter() - began
        self.apply = jax.jit(lambda variables, clips, valid: network.apply(variables, clips, valid).embedding)

    def step(self) -> tuple[float, float]:
        self.state, metrics = self.compiled(self.state, self.batch)
        jax.block_until_ready(self.state)
        return float(metrics['loss']), float(metrics['gradient_norm'])

    def embed(self) -> np.ndarray:
        return np.asarray(self.apply(self.state.variables(), self.batch['clips'], self.batch['valid']))


@dataclasses.dataclass
class Times:
    """Of one side: seconds, and processor seconds of all its threads."""

    wall: list[float] = dataclasses.field(default_factory=list)
    processor: list[float] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.wall)


def interleaved(runs: dict[str, Callable], rounds: int) -> dict[str, Times]:
    """Each run in turn; the first round (compilation, caches) does not count."""
    times = {name: Times() for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            wall, processor = time.perf_counter(), time.process_time()
            run()
            if i:
                times[name].wall.append(time.perf_counter() - wall)
                times[name].processor.append(time.process_time() - processor)
    return times


def row(name: str, times: dict[str, Times], scale: float, unit: str, **more) -> dict:
    """Of the runs 'ours' and 'peer'. scale: units of work a run, so that figures are per second."""
    row = {'name': name, 'ours': scale / times['ours'].median, 'peer': scale / times['peer'].median, 'unit': unit,
           'ratio': times['peer'].median / times['ours'].median}
    for side, t in times.items():
        row |= {f'{side}_spread': [scale / max(t.wall), scale / min(t.wall)], f'{side}_cores': sum(t.processor) / sum(t.wall),
                f'{side}_processor_seconds': statistics.median(t.processor)}
    return row | {'runs': len(times['ours'].wall), **more}


def check(name: str, ours, peer, tolerance: float) -> None:
    error = float(np.abs(np.subtract(ours, peer)).max() / np.abs(peer).max())
    if not error <= tolerance:
        sys.exit(f'{name}: ours and PyTorch differ by {error:.1e} of the largest value; more than {tolerance:.0e}.')


def flops_of(config: Config) -> tuple[float, float]:
    """(training step, embedding) of the convolutions and products as PyTorch counts them: 2 a multiplication, as if none were saved."""
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
    command = [sys.executable, __file__, f'--memory_of={side}', f'--backbones={backbone}', f'--batch={options.batch}',
               f'--dtype={options.dtype}'] + ['--compile'] * options.compile
    return float(child_output(command, f'The process that measures the memory of {side}').splitlines()[-1])


def print_memory(options: argparse.Namespace) -> None:
    config = configuration(options, options.backbones.split(',')[0])

    def resident():
        # Of this program alone; getrusage would count the parent's memory at the fork.
        return int(re.search(r'VmHWM:\s+(\d+) kB', Path('/proc/self/status').read_text())[1]) / 1024

    peer = Peer(config, options.compile)
    run = peer if options.memory_of == 'peer' else Ours(config, peer.variables)
    before = resident()  # libraries, weights, compiler
    for _ in range(3):
        run.step()
    if not ON_GPU:
        print(resident() if options.memory_of == 'peer' else max(resident(), before))
    elif options.memory_of == 'peer':
        print(torch.cuda.max_memory_allocated() / 2**20)
    else:
        print(jax.devices()[0].memory_stats()['peak_bytes_in_use'] / 2**20)


def measure(options: argparse.Namespace, backbone: str, peak: float) -> list[dict]:
    config = configuration(options, backbone)
    peer = Peer(config, options.compile)
    ours = Ours(config, peer.variables)
    half = config.model.dtype == 'bfloat16'
    check(f'{backbone} embedding', ours.embed(), peer.embed(), 5e-2 if half else 2e-4)
    for i in range(2):
        # The second loss has gone through the gradients and AdamW, whose first step blows up rounding (it divides by the gradient's size).
        tolerance = 5e-2 if half else (1e-3, 1e-2)[i]
        for what, a, b in zip(('loss', 'gradient norm'), ours.step(), peer.step()):
            check(f'{backbone} {what} of step {i + 1}', a, b, tolerance * (1 if what == 'loss' else 10))
    clips, flops = config.batch.size, flops_of(config)
    rows = []
    for what, count in (('step', flops[0]), ('embed', flops[1])):
        times = interleaved({'ours': getattr(ours, what), 'peer': getattr(peer, what)}, options.rounds)
        name = f'{backbone} {"training step" if what == "step" else "embedding"}'
        shares = {f'{side}_share_of_product': count / t.median / peak for side, t in times.items()}
        rows.append(row(name, times, clips, 'clips/s', gflop=count / 1e9, **shares))
    rows[0]['compile_seconds'] = ours.compile_seconds
    del ours, peer
    if options.memory:
        memory = {side: peak_memory(options, backbone, side) for side in ('ours', 'peer')}
        rows.append({'name': f'{backbone} peak memory of training', **memory, 'unit': 'MiB', 'ratio': memory['peer'] / memory['ours']})
    return rows


def show(rows: list[dict], title: str) -> None:
    table = Table(title=title)
    for column in ('', 'ours', '(spread)', 'PyTorch', '(spread)', 'unit', 'ratio', 'share of product', 'PyTorch', 'cores', 'PyTorch'):
        table.add_column(column, justify='left' if column in ('', 'unit') else 'right')
    for r in rows:
        spread = [' - '.join(f'{x:.3g}' for x in r.get(f'{side}_spread', ())) for side in ('ours', 'peer')]
        shares = [f'{r[f"{side}_share_of_product"]:.0%}' if f'{side}_share_of_product' in r else '' for side in ('ours', 'peer')]
        shares += [f'{r[f"{side}_cores"]:.1f}' if f'{side}_cores' in r else '' for side in ('ours', 'peer')]
        table.add_row(r['name'], f'{r["ours"]:.3g}', spread[0], f'{r["peer"]:.3g}', spread[1], r['unit'], f'{r["ratio"]:.2f}', *shares)
    console(width=180).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--output', type=new_file, help='JSON file for the rows')
    parser.add_argument('--backbones', help='by commas; r3d_18,i3d,c3d,r3d_tiny,osnet_x0_25, and with --layers r3d_18,i3d,osnet_x0_25')
    parser.add_argument('--batch', default='16x4x16x256x128' if ON_GPU else '2x2x8x128x64',
                        help='people x tracklets x frames x height x width')
    parser.add_argument('--dtype', default='bfloat16' if ON_GPU else 'float32', choices=('float32', 'bfloat16'))
    parser.add_argument('--rounds', type=int, default=30 if ON_GPU else 5)
    parser.add_argument('--compile', action='store_true', help='torch.compile on the side of PyTorch')
    parser.add_argument('--no-memory', dest='memory', action='store_false', help='leave the peak memory out')
    parser.add_argument('--layers', action='store_true', help='every layer shape of the backbones by itself instead')
    parser.add_argument('--memory_of', choices=('ours', 'peer'), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.backbones = options.backbones or ('r3d_18,i3d,osnet_x0_25' if options.layers else 'r3d_18,i3d,c3d,r3d_tiny,osnet_x0_25')
    if options.memory_of:
        print_memory(options)
        return 0
    peak = product_flops(options.dtype, 5)
    ours_on = 1 if ON_GPU else len(jax.devices())
    title = (f'{jax.devices()[0].device_kind}, {os.cpu_count()} cores (ours on {ours_on} device(s)), {options.batch}, {options.dtype}; '
             f'product {peak / 1e9:.0f} GFLOP/s')
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
        about = {'device': jax.devices()[0].device_kind, 'cores': os.cpu_count(), 'batch': options.batch, 'dtype': options.dtype,
                 'product_gflops': peak / 1e9, 'jax': jax.__version__, 'torch': torch.__version__, 'torch_compile': options.compile}
        write(options.output, rows, about=about)
    return 0


if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
