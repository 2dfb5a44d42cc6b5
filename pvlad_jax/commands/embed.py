"""python -m pvlad_jax embed: own tracklets, or a video and its tracks -> a table of embeddings."""

import argparse
import contextlib
import dataclasses
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator

from pvlad_jax.commands.arguments import Parser, date, disk_path, natural, plain_text, positive
from pvlad_jax.core.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED, UserError
from pvlad_jax.core.file_names import storable_text
from pvlad_jax.core.paths import remote_or_user_path
from pvlad_jax.core.progress import progress
from pvlad_jax.core.terminal import complain, say

_MAX_SHOWN = 10  # lines of one kind


def add_arguments(parser: Parser) -> None:
    parser.description = """\
One embedding of each tracklet: of folders of frames, or of the people in a video.

  python -m pvlad_jax embed --model=runs/mars --input=walk.mp4 --tracks=walk_mot.txt --output=walk.parquet
  python -m pvlad_jax embed --model=runs/mars --input=my_tracklets --output=mine.parquet

A folder is searched for folders of images, each of which is a tracklet. A video needs its tracks: MOT Challenge text,
COCO-style JSON, or CSV with the columns frame, track, left, top, width, height. Stopped in any way, the same command
resumes."""
    parser.add_argument(
        '--model', required=True, metavar='WORKDIR', help='working directory of a training, or an export of it'
    )
    parser.add_argument(
        '--input', required=True, type=disk_path, metavar='PATH', help='a video file, or a folder of folders of frames'
    )
    parser.add_argument('--tracks', type=disk_path, metavar='FILE', help='the tracks of the people in the video')
    parser.add_argument(
        '--output',
        required=True,
        type=disk_path,
        metavar='FILE',
        help='X.parquet, or X.npz for python -m pvlad_jax.evaluation',
    )
    parser.add_argument(
        '--camera', type=plain_text, default='', help='name of the camera, kept with each tracklet (for .npz: a number)'
    )
    parser.add_argument(
        '--source', type=plain_text, default='', help='what the column source says; default: the name of the input'
    )
    parser.add_argument(
        '--began',
        type=date,
        metavar='DATE',
        help='when the video began, such as 2026-11-25T14:30 (UTC, or with +01:00); times in the table then '
        'count from 1970, which a search by date needs. Default: from the beginning of the video',
    )
    parser.add_argument(
        '--bit_depth',
        type=natural,
        default=0,
        metavar='BITS',
        help="bits in use in a folder's frames of 16 bits a sample, 8 to 16; default: by the largest value",
    )
    crops = parser.add_argument_group('crops of a video')
    crops.add_argument(
        '--first_frame',
        type=int,
        choices=(0, 1),
        help='the number of the first frame in the tracks; default: by their format',
    )
    crops.add_argument('--margin', type=float, help='added around a box, as a share of its size; default 0')
    crops.add_argument('--min_height', type=positive, help='pixels; smaller crops are left out; default 16')
    crops.add_argument('--min_width', type=positive, help='pixels; default 8')
    parser.add_argument(
        '--min_frames', type=positive, default=1, help='tracklets of fewer frames are left out; default 1'
    )
    parser.add_argument(
        '--save_crops',
        type=disk_path,
        metavar='DIR',
        help='also write the frames of each tracklet to DIR/TRACKLET/FRAME.jpg',
    )
    parser.add_argument('--checkpoint', choices=('last', 'best'), help='which one; default: as the training says')
    parser.add_argument(
        '--clips_per_step', type=positive, help='clips computed together; default 4 on a CPU, 32 elsewhere'
    )


def run(options: argparse.Namespace) -> None:
    from pvlad_jax.commands.embed_crops import CropWriter
    from pvlad_jax.commands.embed_journal import open_journal
    from pvlad_jax.commands.embed_output import check_names, check_output, write_output

    check_output(options.output, options.camera, options.began)
    source, save = _source(options), CropWriter(options.save_crops)
    source.check_crops(save)
    check_names(options.output, source.names, options.input)
    for note in source.notes:
        say(f'Note: {note}')
    shown = len(source.notes)
    model = _model(options)
    job = {
        **source.identity(),
        'model': model.fingerprint,
        'min_frames': options.min_frames,
        'save_crops': str(options.save_crops or ''),  # crops of what was finished before would be missing
    }
    with open_journal(options.output, job) as journal:
        _say_what_is_there(journal, len(source.names))
        began, before = time.monotonic(), len(journal.rows)
        try:
            with _stoppable(), progress('frames', source.total) as advance:
                _embed(model, source, journal, options.min_frames, advance, save)
        except KeyboardInterrupt as error:
            complain(
                f'Stopped: {len(journal.rows):,} of {len(source.names):,} tracklets are kept. The same command resumes.'
            )
            raise SystemExit(EXIT_PREEMPTED if isinstance(error, _Terminated) else EXIT_INTERRUPTED) from None
        seconds = time.monotonic() - began
        for note in source.notes[shown:]:
            say(f'Note: {note}')
        rows = sorted(journal.rows.values(), key=lambda row: row.order)
        _report_left_out(rows)
        kept = [row for row in rows if not row.reason]
        if not kept:
            journal.remove()
            raise UserError(
                f'None of the {len(rows):,} tracklets of {options.input} could be embedded. '
                + (str(source.failure) if source.failure else 'The lines above say why.')
            )
        write_output(
            options.output,
            kept,
            source=options.source or storable_text(options.input.name),
            camera=options.camera,
            began=options.began or 0.0,
            fingerprint=model.fingerprint,
        )
        journal.remove()
    rate = f' ({source.total / seconds:.0f} frames of the source a second)' if not before and seconds > 0 else ''
    say(
        f'{options.output}: {len(kept):,} tracklets, {sum(row.frames for row in kept):,} frames, {model.size} numbers '
        f'each; {seconds:.1f} s{rate}.'
    )
    if source.failure:
        raise UserError(f'{source.failure} The tracklets before its end are in {options.output}.')


def _say_what_is_there(journal, tracklets: int) -> None:
    """What an earlier start of the same output has left, of so many tracklets."""
    if journal.restarted:
        say(
            f'Note: what an earlier start had finished is of another job (changed: {journal.restarted}), and is made '
            'again.'
        )
    if journal.damaged:
        say(f'Note: {journal.path} is damaged ({journal.damaged}). What is missing is made again.')
    if journal.rows:
        say(f'Resuming: {len(journal.rows):,} of {tracklets:,} tracklets are there already.')


def _source(options: argparse.Namespace):
    """UserError where the input is neither, or does not go with --tracks."""
    from pvlad_jax.commands.embed_sources import TrackletFolders, VideoWithTracks
    from pvlad_jax.video import CropRules

    rules = {field.name: getattr(options, field.name) for field in dataclasses.fields(CropRules)}
    rules = {name: value for name, value in rules.items() if value is not None}
    if options.input.is_dir():
        of_video = [name for name in ('tracks', 'began', 'first_frame') if getattr(options, name) is not None] + [
            *rules
        ]
        if of_video:
            raise UserError(f'--{of_video[0]} belongs to a video, but --input={options.input} is a folder.')
        return TrackletFolders(options.input, options.bit_depth)
    if not options.input.exists():
        raise UserError(f'There is no file or folder {options.input} (--input).')
    if options.bit_depth:
        raise UserError(f'--bit_depth belongs to a folder of frames, but --input={options.input} is a file.')
    if not options.tracks:
        raise UserError(
            f'--input={options.input} is a file: give --tracks=FILE with the boxes of the people in it (MOT Challenge '
            'text, COCO-style JSON or CSV). A tracker makes one; this program has none.'
        )
    return VideoWithTracks(options.input, options.tracks, CropRules(**rules), options.first_frame)


def _model(options: argparse.Namespace):
    from pvlad_jax.api import load
    from pvlad_jax.launch import compile_cache
    from pvlad_jax.runs.workdir import open_workdir

    workdir = remote_or_user_path(options.model)
    model = load(workdir, options.checkpoint, options.clips_per_step)
    compile_cache.use(model.model.config.compile_cache, open_workdir(workdir))
    return model


def _embed(model, source, journal, min_frames: int, advance, save) -> None:
    """All that is not done yet goes into the journal."""
    from pvlad_jax.commands.embed_sources import SHORT

    def events() -> Iterator:
        for event in source.events(journal.rows, advance, save):
            yield event
            row = source.rows.get(event.key)
            if getattr(event, 'drop', False):
                journal.add(row)

    for done in model.stream(events()):
        row = source.rows.pop(done.key)
        if done.frames < min_frames:
            journal.add(row._replace(reason=f'{SHORT}: {done.frames} frames of at least {min_frames}'))
        else:
            journal.add(row._replace(embedding=done.embedding))


def _report_left_out(rows: list) -> None:
    noted, left_out = [row for row in rows if row.note], [row for row in rows if row.reason]
    for row in noted[:_MAX_SHOWN]:
        say(f'Note: {row.tracklet}: {row.note}.')
    if len(noted) > _MAX_SHOWN:
        say(f'Note: and {len(noted) - _MAX_SHOWN:,} more tracklets with boxes that are left out.')
    for row in left_out[:_MAX_SHOWN]:
        say(f'Left out: {row.tracklet}, {row.reason}.')
    if left_out:
        counts = Counter(row.reason.partition(':')[0] for row in left_out)
        say(
            f'Left out in all: {len(left_out):,} of {len(rows):,} tracklets ('
            + ', '.join(f'{count:,} {kind}' for kind, count in sorted(counts.items()))
            + ').'
        )


class _Terminated(KeyboardInterrupt):
    """SIGTERM."""


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends the block like Ctrl-C. Outside the main thread signals have no effect on it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
