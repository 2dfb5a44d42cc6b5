"""Parameters, FLOPs a clip and feature map of every backbone, as the table of docs/backbones.md.

    python benchmarks/backbone_table.py --clip=16x256x128 --output=backbones.json

FLOPs are XLA's count for the forward pass of one clip in float32 with its native convolution (a multiply and an add are
two); the program is lowered, never run.
"""

import json
import sys
from pathlib import Path

if __package__ in (None, ''):  # run as a script: the repository's root in place of benchmarks/
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import jax
import numpy as np
from absl import app, flags

from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import user_path
from pvlad_jax.core.terminal import say
from pvlad_jax.launch.command_flags import parse_command_flags
from pvlad_jax.models.backbones import BACKBONES, build_backbone

FLAGS = flags.FLAGS


def measure(name: str, clip: tuple[int, int, int], temporal: str, last_stride: int) -> dict:
    """One row. Raises UserError for a clip smaller than the stride."""
    module = build_backbone(name, temporal, last_stride, batch_norm='frozen', clip=clip)
    x = jax.ShapeDtypeStruct((1, *clip, 3), np.float32)
    valid = jax.ShapeDtypeStruct((1, clip[0]), bool)
    shapes = jax.eval_shape(lambda k, x, v: module.init(k, x, v, False), jax.random.key(0), x, valid)

    def forward(variables, x, valid):
        return module.apply(variables, x, valid, False)[0]

    # Lowered for TPU, where `conv3d` is the native convolution; nothing of that platform is needed to count.
    lowered = jax.jit(forward).trace(shapes, x, valid).lower(lowering_platforms=('tpu',))
    features = lowered.out_info
    return {
        'name': name,
        'temporal': temporal,
        'last_stride': last_stride,
        'parameters': sum(leaf.size for leaf in jax.tree.leaves(shapes['params'])),
        'flops': float(lowered.cost_analysis()['flops']),
        'features': list(features.shape[1:]),
        'strides': list(BACKBONES[name].strides(last_stride)),
    }


def as_markdown(rows: list[dict]) -> str:
    lines = ['| backbone | last stride | parameters | GFLOP a clip | feature map (t x h x w x C) | strides (T, H, W) |']
    lines.append('|---|---|---|---|---|---|')
    for row in rows:
        name = row['name'] if row['temporal'] == '3d' else f'{row["name"]}, 2D control'
        features, strides = (' x '.join(map(str, row[key])) for key in ('features', 'strides'))
        lines.append(
            f'| {name} | {row["last_stride"]} | {row["parameters"]:,} | {row["flops"] / 1e9:,.1f} | {features} | '
            f'{strides} |'
        )
    return '\n'.join(lines)


def main(_argv: list[str]) -> None:
    with one_sentence():
        try:
            clip = tuple(int(size) for size in FLAGS.clip.split('x'))
            if len(clip) != 3:
                raise ValueError
        except ValueError:
            raise UserError(f'--clip={FLAGS.clip} is not of the form FRAMESxHEIGHTxWIDTH.') from None
        rows = [measure(name, clip, FLAGS.temporal, stride) for name in BACKBONES for stride in (1, 2)]
    if FLAGS.output:
        user_path(FLAGS.output).write_text(json.dumps({'clip': clip, 'rows': rows}, indent=1) + '\n')
    say(as_markdown(rows))


if __name__ == '__main__':
    flags.DEFINE_string('clip', '16x256x128', 'Frames x height x width.')
    flags.DEFINE_enum('temporal', '3d', ('3d', '2d'), 'The networks, or their 2D controls.')
    flags.DEFINE_string('output', '', 'A JSON file to write as well.')
    app.run(main, flags_parser=parse_command_flags())
