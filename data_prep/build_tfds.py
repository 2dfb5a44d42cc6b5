"""Command line: builds a data set of tracklets from raw data, or checks one that was built.

    python data_prep/build_tfds.py --dataset=synthetic --people=40 --test_people=20 --twins --name=synthetic_twins
    python data_prep/build_tfds.py --dataset=tracklet_folder --source=DIR --name=mine
    python data_prep/build_tfds.py --dataset=mars --source=DIR     # holds bbox_train, bbox_test (or .zip, .tar), info
    python data_prep/build_tfds.py --dataset=ilids_vid --source=i-LIDS-VID.tar
    python data_prep/build_tfds.py --dataset=prid2011 --source=prid_2011.zip --info_dir=DIR_OF_SPLITS --jpeg_quality=95
    python data_prep/build_tfds.py --dataset=mars --verify --source=DIR     # again, to the frame
    python data_prep/build_tfds.py --dataset=mars --source=DIR --beam --beam_options='--direct_num_workers=8'

A source that differs from what is documented of its data set is refused with the list of differences, or built as
NAME_partial with --allow_partial. Flags that would have no effect are refused. Exit codes: 0 done or already there, 2 a
mistake that the message explains, 130 stopped.
"""

import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

# Run as a script: the repository's root in place of data_prep/, whose names are too plain.
if __package__ in (None, ''):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from absl import app, flags
from rich.console import Console

from data_prep.builder.bit_depth import with_bit_depth
from data_prep.builder.build import build, data_set_path, is_built
from data_prep.builder.built_options import built_options
from data_prep.builder.stored_frame import FrameCounts
from data_prep.builder.summary import print_checks, print_summary
from data_prep.datasets import DATASETS
from data_prep.datasets.dataset_source import DatasetSource, Flag
from data_prep.datasets.given_flags import refuse_flags_without_effect
from data_prep.issues import require_complete
from data_prep.raw_dataset import RawDataset
from pvlad_jax.core import terminal
from pvlad_jax.core.environment_errors import environment_error
from pvlad_jax.core.errors import EXIT_USER_ERROR, UserError
from pvlad_jax.core.library_messages import quiet_libraries
from pvlad_jax.launch.command_flags import parse_command_flags

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues = FLAGS) -> None:
    """Defines the flags of the command and those that the data sets declare."""
    names = list(DATASETS)
    flags.DEFINE_string('dataset', None, f'Which raw data: {", ".join(names[:-1])} or {names[-1]}.', flag_values=values)
    for flag in _COMMON_FLAGS:
        _define(flag, flag.meaning, values)
    for flag in {flag.name: flag for source in DATASETS.values() for flag in source.flags}.values():
        having = [name for name, source in DATASETS.items() if flag in source.flags]
        _define(flag, f'{", ".join(having)}: {flag.meaning}', values)


_COMMON_FLAGS = (
    Flag('source', str, None, 'Folder or archive with the raw data; not needed for synthetic.'),
    Flag('data_dir', str, 'data', 'Where data sets lie.'),
    Flag('name', str, None, 'Name of the data set in data_dir; the value of --dataset if not given.'),
    Flag('overwrite', bool, False, 'Replace a data set of this name.'),
    Flag('workers', int, 0, 'Threads (processes for synthetic) that read ahead; 0 = by the number of cores.', lower=0),
    Flag('allow_partial', bool, False, 'mars, ilids_vid, prid2011: build what is there as NAME_partial.'),
    Flag('bit_depth', int, 0, 'Bits in use in frames of 16 bits a sample, 8 to 16; 0 = by the largest value.'),
    Flag('decode_frames', bool, True, 'Decode every frame to find damage; without, only headers and ends are checked.'),
    Flag(
        'verify',
        bool,
        False,
        'Check a data set that was built, to the frame; with --source also against its source, which is read with the '
        'flags of the build where they are not given.',
    ),
    Flag('beam', bool, False, 'Write with Apache Beam (requirements-beam.txt).'),
    Flag('beam_options', str, '', "Options for Beam, such as '--runner=FlinkRunner --flink_master=HOST:PORT'."),
)


def _define(flag: Flag, meaning: str, values: flags.FlagValues) -> None:
    if flag.kind is int:
        flags.DEFINE_integer(flag.name, flag.default, meaning, flag.lower, flag.upper, flag_values=values)
    elif flag.kind is bool:
        flags.DEFINE_boolean(flag.name, flag.default, meaning, flag_values=values)
    else:
        flags.DEFINE_string(flag.name, flag.default, meaning, flag_values=values)


def run(given: flags.FlagValues, console: Console) -> None:
    """Does what the flags say. Raises UserError."""
    if given.dataset not in DATASETS:
        what = 'is missing' if not given.dataset else f'is {given.dataset!r}'
        raise UserError(f'--dataset {what}; it must be one of: {", ".join(DATASETS)}.')
    source = DATASETS[given.dataset]
    refuse_flags_without_effect(given, DATASETS)
    name = given.name or given.dataset
    path = data_set_path(given.data_dir, name)
    if given.verify:
        _verify(given, source, path, name, console)
        return
    raw = _scan(given, source, name, console)
    path = data_set_path(given.data_dir, raw.name)
    stood = is_built(path) and not given.overwrite
    writer, counts = None, FrameCounts()
    if given.beam:
        from data_prep.builder.beam import beam_writer

        writer = beam_writer(raw, given.beam_options, counts, given.decode_frames)
    build(
        raw,
        given.data_dir,
        overwrite=given.overwrite,
        workers=given.workers,
        progress=writer is None,
        write_shards=writer,
        counts=counts,
        decode=given.decode_frames,
    )
    for note in counts.notes():
        console.print(note, highlight=False)
    done = 'exists already, with the same tracklets' if stood else 'is built'
    console.print(f'{path} {done}.', highlight=False, soft_wrap=True)


def _scan(
    given: flags.FlagValues,
    source: DatasetSource,
    name: str,
    console: Console,
    built_with: Mapping[str, Any] = MappingProxyType({}),
) -> RawDataset:
    """Scans, prints what was found, and refuses what differs.

    built_with: flags of a build that is to be verified, taken where they are not given now.
    """
    if source.needs_source and not given.source:
        raise UserError(f'--dataset={given.dataset} needs --source, the folder or archive with the raw data.')
    values = {
        name: built_with.get(name, given[name].value) if given[name].value == given[name].default else given[name].value
        for name in ('bit_depth', *(flag.name for flag in source.flags))
    }
    with console.status(f'Looking through {given.source}' if given.source else 'Drawing people'):
        raw = source.scan(name, values | {'source': given.source})
        if given.allow_partial and not raw.checks and not raw.issues:
            raise UserError(
                f'--allow_partial is for data sets whose counts are documented, and {given.dataset} has none. Leave it '
                'out.'
            )
        raw = with_bit_depth(raw, values['bit_depth'])
    if raw.checks:
        print_checks(raw.checks, console)
    if any(raw.splits.values()):
        print_summary(raw, console)
    return require_complete(raw, given.allow_partial)


def _verify(given: flags.FlagValues, source: DatasetSource, path: Path, name: str, console: Console) -> None:
    from data_prep.builder.verify import verify

    raw = None
    if given.source:
        whole = name.removesuffix('_partial')
        raw = _scan(given, source, whole, console, _built_with(given, whole))
        path = data_set_path(given.data_dir, raw.name)
    frames = verify(path, console, raw, source.recount)
    against = ' and are those of the source' if raw is not None else ''
    console.print(f'{path}: all {frames:,} frames decode{against}; the tables agree.', highlight=False, soft_wrap=True)


def _built_with(given: flags.FlagValues, name: str) -> dict[str, Any]:
    """Flags of the data set of this name, whole or partial, that is to be verified."""
    names = (f'{name}_partial', name) if given.allow_partial else (name, f'{name}_partial')
    options = next(filter(None, (built_options(data_set_path(given.data_dir, one)) for one in names)), {})
    if given.info_dir and 'draw_splits' in options:
        raise UserError(
            f'The data set {name} was built with --draw_splits={options["draw_splits"]}, so that --info_dir has no '
            'effect. Leave it out.'
        )
    return options


def main(_argv: list[str]) -> None:
    quiet_libraries()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite end cleans up as Ctrl-C does
    try:
        run(FLAGS, terminal.console())
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
    define_flags()
    app.run(main, flags_parser=parse_command_flags())
