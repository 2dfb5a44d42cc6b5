"""Writes the shards of a data set as an Apache Beam pipeline, for corpora that outgrow one machine.

Each shard is written by whichever worker takes it, so that all workers need to see the source and data_dir under the
same paths. Needs requirements-beam.txt.
"""

import json
import os
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict

import msgspec

from data_prep.builder.frame_reader import MAX_REPORTED, BadFrames, CheckedReader, bad_frames_error, checked_reader
from data_prep.builder.stored_frame import FrameCounts
from data_prep.builder.tfds_builder import Shard, record_features, write_shard
from data_prep.raw_dataset import RawDataset
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.saved_files import Int64, json_object, reading

_REPORT = '.report.json'


class _Report(TypedDict):
    bad: list[str]
    encodings: dict[str, Int64]
    changes: dict[str, Int64]


def beam_writer(
    raw: RawDataset, options: str = '', counts: FrameCounts | None = None, decode: bool = True
) -> Callable[[str, Sequence[Shard]], list[int]]:
    """Returns `write_shards` for build().

    Arguments:
      options: Beam's own, such as '--runner=FlinkRunner --flink_master=HOST:PORT'; empty = the local runner.
      counts: Is filled with what the frames were stored as; the same object as build()'s.
      decode: As of build().
    Raises UserError where Beam is not installed or does not know the options' runner.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError(
            '--beam needs Apache Beam: pip install -r requirements-beam.txt, in an environment of its own.'
        ) from error
    try:
        parsed = PipelineOptions(shlex.split(options))
        beam.Pipeline(options=parsed)  # makes the runner, and so knows whether it can
    except (ValueError, ImportError, RuntimeError) as error:
        raise UserError(f'Beam does not take --beam_options={options!r}: {error}') from error
    return partial(
        _write_shards, checked_reader(raw, decode), raw.encoding, parsed, FrameCounts() if counts is None else counts
    )


def _write_shards(
    read: CheckedReader, encoding: str, options, counts: FrameCounts, split: str, shards: Sequence[Shard]
) -> list[int]:
    import apache_beam as beam

    with beam.Pipeline(options=options) as pipeline:
        shards_ = pipeline | f'{split} shards' >> beam.Create(shards) | f'{split} spread' >> beam.Reshuffle()
        _ = shards_ | f'{split} write' >> beam.Map(partial(_write, read, encoding))
    _take_reports(shards, counts)
    return [os.path.getsize(s.path) for s in shards]


def _write(read: CheckedReader, encoding: str, shard: Shard) -> None:
    bad: list[str] = []
    counts = FrameCounts()

    def records():
        for source in shard.sources:
            try:
                frames, found = read(source)
            except BadFrames as error:
                bad.extend(error.args[0])
                if len(bad) >= MAX_REPORTED:
                    return
            else:
                if not bad:
                    counts.add(found)
                    yield source, frames

    # Runners may try a shard twice, even at the same time: only a whole file gets its name.
    attempt = f'{shard.path}.attempt{os.getpid()}_{os.urandom(4).hex()}'
    try:
        write_shard(attempt, records(), record_features(encoding))
        os.replace(attempt, shard.path)
    finally:
        Path(attempt).unlink(missing_ok=True)
    # A file, not an exception: runners repeat what fails and wrap what they report.
    report = Path(f'{attempt}{_REPORT}')
    report.write_text(json.dumps({'bad': bad, 'encodings': counts.encodings, 'changes': counts.changes}))
    os.replace(report, shard.path + _REPORT)


def _take_reports(shards: Sequence[Shard], counts: FrameCounts) -> None:
    bad: list[str] = []
    for shard in shards:
        path = Path(shard.path + _REPORT)
        with reading(path, 'Build the data set again.'):
            report = msgspec.convert(json_object(path.read_bytes()), _Report)
        path.unlink()
        bad += report['bad']
        counts.add(FrameCounts(Counter(report['encodings']), Counter(report['changes'])))
    if bad:
        raise bad_frames_error(bad)
