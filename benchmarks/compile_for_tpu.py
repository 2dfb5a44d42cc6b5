"""Compiles the real training step for TPU slices that are not there, and estimates from the compiled program what a
step would take.

    pip install -r requirements.txt -r requirements-tpu.txt      # libtpu brings the compiler; no TPU is needed
    python benchmarks/compile_for_tpu.py --topology=v5e:2x2 --topology=v5e:4x4 --set=model.backbone.name=i3d_mixed_4f

The batch is fixed a device: a chip, or one of the two cores of a v4 or v5p chip, with half the chip's figures. Figures
of the compiled program are a device's share, as XLA counts them; the times are estimates:

    compute = FLOPs / peak        memory = bytes accessed / HBM bandwidth
    collectives = sum of factor x bytes x (n - 1) / n / ICI bandwidth
                  n = devices that take part; factor 2 for all-reduce, else 1
    step = max(compute, memory) + collectives        efficiency = max(compute, memory) / step

Nothing overlaps and every operation runs at its peak or bandwidth, so the first is pessimistic and the second
optimistic. "Efficiency" is that of scaling: 1 where the other devices cost nothing.
"""

import argparse
import dataclasses
import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rows import own_path
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.program_errors import stated_reason
from pvlad_jax.core.terminal import say


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published figures a chip: bf16 FLOP/s, HBM bytes and bytes/s, ICI bytes/s one way over all links
    (cloud.google.com/tpu/docs).
    """

    peak: float
    memory: float
    bandwidth: float
    ici: float


CHIPS = {
    'v4': Chip(275e12, 32e9, 1228e9, 300e9),
    'v5e': Chip(197e12, 16e9, 819e9, 200e9),
    'v5p': Chip(459e12, 95e9, 2765e9, 600e9),
    'v6e': Chip(918e12, 32e9, 1640e9, 448e9),
}

BYTES = dict(pred=1, s8=1, u8=1, s16=2, u16=2, bf16=2, f16=2, s32=4, u32=4, f32=4, s64=8, u64=8, f64=8)
KINDS = 'all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute'
COLLECTIVE = re.compile(rf' = (?P<type>\(.*?\)|\S+) (?P<kind>{KINDS})(?:-start)?\(')
CHANNEL = re.compile(r'channel_id=(\d+)')
ARRAY = re.compile(r'\b([a-z]+\d*)\[([\d,]*)\]')
GROUPS = re.compile(
    r'replica_groups=(?:\{\{(?P<first>[\d,]+)\}|\[(?P<groups>\d+),(?P<size>\d+)\]|'
    r"mesh\[(?P<mesh>[^\]]*)\].*?\{(?P<axes>'[^}]*)\})"
)


def collectives(hlo: str, devices: int) -> dict[str, dict]:
    """{kind: {'count', 'bytes', 'moved'}} of a compiled program. bytes: of the larger of operand and result; moved: of
    formula above.

    A collective that runs during other work stands in several computations of the program, under one channel; it counts
    once. So does one inside a loop; the training step has loops only with optimizer.accumulate > 1.
    """
    found: dict[str, dict] = {}
    channels: set[str] = set()
    computation = ''
    for line in hlo.splitlines():
        if line.endswith('{') and not line.startswith(' '):
            computation = line
        match = COLLECTIVE.search(line)
        if not match:
            continue
        channel = CHANNEL.search(line)
        if channel and channel[1] in channels:
            continue
        channels |= {channel[1]} if channel else set()
        # TPU programs have no reduce-scatter of their own: it is an all-reduce whose computation keeps a share of the
        # sum.
        kind, size_of_sum = match['kind'], computation.startswith('%all-reduce-scatter')
        kind = 'reduce-scatter' if size_of_sum else kind
        sizes = [BYTES.get(kind_, 4) * _product(shape) for kind_, shape in ARRAY.findall(match['type'])]
        if '-start(' in line and kind != 'all-reduce':  # its result holds operand and result
            sizes = [max(sizes)]
        n = _group_size(line, devices)
        size = sum(sizes) * (n if kind == 'reduce-scatter' and not size_of_sum else 1)
        entry = found.setdefault(kind, {'count': 0, 'bytes': 0, 'moved': 0.0})
        entry['count'] += 1
        entry['bytes'] += size
        entry['moved'] += (2 if kind == 'all-reduce' else 1) * size * (n - 1) / max(n, 1)
    return found


def _group_size(line: str, devices: int) -> int:
    """Of replica_groups={{0,1},{2,3}}, [2,2]<=[4], or mesh['a'=2,'b'=2] {'a'}."""
    group = GROUPS.search(line)
    if not group:
        return devices
    if group['mesh'] is None:
        return int(group['size'] or len(group['first'].split(',')))
    sizes = dict(re.findall(r"('[^']+')=(\d+)", group['mesh']))
    return _product(','.join(sizes[axis] for axis in re.findall(r"'[^']+'", group['axes'])))


def _product(shape: str) -> int:
    return math.prod(map(int, filter(None, shape.split(','))))


def measure(topology: str, given: argparse.Namespace) -> dict:
    """Compiles for one topology, in this process."""
    os.environ.update(JAX_PLATFORMS='cpu', TPU_SKIP_MDS_QUERY='1')
    import jax
    import jax.numpy as jnp
    from jax.experimental import topologies

    from configs.default import get_config
    from pvlad_jax.config import freeze
    from pvlad_jax.models.backbones import BACKBONES
    from pvlad_jax.models.tracklet_network import build_network, init_variables
    from pvlad_jax.parallel.mesh import batch_sharding, make_mesh
    from pvlad_jax.training.optimizer import make_optimizer
    from pvlad_jax.training.train_state import state_shapes
    from pvlad_jax.training.train_step import make_train_step

    devices = topologies.get_topology_desc(platform='tpu', topology_name=topology).devices
    c = get_config()
    c.model.dtype, c.clips.height, c.clips.width, c.clips.frames = 'bfloat16', 256, 128, 8
    for pair in given.set:
        path, _, value = pair.partition('=')
        *parents, leaf = path.split('.')
        node = c
        for parent in parents:
            node = node[parent]
        node[leaf] = type(node[leaf])(value) if not isinstance(node[leaf], bool) else value.lower() == 'true'
    c.batch.identities = given.tracklets_per_device * len(devices) // c.batch.tracklets
    config = freeze(c)
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, devices)
    network = build_network(config.model, given.people)
    clips = config.clips
    video = (config.batch.size, clips.segments, clips.frames, clips.height, clips.width, 3)
    shapes = jax.eval_shape(init_variables, network, (clips.frames, clips.height, clips.width), jax.random.key(0))
    stages = BACKBONES[config.model.backbone.name].stages
    optimizer = make_optimizer(config.optimizer, config.training.steps, shapes['params'], stages=stages)
    state = state_shapes(config, network, optimizer, given.people, mesh)
    batch = {'clips': (video, jnp.uint8), 'valid': (video[:3], jnp.bool_), 'label': (video[:1], jnp.int32)}
    batch = {key: jax.ShapeDtypeStruct(*value, sharding=batch_sharding(mesh)) for key, value in batch.items()}
    began = time.monotonic()
    compiled = make_train_step(config, network, optimizer, mesh, state).lower(state, batch).compile()
    seconds = time.monotonic() - began
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    if given.hlo:
        given.hlo.write_text(compiled.as_text())
    return {
        'topology': topology,
        'devices': len(devices),
        'cores': len(devices) // len({tuple(d.coords) for d in devices}),
        'mesh': dict(mesh.shape),
        'batch': config.batch.size,
        'backbone': config.model.backbone.name,
        'parameters': sum(x.size for x in jax.tree.leaves(state.params)),
        'arguments': memory.argument_size_in_bytes,
        'temporaries': memory.temp_size_in_bytes,
        'outputs_apart': memory.output_size_in_bytes - memory.alias_size_in_bytes,
        'flops': cost['flops'],
        'bytes': cost['bytes accessed'],
        'collectives': collectives(compiled.as_text(), len(devices)),
        'compile_seconds': seconds,
    }


def estimate(found: dict) -> dict:
    """The roofline of the docstring, times in seconds."""
    chip, cores = CHIPS[found['topology'].split(':')[0]], found['cores']
    compute, memory = cores * found['flops'] / chip.peak, cores * found['bytes'] / chip.bandwidth
    moved = cores * sum(c['moved'] for c in found['collectives'].values()) / chip.ici
    step = max(compute, memory) + moved
    used = found['arguments'] + found['temporaries'] + found['outputs_apart']
    return {
        'compute': compute,
        'memory': memory,
        'collectives': moved,
        'step': step,
        'efficiency': max(compute, memory) / step,
        'used': used,
        'fits': cores * used <= chip.memory,
    }


def row(found: dict) -> str:
    e = estimate(found)
    listed = (
        ', '.join(f'{v["count"]} {k} {v["bytes"] / 1e6:.1f} MB' for k, v in sorted(found['collectives'].items()))
        or 'none'
    )
    return (
        f'| {found["topology"]} | {found["mesh"]["data"]} x {found["mesh"]["fsdp"]} | {found["batch"]} | '
        f'{e["used"] / 1e9:.2f}{"" if e["fits"] else " (does not fit)"} | {found["flops"] / 1e12:.3f} | '
        f'{found["bytes"] / 1e9:.1f} | {listed} | {1e3 * e["compute"]:.1f} | {1e3 * e["memory"]:.1f} | '
        f'{1e3 * e["collectives"]:.2f} | {1e3 * e["step"]:.1f} | {e["efficiency"]:.1%} | '
        f'{found["compile_seconds"]:.0f} |'
    )


HEAD = (
    '| topology | data x fsdp | batch | memory a device, GB | TFLOP a device | GB accessed | collectives | compute, '
    'ms* | memory, ms* | collectives, ms* | step, ms* | efficiency* | compiled in, s |\n|' + '---|' * 13
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--topology', action='append', default=[], help='such as v5e:2x2; several may be given')
    parser.add_argument('--tracklets_per_device', type=int, default=16, help='rows of the batch a device')
    parser.add_argument('--people', type=int, default=625, help='classes (MARS: 625)')
    parser.add_argument(
        '--set', action='append', default=[], metavar='FIELD=VALUE', help='fields of configs/default.py'
    )
    parser.add_argument('--timeout', type=int, default=1800, help='seconds for each topology')
    parser.add_argument('--json', type=own_path, help='file to which each result is added, one a line')
    parser.add_argument('--hlo', type=own_path, help='file for the text of the compiled program')
    parser.add_argument(
        '--here', action='store_true', help='one topology, in this process, JSON on the last line (used internally)'
    )
    given = parser.parse_args()
    topologies = given.topology or ['v5e:2x2']
    if given.here:
        print(json.dumps(measure(topologies[0], given)))
        return
    say(HEAD)
    for topology in topologies:  # libtpu may crash for a topology: each in a process of its own
        rest = [a for a in sys.argv[1:] if not a.startswith('--topology')]
        try:
            ended = subprocess.run(
                [sys.executable, __file__, '--here', f'--topology={topology}', *rest],
                capture_output=True,
                text=True,
                timeout=given.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            say(f'| {topology} | not compiled within {given.timeout} s |')
            continue
        if ended.returncode:
            say(f'| {topology} | failed with exit code {ended.returncode}: {stated_reason(ended.stderr)} |')
            continue
        found = json.loads(ended.stdout.strip().splitlines()[-1])
        if given.json:
            with open(given.json, 'a') as file:
                file.write(json.dumps(found) + '\n')
        say(row(found))


if __name__ == '__main__':
    with one_sentence():
        main()
