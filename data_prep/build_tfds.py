"""Command line: builds a data set of tracklets from raw data, or checks one that was built.

    python data_prep/build_tfds.py --dataset=synthetic --people=40 --test_people=20 --twins --name=synthetic_twins
    python data_prep/build_tfds.py --dataset=tracklet_folder --source=DIR --name=mine
    python data_prep/build_tfds.py --dataset=mars --source=DIR              # DIR holds bbox_train, bbox_test (or .zip, .tar) and info
    python data_prep/build_tfds.py --dataset=ilids_vid --source=i-LIDS-VID.tar
    python data_prep/build_tfds.py --dataset=prid2011 --source=prid_2011.zip --info_dir=DIR_OF_SPLITS --jpeg_quality=95
    python data_prep/build_tfds.py --dataset=mars --verify --source=DIR     # again, to the frame
    python data_prep/build_tfds.py --dataset=mars --source=DIR --beam --beam_options='--direct_num_workers=8'

A source that differs from what is documented of its data set is refused with the list of differences, or built as NAME_partial with
--allow_partial. Exit codes: 0 done or already there, 2 a mistake that the message explains, 130 stopped.
"""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

if __package__ in (None, ''):  # run as a script: the repository's root in place of data_prep/, whose names are too plain
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import app, flags
from rich.console import Console

from data_prep.builder.bit_depth import with_bit_depth
from data_prep.builder.build import build, data_set_path, is_built
from data_prep.builder.stored_frame import FrameCounts
from data_prep.builder.summary import print_checks, print_summary
from data_prep.issues import require_complete
from data_prep.raw_dataset import RawDataset
from pvlad_jax.core import terminal
from pvlad_jax.core.environment_errors import environment_error
from pvlad_jax.core.errors import EXIT_USER_ERROR, UserError
from pvlad_jax.core.library_messages import quiet_libraries

FLAGS = flags.FLAGS
flags.DEFINE_string('dataset', None, 'Which raw data: synthetic, tracklet_folder, mars, ilids_vid or prid2011.')
flags.DEFINE_string('source', None, 'Folder or archive with the raw data; not needed for synthetic.')
flags.DEFINE_string('data_dir', 'data', 'Where data sets lie.')
flags.DEFINE_string('name', None, 'Name of the data set in data_dir; the value of --dataset if not given.')
flags.DEFINE_boolean('overwrite', False, 'Replace a data set of this name.')
flags.DEFINE_integer('workers', 0, 'Threads (processes for synthetic) that read ahead; 0 = by the number of cores.', lower_bound=0)
flags.DEFINE_string('info_dir', None, 'mars, ilids_vid, prid2011: folder with their tables, where the source has none.')
flags.DEFINE_boolean('allow_partial', False, 'mars, ilids_vid, prid2011: build what is there as NAME_partial.')
flags.DEFINE_integer('jpeg_quality', 0, 'ilids_vid, prid2011: store JPEG of this quality; 0 = the lossless PNG frames as they are.', 0, 100)
flags.DEFINE_integer('bit_depth', 0, 'Bits in use in frames of 16 bits a sample, 8 to 16; 0 = by the largest value.')
flags.DEFINE_boolean('decode_frames', True, 'Decode every frame to find damage; without, only headers and ends are checked.')
flags.DEFINE_string('frame_pattern', '', r"tracklet_folder: a regular expression that finds the frame number in a file's name, in its "
                    r"group frame, such as 'frame_(?P<frame>\d+)'; empty = the number is found by itself.")
flags.DEFINE_string('camera_numbers', '', "tracklet_folder: numbers of camera folders, such as 'c0=unknown,entrance=3'; "
                    'empty = by their names.')
flags.DEFINE_boolean('verify', False, 'Check a data set that was built, to the frame; with --source also against its source.')
flags.DEFINE_boolean('beam', False, 'Write with Apache Beam (requirements-beam.txt).')
flags.DEFINE_string('beam_options', '', "Options for Beam, such as '--runner=FlinkRunner --flink_master=HOST:PORT'.")
flags.DEFINE_integer('people', 40, 'synthetic: people in train.', lower_bound=2)
flags.DEFINE_integer('test_people', 20, 'synthetic: people in query and gallery.', lower_bound=2)
flags.DEFINE_integer('cameras', None, 'synthetic: cameras.', lower_bound=2)
flags.DEFINE_integer('tracklets_per_camera', None, 'synthetic: tracklets of a person in each camera.', lower_bound=2)
flags.DEFINE_integer('min_frames', None, 'synthetic: shortest tracklet.', lower_bound=1)
flags.DEFINE_integer('max_frames', None, 'synthetic: longest tracklet.', lower_bound=1)
flags.DEFINE_boolean('twins', None, 'synthetic: pairs in the same clothes and build, who differ by gait only.')
flags.DEFINE_integer('seed', None, 'synthetic: seed of people, cameras and tracklets.')

SYNTHETIC_OPTIONS = {  # flag -> argument of synthetic_raw_dataset
    'people': 'train_people',
    'test_people': 'test_people',
    'cameras': 'cameras',
    'tracklets_per_camera': 'tracklets_per_camera',
    'min_frames': 'min_frames',
    'max_frames': 'max_frames',
    'twins': 'twins',
    'seed': 'seed',
}


def _synthetic(name: str) -> RawDataset:
    from data_prep.datasets.synthetic import scan_synthetic

    options = {argument: FLAGS[flag].value for flag, argument in SYNTHETIC_OPTIONS.items()}
    return scan_synthetic(name, **{k: v for k, v in options.items() if v is not None})


def _tracklet_folder(name: str) -> RawDataset:
    from data_prep.datasets.tracklet_folder.scan import scan_tracklet_folder
    from data_prep.sources.camera_numbers import given_numbers

    return scan_tracklet_folder(_source(), name, FLAGS.frame_pattern, given_numbers(FLAGS.camera_numbers))


def _mars(name: str) -> RawDataset:
    from data_prep.datasets.mars.scan import scan_mars

    return scan_mars(_source(), name, FLAGS.info_dir)


def _ilids_vid(name: str) -> RawDataset:
    from data_prep.datasets.ilids_vid import scan_ilids_vid

    return scan_ilids_vid(_source(), name, FLAGS.info_dir, FLAGS.jpeg_quality)


def _prid2011(name: str) -> RawDataset:
    from data_prep.datasets.prid2011 import scan_prid2011

    return scan_prid2011(_source(), name, FLAGS.info_dir, FLAGS.jpeg_quality)


SCANNERS: dict[str, Callable[[str], RawDataset]] = {
    'synthetic': _synthetic,
    'tracklet_folder': _tracklet_folder,
    'mars': _mars,
    'ilids_vid': _ilids_vid,
    'prid2011': _prid2011,
}


def _recount() -> Callable | None:
    """The function that counts a built data set of this kind."""
    from data_prep.datasets.ilids_vid import recount_ilids_vid
    from data_prep.datasets.mars.scan import recount_mars
    from data_prep.datasets.prid2011 import recount_prid2011

    return {'mars': recount_mars, 'ilids_vid': recount_ilids_vid, 'prid2011': recount_prid2011}.get(FLAGS.dataset)


def run(console: Console) -> None:
    """Does what the flags say. Raises UserError."""
    if FLAGS.dataset not in SCANNERS:
        given = 'is missing' if not FLAGS.dataset else f'is {FLAGS.dataset!r}'
        raise UserError(f'--dataset {given}; it must be one of: {", ".join(SCANNERS)}.')
    for flag in ('frame_pattern', 'camera_numbers'):
        if FLAGS[flag].value and FLAGS.dataset != 'tracklet_folder':
            raise UserError(f'--{flag} is for --dataset=tracklet_folder; the names of {FLAGS.dataset} are fixed.')
    name = FLAGS.name or FLAGS.dataset
    path = data_set_path(FLAGS.data_dir, name)
    if FLAGS.verify:
        _verify(path, name, console)
        return
    raw = _scan(name, console)
    path = data_set_path(FLAGS.data_dir, raw.name)
    stood = is_built(path) and not FLAGS.overwrite
    writer, counts = None, FrameCounts()
    if FLAGS.beam:
        from data_prep.builder.beam import beam_writer

        writer = beam_writer(raw, FLAGS.beam_options, counts, FLAGS.decode_frames)
    build(raw, FLAGS.data_dir, overwrite=FLAGS.overwrite, workers=FLAGS.workers, progress=writer is None, write_shards=writer,
          counts=counts, decode=FLAGS.decode_frames)
    for note in counts.notes():
        console.print(note, highlight=False)
    done = 'stands already, with the same tracklets' if stood else 'is built'
    console.print(f'{path} {done}.', highlight=False, soft_wrap=True)


def _scan(name: str, console: Console) -> RawDataset:
    """Scans, prints what was found, and refuses what differs."""
    with console.status(f'Looking through {FLAGS.source}' if FLAGS.source else 'Drawing people'):
        raw = with_bit_depth(SCANNERS[FLAGS.dataset](name), FLAGS.bit_depth)
    if raw.checks:
        print_checks(raw.checks, console)
    if any(raw.splits.values()):
        print_summary(raw, console)
    return require_complete(raw, FLAGS.allow_partial)


def _verify(path: Path, name: str, console: Console) -> None:
    from data_prep.builder.verify import verify

    raw = None
    if FLAGS.source:
        raw = _scan(name.removesuffix('_partial'), console)
        path = data_set_path(FLAGS.data_dir, raw.name)
    frames = verify(path, console, raw, _recount())
    against = ' and are those of the source' if raw is not None else ''
    console.print(f'{path}: all {frames:,} frames decode{against}; the tables agree.', highlight=False, soft_wrap=True)


def _source() -> str:
    if not FLAGS.source:
        raise UserError(f'--dataset={FLAGS.dataset} needs --source, the folder or archive with the raw data.')
    return FLAGS.source


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        terminal.complain(f'Unknown arguments: {" ".join(argv[1:])}. Options are written --name=value.')
        sys.exit(EXIT_USER_ERROR)
    quiet_libraries()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite end cleans up as Ctrl-C does
    try:
        run(terminal.console())
    except UserError as error:
        terminal.complain(str(error))
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        terminal.complain('Stopped; nothing half-built was left. The same command starts again.')
        sys.exit(130)
    except Exception as error:
        if not (reason := environment_error(error)):
            raise
        terminal.complain(reason)
        sys.exit(EXIT_USER_ERROR)


if __name__ == '__main__':
    app.run(main)
