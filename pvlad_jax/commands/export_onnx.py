"""python -m pvlad_jax export_onnx: a trained network -> a file for ONNX Runtime."""

import argparse

from pvlad_jax.commands.arguments import Parser, output_file
from pvlad_jax.core.paths import remote_or_user_path
from pvlad_jax.core.terminal import say


def add_arguments(parser: Parser) -> None:
    parser.description = """\
A trained network as one ONNX file: uint8 clips and masks in, unit embeddings out, weights and pixel normalisation
inside.

  python -m pvlad_jax export_onnx --model=runs/mars --output=mars.onnx

The file is run in ONNX Runtime on random clips and compared with the network; one that differs is not left."""
    parser.add_argument(
        '--model', required=True, metavar='WORKDIR', help='working directory of a training, or an export of it'
    )
    parser.add_argument(
        '--output',
        required=True,
        type=output_file('.onnx'),
        metavar='FILE',
        help='X.onnx; an existing file is replaced',
    )
    parser.add_argument('--checkpoint', choices=('last', 'best'), help='which one; default: as the training says')


def run(options: argparse.Namespace) -> None:
    import onnx  # noqa: F401  what is not installed is said before anything is loaded
    import onnxruntime  # noqa: F401

    from pvlad_jax.api import load
    from pvlad_jax.runs.onnx_file import write_onnx

    write_onnx(load(remote_or_user_path(options.model), options.checkpoint).model, options.output, say)
