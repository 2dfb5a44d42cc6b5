"""What benchmarks/compile_for_tpu.py reads from a compiled program, and the arithmetic of its estimate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.compile_for_tpu import CHIPS, collectives, estimate


@pytest.fixture(scope='module')
def mesh():
    return Mesh(np.array(jax.devices()).reshape(2, 4), ('data', 'fsdp'), axis_types=(jax.sharding.AxisType.Auto,) * 2)


def compiled(function, mesh, out, *shapes):
    """HLO of a function of float32 arrays [(shape, partition)]."""
    arguments = [
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec)))
        for shape, spec in shapes
    ]
    return (
        jax.jit(function, out_shardings=NamedSharding(mesh, PartitionSpec(*out))).lower(*arguments).compile().as_text()
    )


def test_an_all_reduce_is_counted_with_its_bytes(mesh):
    hlo = compiled(lambda x: x.sum(0), mesh, (), ((64, 1000), (('data', 'fsdp'),)))
    assert collectives(hlo, 8) == {'all-reduce': {'count': 1, 'bytes': 4000, 'moved': 2 * 4000 * 7 / 8}}


def test_an_all_gather_of_one_axis_is_counted_with_its_group(mesh):
    hlo = compiled(lambda x: x * 2, mesh, (), ((64, 100), ('fsdp',)))
    assert collectives(hlo, 8) == {'all-gather': {'count': 1, 'bytes': 25600, 'moved': 25600 * 3 / 4}}


def test_a_program_of_one_device_has_none(mesh):
    assert collectives(compiled(lambda x: x @ x.T, mesh, (), ((8, 8), ())), 8) == {}


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        (
            '  %a = (f32[4]{0}, f32[2,3]{1,0}) all-reduce(%x, %y), replica_groups=[2,4]<=[8], to_apply=%add',
            ('all-reduce', 40, 2 * 40 * 3 / 4),
        ),
        (
            '  %a = (bf16[8]{0}, bf16[32]{0}) all-gather-start(%x), replica_groups={{0,1,2,3},{4,5,6,7}}',
            ('all-gather', 64, 64 * 3 / 4),
        ),
        (
            '  %a = f32[8]{0} reduce-scatter(%x), replica_groups=[1,8]<=[8], to_apply=%add',
            ('reduce-scatter', 256, 256 * 7 / 8),
        ),
    ],
)
def test_forms_that_tpu_programs_use(line, expected):
    kind, size, moved = expected
    assert collectives(line, 8) == {kind: {'count': 1, 'bytes': size, 'moved': moved}}
    assert collectives('  %b = f32[4]{0} all-reduce-done(%a)', 8) == {}


def test_a_collective_beside_other_work_counts_once_and_a_scattered_sum_as_reduce_scatter():
    gather = '  %a = bf16[32]{0} all-gather(%x), channel_id=7, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}'
    total = '  %r = f32[64]{0} all-reduce(%x), channel_id=9, replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add'
    computations = (
        ('%async_collective_fusion.1 (x: bf16[8]) -> bf16[32]', gather),
        ('%fusion.2 (x: bf16[8]) -> bf16[32]', gather),
        ('%all-reduce-scatter.3 (x: f32[64]) -> f32[16]', total),
        ('ENTRY %main (x: f32[64]) -> f32[16]', total.replace('channel_id=9', 'channel_id=10')),
    )
    hlo = '\n'.join(f'{head} {{\n{line}\n}}' for head, line in computations)
    assert collectives(hlo, 8) == {
        'all-gather': {'count': 1, 'bytes': 64, 'moved': 48.0},
        'reduce-scatter': {'count': 1, 'bytes': 256, 'moved': 192.0},
        'all-reduce': {'count': 1, 'bytes': 256, 'moved': 384.0},
    }


def test_the_estimate_is_the_formula():
    chip = CHIPS['v5e']
    found = {
        'topology': 'v5e:2x2',
        'cores': 1,
        'flops': chip.peak * 1e-3,
        'bytes': chip.bandwidth * 3e-3,
        'arguments': 8e9,
        'temporaries': 8.5e9,
        'outputs_apart': 0,
        'collectives': {'all-reduce': {'moved': chip.ici * 1e-3}},
    }
    e = estimate(found)
    assert (e['compute'], e['memory'], e['collectives']) == pytest.approx((1e-3, 3e-3, 1e-3))
    assert e['step'] == pytest.approx(4e-3) and e['efficiency'] == pytest.approx(0.75)
    assert not e['fits']  # 16.5 of 16 GB
    halves = estimate({**found, 'cores': 2})
    assert halves['compute'] == pytest.approx(2e-3) and halves['efficiency'] == pytest.approx(0.75)
