"""python -m pvlad_jax gallery create|add|search|delete|info|verify"""

import argparse
import json
from typing import TYPE_CHECKING

from pvlad_jax.commands.arguments import Parser, disk_path, output_file, plain_text, positive, time
from pvlad_jax.core import terminal
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.progress import progress

if TYPE_CHECKING:
    from pvlad_jax.gallery.gallery import Gallery

DESCRIPTION = """Stores embeddings of tracklets and searches among them.

example:
  python -m pvlad_jax gallery create --gallery=street
  python -m pvlad_jax gallery add --gallery=street --input=monday.parquet --crops=monday_crops
  python -m pvlad_jax gallery search --gallery=street --input=query.parquet --k=10 --other_camera
  python -m pvlad_jax gallery delete --gallery=street --source=monday.mp4
  python -m pvlad_jax gallery info --gallery=street
  python -m pvlad_jax gallery verify --gallery=street

Tables are those of `python -m pvlad_jax embed` (Parquet) or the .npz of an evaluation. Distances are 1 - cosine.
docs/search.md describes backends, filters and what deletion removes."""


_OF_BACKEND = {'kind': 'faiss', 'uri': 'milvus', 'collection': 'milvus'}  # options of `create`
_OF_TIMES = (
    ' Dates are compared with times since 1970 (`embed --began` writes them), other times with seconds since a video '
    'began.'
)
_SEVERAL = {'action': 'append', 'type': plain_text, 'default': []}  # of a name that may be given several times


def add_arguments(parser: Parser) -> None:
    parser.description = DESCRIPTION
    actions = parser.add_subparsers(dest='action', required=True, metavar='|'.join(ACTIONS))
    for name, (summary, example, arguments, job) in ACTIONS.items():
        action = actions.add_parser(
            name,
            help=summary,
            description=f'{summary[0].upper()}{summary[1:]}.\n\nexample:\n'
            f'  {parser.prog} {name} --gallery=street {example}',
        )
        action.add_argument('--gallery', required=True, type=disk_path, help='folder of the gallery')
        action.set_defaults(job=job)
        arguments(action)


def run(options: argparse.Namespace) -> None:
    options.job(options)


def _create_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--model',
        default='',
        help='working directory or export of the model, or its fingerprint; default: that of the first table',
    )
    parser.add_argument(
        '--backend',
        default='exact',
        choices=('exact', 'faiss', 'milvus'),
        help='exact (default) reads every vector; faiss and milvus need requirements-search.txt',
    )
    parser.add_argument('--kind', choices=('ivfpq', 'flat'), help='of the backend faiss (default ivfpq)')
    parser.add_argument(
        '--uri',
        type=plain_text,
        help='of the backend milvus: FILE.db, or http://HOST:PORT (the token is read from MILVUS_TOKEN)',
    )
    parser.add_argument('--collection', type=plain_text, help='of the backend milvus (default pvlad)')


def _create(options: argparse.Namespace) -> None:
    from pvlad_jax.commands.model_fingerprint import fingerprint_of
    from pvlad_jax.gallery.gallery import Gallery

    given = {name: value for name in _OF_BACKEND if (value := getattr(options, name)) is not None}
    for name in given:
        if options.backend != _OF_BACKEND[name]:
            raise UserError(
                f'--{name} is of the backend {_OF_BACKEND[name]}, and this gallery would have the backend '
                f'{options.backend}. Give --backend={_OF_BACKEND[name]}, or leave --{name} out.'
            )
    model = fingerprint_of(options.model)
    Gallery.create(options.gallery, model, options.backend, **given)
    terminal.say(
        f'{options.gallery}: an empty gallery, backend {options.backend}, model {model or "of the first table"}.'
    )


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--input', required=True, type=disk_path, help='table of embeddings, .parquet or .npz')
    parser.add_argument('--crops', type=disk_path, help='folder with a folder of pictures for each tracklet')
    parser.add_argument('--replace', action='store_true', help='a tracklet takes the place of another of its name')
    parser.add_argument('--model', default='', help='the model of a table that does not say its own')


def _add(options: argparse.Namespace) -> None:
    from pvlad_jax.commands.model_fingerprint import fingerprint_of
    from pvlad_jax.gallery.table_file import TableReader

    gallery, reader = _open(options), TableReader(options.input)
    with progress('tracklets read', reader.n_rows) as done:
        added = gallery.add(
            reader, options.crops, replace=options.replace, fingerprint=fingerprint_of(options.model), done=done
        )
    counts = f'{added.added:,} tracklets added, {added.replaced:,} replaced, {added.already_there:,} were there already'
    terminal.say(counts + (f', pictures of {added.pictures:,} stored.' if options.crops else '.'))
    if options.crops and added.names and not added.pictures:
        terminal.complain(
            f'Note: {options.crops} has no folder of pictures for any of these tracklets; it should hold one for each, '
            'as `embed --save_crops` writes them.'
        )


def _search_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--input', required=True, type=disk_path, help='table of the queries, .parquet or .npz')
    parser.add_argument('--k', type=positive, default=10, help='results for each query (default 10)')
    parser.add_argument('--camera', **_SEVERAL, help='only of this camera; may be given several times')
    parser.add_argument('--source', **_SEVERAL, help='only of this source; may be given several times')
    parser.add_argument(
        '--after', type=time, help='only seen after this time: seconds since a video began, or a date (embed --began)'
    )
    parser.add_argument('--before', type=time, help='only seen before this time')
    parser.add_argument('--other_camera', action='store_true', help="none of the query's own camera")
    parser.add_argument('--other_source', action='store_true', help="none of the query's own source")
    parser.add_argument('--threshold', type=disk_path, help='file of `calibrate`: adds same, not sure, nobody here')
    parser.add_argument(
        '--output',
        type=output_file('.json', '.png'),
        help='.json for all of it, .png for a sheet of pictures; default: a table on the terminal',
    )
    parser.add_argument('--query_crops', type=disk_path, help='pictures of the queries, for the sheet')
    parser.add_argument('--model', default='', help='the model of queries that do not say their own')
    parser.add_argument('--probes', type=positive, help='of FAISS IVF-PQ: lists read (default 128)')
    parser.add_argument(
        '--candidates',
        type=positive,
        help='of FAISS IVF-PQ: candidates that are scored exactly; of a Milvus server with HNSW: its ef (default 1000)',
    )


def _search(options: argparse.Namespace) -> None:
    from pvlad_jax.commands.gallery_results import show
    from pvlad_jax.commands.model_fingerprint import fingerprint_of
    from pvlad_jax.gallery.filters import Filters
    from pvlad_jax.gallery.table_file import read_table

    if options.query_crops and not (options.output and options.output.suffix == '.png'):
        raise UserError('--query_crops is for the sheet of pictures: give --output=FILE.png too.')
    if options.query_crops and not options.query_crops.is_dir():
        raise UserError(f'There is no folder {options.query_crops} of crops.')
    gallery, queries = _open(options), read_table(options.input)
    calibration = None
    if options.threshold:
        from pvlad_jax.evaluation.threshold import read_calibration

        calibration = read_calibration(options.threshold, gallery.state.fingerprint)
    named = tuple(options.camera), tuple(options.source)
    filters = Filters(*named, options.after, options.before, options.other_camera, options.other_source)
    with progress('comparisons', len(queries) * len(gallery)) as done:
        answers = gallery.search(
            queries,
            options.k,
            filters,
            fingerprint=fingerprint_of(options.model),
            probes=options.probes,
            candidates=options.candidates,
            done=done,
        )
    rows = []
    for answer in answers:
        decision, each = '', [''] * len(answer.hits)
        if calibration:
            decision, each = calibration.decide([hit['distance'] for hit in answer.hits])
        hits = [{'decision': d, **hit} for d, hit in zip(each, answer.hits)]
        rows.append({'query': answer.query, 'decision': decision, 'hits': hits})
    show(rows, gallery.folder, options.output, options.query_crops)
    _note_unfinished(gallery)
    if not any(row['hits'] for row in rows):
        terminal.complain(
            'Note: no stored tracklet meets these conditions, for any query. `gallery info` says how many '
            'there are; names of cameras and sources must be given as the table has them.'
            + ('' if options.after is options.before is None else _OF_TIMES)
        )
    if calibration and not (calibration.model and gallery.state.fingerprint):
        terminal.complain('Note: nothing says whether the threshold is of the model that the gallery is of.')
    if calibration and len(gallery) > 10 * calibration.gallery:
        terminal.complain(
            f'Note: the threshold was calibrated with a gallery of {calibration.gallery:,} tracklets; in '
            'this one, many times larger, a stranger resembles somebody more often.'
        )


def _delete_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--tracklet', **_SEVERAL, help='name; may be given several times')
    parser.add_argument('--source', **_SEVERAL, help='all of a source; may be given several times')


def _delete(options: argparse.Namespace) -> None:
    if not options.tracklet and not options.source:
        raise UserError('Say what to delete: --tracklet=NAME or --source=NAME.')
    count = _open(options).delete(options.tracklet, options.source)
    terminal.say(f'{count:,} tracklets deleted, with their vectors and crops.')


def _info(options: argparse.Namespace) -> None:
    gallery = _open(options)
    terminal.say_result(json.dumps(gallery.info(), indent=1, ensure_ascii=False))
    _note_unfinished(gallery)


def _verify(options: argparse.Namespace) -> None:
    gallery = _open(options)
    with progress('bytes read') as done:
        verified = gallery.verify(done)
    terminal.say_result(
        f'{options.gallery}: {verified.files:,} files, {verified.bytes:,} bytes, read; they hold what was written.'
    )
    if verified.without:
        terminal.complain(
            f'Note: {len(verified.without):,} more, such as {verified.without[0]}, were written by an earlier version '
            'that kept no digest of them. Whether they hold what was written is not known.'
        )
    _note_unfinished(gallery)


def _note_unfinished(gallery: 'Gallery') -> None:
    if gallery.unfinished:
        terminal.complain(
            f'Note: a change of {gallery.folder} is not finished: another process is making it, or it was killed. '
            'Vectors and pictures that it deletes or replaces may still be on the disk. Unless it is being made, give '
            'the command again that was killed.'
        )


def _open(options: argparse.Namespace) -> 'Gallery':
    from pvlad_jax.gallery.gallery import Gallery

    return Gallery(options.gallery)


# Name: (what it does, the rest of an example, its arguments, the function).
ACTIONS = {
    'create': ('make an empty gallery', '--backend=exact', _create_arguments, _create),
    'add': (
        'add the tracklets of a table, all or none',
        '--input=monday.parquet --crops=monday_crops',
        _add_arguments,
        _add,
    ),
    'search': (
        'find the nearest tracklets of each query',
        '--input=query.parquet --k=10 --after=2026-11-25T14:30 --other_camera',
        _search_arguments,
        _search,
    ),
    'delete': (
        'remove tracklets, with vectors and crops, from the disk',
        '--source=monday.mp4',
        _delete_arguments,
        _delete,
    ),
    'info': ('say what is in a gallery, as JSON', '', lambda parser: None, _info),
    'verify': ('check that the files hold what was written', '', lambda parser: None, _verify),
}
