"""Writes the shards of a data set as an Apache Beam pipeline, for corpora that outgrow one machine.

Each shard is written by whichever worker takes it, so that all workers need to see the source and data_dir under the same paths.
Needs requirements-beam.txt.
"""

import json
import os
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from data_prep.checked_frames import MOST_REPORTED, BadFrames, CheckedReader, bad_frames_error, checked_reader
from data_prep.raw_dataset import RawDataset
from data_prep.tfds_builder import Shard, record_features, write_shard
from pvlad_jax.errors import UserError

_BAD = '.bad.json'


def beam_writer(raw: RawDataset, options: str = '') -> Callable[[str, Sequence[Shard]], list[int]]:
    """Returns `write_shards` for build().

    Arguments:
      options: Beam's own, such as '--runner=FlinkRunner --flink_master=HOST:PORT'; empty = the local runner.
    Raises UserError where Beam is not installed or does not know the options' runner.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError('--beam needs Apache Beam: pip install -r requirements-beam.txt, in an environment of its own.') from error
    try:
        parsed = PipelineOptions(shlex.split(options))
        beam.Pipeline(options=parsed)  # makes the runner, and thereby knows whether it can
    except (ValueError, ImportError, RuntimeError) as error:
        raise UserError(f'Beam does not take --beam_options={options!r}: {error}') from error
    return partial(_write_shards, checked_reader(raw), raw.encoding, parsed)


def _write_shards(read: CheckedReader, encoding: str, options, split: str, shards: Sequence[Shard]) -> list[int]:
    import apache_beam as beam

    with beam.Pipeline(options=options) as pipeline:
        shards_ = pipeline | f'{split} shards' >> beam.Create(shards) | f'{split} spread' >> beam.Reshuffle()
        _ = shards_ | f'{split} write' >> beam.Map(partial(_write, read, encoding))
    _raise_bad_frames(shards)
    return [os.path.getsize(s.path) for s in shards]


def _write(read: CheckedReader, encoding: str, shard: Shard) -> None:
    bad: list[str] = []

    def records():
        for source in shard.sources:
            try:
                frames = read(source)
            except BadFrames as error:
                bad.extend(error.args[0])
                if len(bad) >= MOST_REPORTED:
                    return
            else:
                if not bad:
                    yield source, frames

    # Runners may try a shard twice, even at the same time: only a whole file gets its name.
    attempt = f'{shard.path}.attempt{os.getpid()}_{os.urandom(4).hex()}'
    try:
        write_shard(attempt, records(), record_features(encoding))
        os.replace(attempt, shard.path)
    finally:
        Path(attempt).unlink(missing_ok=True)
    if bad:
        # A file, not an exception: runners repeat what fails and wrap what they report.
        Path(shard.path + _BAD).write_text(json.dumps(bad))


def _raise_bad_frames(shards: Sequence[Shard]) -> None:
    bad = [line for s in shards if os.path.exists(s.path + _BAD) for line in json.loads(Path(s.path + _BAD).read_text())]
    if bad:
        raise bad_frames_error(bad)
