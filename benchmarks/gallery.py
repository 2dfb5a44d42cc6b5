"""Galleries at size: time and memory to add and to search, recall against exact search, and disk, of each backend.

    python benchmarks/gallery.py --vectors=1000000 --output=gallery.json

Vectors are synthetic, and lie as embeddings of re-identification do: ten tracklets a person, cosine 0.7 within a person
(`gallery_vectors`). Each step of each backend runs in a process of its own, so that its peak memory is its own and a
search begins with opening the gallery, as a command does; what is not installed is left out and said. An addition that
takes longer than --limit_s is stopped, and how far it came is said. The command ends with 1 where exact search finds
others than FAISS Flat.

Seconds are those of the clock, and in brackets those of the processors, of all threads, which a shared machine prolongs
less. With a Milvus server (--uri) whose process runs here (--server_pid), they are this program's + the server's, and
so is memory.
"""

import argparse
import importlib.util
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.gallery_vectors import People
from benchmarks.milvus_server import drop, processor_seconds, wait_for_index
from benchmarks.peak_memory import PeakMemory
from benchmarks.rows import at_least_one, child_output, draw, new_file, own_path, write
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.terminal import complain, say
from pvlad_jax.gallery.embedding_table import EmbeddingTable
from pvlad_jax.gallery.gallery import Answer, Gallery
from pvlad_jax.gallery.table_file import TableReader, TableWriter, read_table

_PIECE = 50_000  # rows that are made at a time
_PER_SOURCE = 1000  # tracklets
_PEOPLE_SHARE = 10  # tracklets of a person
_SERVER = 'milvus server'
# The package that each needs, and what a gallery of it is made with.
BACKENDS = {
    'exact': ('pyarrow', {}),
    'faiss flat': ('faiss', {'backend': 'faiss', 'kind': 'flat'}),
    'faiss ivfpq': ('faiss', {'backend': 'faiss', 'kind': 'ivfpq'}),
    'milvus-lite': ('milvus_lite', {'backend': 'milvus'}),
    _SERVER: ('pymilvus', {'backend': 'milvus'}),
}

server_pid = 0  # of the server that a step is measured with; 0 = none, or it runs elsewhere


class TimeUp(Exception):
    """An addition has taken longer than --limit_s. The argument: tracklets that were read."""


def write_tables(folder: Path, options: argparse.Namespace) -> None:
    """gallery.parquet; more.parquet, a source that is added later; queries.parquet, other tracklets of its people."""
    people = People(max(options.vectors // _PEOPLE_SHARE, 1), options.size)
    after = -(-options.vectors // people.count) * people.count
    for name, first, count in (
        ('gallery', 0, options.vectors),
        ('more', after, _PER_SOURCE),
        ('queries', after + _PER_SOURCE, options.queries),
    ):
        with TableWriter(folder / f'{name}.parquet', options.size, 'synthetic') as writer:
            for start in range(first, first + count, _PIECE):
                numbers = range(start, min(start + _PIECE, first + count))
                columns = {
                    'tracklet': [f'{name}_{i:08d}' for i in numbers],
                    'camera': [str(i % 6) for i in numbers],
                    'source': [f'{name}_{(i - first) // _PER_SOURCE}.mp4' for i in numbers],
                }
                vectors = people.tracklets(start, len(numbers))
                writer.write(EmbeddingTable.from_columns(columns, vectors, 'synthetic'))


def add(name: str, folder: Path, options: argparse.Namespace) -> dict:
    kind = dict(BACKENDS[name][1])
    if name == 'milvus-lite':
        kind['uri'] = str(folder / 'milvus.db')
    if name == _SERVER:
        kind |= {'uri': options.uri, 'collection': f'benchmark_{folder.name}'}
    gallery = Gallery.create(_place(name, folder), 'synthetic', **kind)
    start, read = time.perf_counter(), 0

    def done(count: int) -> None:
        nonlocal read
        read += count
        if time.perf_counter() - start > options.limit_s and read < options.vectors:
            raise TimeUp(read)

    try:
        result = {'add': clock(lambda: gallery.add(TableReader(folder / 'gallery.parquet'), done=done))}
    except TimeUp as stopped:
        return {'stopped_at': stopped.args[0]}
    if name == _SERVER:
        ready = []
        took = clock(lambda: ready.append(wait_for_index(gallery.state, options.limit_s)))
        result['index' if ready[0] else 'unindexed'] = took  # unindexed: it still searches an interim index
        return result  # its disk is its own
    files = [path for path in folder.glob('milvus.db/**/*') if path.is_file()]
    return result | {'disk_mb': (gallery.info()['bytes'] + sum(p.stat().st_size for p in files)) / 2**20}


def search(name: str, folder: Path, options: argparse.Namespace) -> dict:
    queries = read_table(folder / 'queries.parquet')

    def run(count: int) -> list[Answer]:
        some = EmbeddingTable(queries.metadata.slice(0, count), queries.embedding[:count], 'synthetic')
        effort = {name: getattr(options, name) for name in gallery.store.search_options(gallery.state)}
        return gallery.search(some, options.k, **effort)

    def first() -> None:
        nonlocal gallery
        gallery = Gallery(_place(name, folder))
        run(1)

    gallery: Gallery
    result = {
        'first': clock(first),
        'one': _median(lambda: run(1), options.rounds),
        'batch': _median(lambda: run(len(queries)), options.rounds),
    }
    hits = [[[hit['tracklet'], hit['distance']] for hit in answer.hits] for answer in run(len(queries))]
    (folder / f'{name}.json').write_text(json.dumps(hits))
    return result


def change(name: str, folder: Path, options: argparse.Namespace) -> dict:
    """What a day's work costs in a gallery that is full: a source that is added, added again, and deleted."""
    gallery = Gallery(_place(name, folder))
    return {
        'more': clock(lambda: gallery.add(TableReader(folder / 'more.parquet'))),
        'again': clock(lambda: gallery.add(TableReader(folder / 'more.parquet'))),
        'delete': clock(lambda: gallery.delete(sources=['gallery_0.mp4'])),
    }


STEPS = {'add': add, 'search': search, 'change': change}


def clock(run: Callable[[], object]) -> tuple[float, ...]:
    """(seconds, processor seconds of this process, and those of a server whose process is known)"""
    times = _times()
    run()
    return tuple(after - before for before, after in zip(times, _times()))


def _times() -> tuple[float, ...]:
    own = time.perf_counter(), time.process_time()
    return (*own, processor_seconds(server_pid)) if server_pid else own


def _median(run: Callable[[], object], rounds: int) -> tuple[float, ...]:
    times = [clock(run) for _ in range(rounds)]
    return sorted(times, key=lambda pair: pair[1])[rounds // 2]


def _place(name: str, folder: Path) -> Path:
    return folder / name.replace(' ', '_')


def recall(found: list, exact: list, k: int) -> float:
    """Share of the k exact neighbours that were found; equal distances count as found."""
    limits = [true[:k][-1][1] + 1e-6 for true in exact]
    shares = [
        sum(distance <= limit for _, distance in ours[:k]) / len(true[:k])
        for ours, true, limit in zip(found, exact, limits)
    ]
    return float(np.mean(shares))


def measure(name: str, folder: Path, options: argparse.Namespace) -> dict:
    """The row of a backend, its gallery removed."""
    keys = ('vectors', 'k', 'rounds', 'probes', 'candidates', 'limit_s', 'uri', 'server_pid')
    given = [f'--{key}={getattr(options, key)}' for key in keys]
    row = {'name': name}
    for step in STEPS:
        command = [sys.executable, __file__, f'--step={step}', f'--backends={name}', f'--folder={folder}', *given]
        row |= json.loads(child_output(command, f'The backend {name}').splitlines()[-1])
        if 'stopped_at' in row:
            break
    if name == _SERVER:
        drop(Gallery(_place(name, folder)).state)
    shutil.rmtree(_place(name, folder))
    shutil.rmtree(folder / 'milvus.db', ignore_errors=True)
    return row


def show(rows: list[dict], options: argparse.Namespace) -> None:
    columns = {
        'add': 'add',
        'index': 'index',
        'first': 'first query',
        'one': 'a query',
        'batch': f'{options.queries:,} queries',
        'more': f'add {_PER_SOURCE:,}',
        'again': 'again',
        'delete': 'delete',
    }
    steps = [f'memory to {step}' for step in STEPS]
    times, space = [], []
    for row in rows:
        if 'stopped_at' in row:
            stopped = f'{row["stopped_at"]:,} in {options.limit_s:g}'
            times.append([row['name'], stopped, *[''] * (len(columns) - 1)])
            continue
        cells = {key: _seconds(row.get(key)) for key in columns}
        if 'unindexed' in row:
            cells['index'] = f'not in {options.limit_s:g}'
        times.append([row['name'], *cells.values()])
        memory = (_memory(row, f'{step}_mb') + _memory(row, f'{step}_server_mb', ' + ') for step in STEPS)
        recalls = ('' if row[key] is None else f'{row[key]:.4f}' for key in ('recall_10', 'recall'))
        space.append([row['name'], *recalls, *memory, f'{row["disk_mb"]:,.0f}' if 'disk_mb' in row else ''])
    title = f'{options.vectors:,} x {options.size}, top {options.k}: seconds (processor seconds)'
    draw(title, ('backend', *columns.values()), times, 140, left=('backend',))
    title = 'recall of the exact neighbours; peak memory in MB, of it own; disk in MB'
    draw(title, ('backend', 'at 10', f'at {options.k}', *steps, 'disk'), space, 140, left=('backend',))


def _seconds(times: list[float] | None) -> str:
    """'12 (3.1)', of a server '12 (3.1 + 8)'."""
    return '' if times is None else f'{times[0]:.3g} ({" + ".join(f"{t:.3g}" for t in times[1:])})'


def _memory(row: dict, key: str, before: str = '') -> str:
    return f'{before}{row[key][0]:,.0f}, {row[key][1]:,.0f}' if key in row else ''


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--output', type=new_file, help='JSON file for the rows')
    parser.add_argument('--vectors', type=int, default=1_000_000)
    parser.add_argument('--size', type=int, default=512, help='of a vector, at least 128')
    parser.add_argument('--queries', type=int, default=100)
    parser.add_argument('--k', type=int, default=50)
    parser.add_argument('--rounds', type=at_least_one, default=3, help='of searches; the median is shown')
    parser.add_argument('--probes', type=int, default=128)
    parser.add_argument('--candidates', type=int, default=1000)
    parser.add_argument('--limit_s', type=float, default=900, help='seconds after which an addition is stopped')
    parser.add_argument('--backends', default=','.join(BACKENDS))
    parser.add_argument('--uri', default='', help='http://HOST:PORT of a Milvus server; its collection is dropped')
    parser.add_argument('--server_pid', type=int, default=0, help='its process, where it runs on this machine')
    parser.add_argument('--folder', type=own_path, help='where galleries lie meanwhile (default: a temporary folder)')
    parser.add_argument('--step', help=argparse.SUPPRESS)
    return parser


def main() -> int:
    parser = arguments()
    options = parser.parse_args()
    names = options.backends.split(',')
    if unknown := [name for name in names if name not in BACKENDS]:
        parser.error(f'there is no backend {unknown[0]!r}; choose of {", ".join(BACKENDS)}')
    if options.step:
        global server_pid
        server_pid = options.server_pid if names[0] == _SERVER else 0
        with PeakMemory() as memory, PeakMemory(server_pid or 'self') as of_server:
            result = STEPS[options.step](names[0], options.folder, options)
        result[f'{options.step}_mb'] = memory.resident, memory.own
        if server_pid:
            result[f'{options.step}_server_mb'] = of_server.resident, of_server.own
        say(json.dumps(result))
        return 0
    if not options.uri and _SERVER in names:
        complain('Left out, as there is no --uri=http://HOST:PORT: milvus server.')
        names.remove(_SERVER)
    missing = [name for name in names if importlib.util.find_spec(BACKENDS[name][0]) is None]
    if missing:
        complain(f'Left out, as it is not installed (requirements-search.txt): {", ".join(missing)}.')
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        write_tables(folder, options)
        rows = [measure(name, folder, options) for name in names if name not in missing]
        found = {
            row['name']: json.loads((folder / f'{row["name"]}.json').read_text()) for row in rows if 'first' in row
        }
    finally:
        shutil.rmtree(folder)
    for row in rows:
        for key, k in (('recall', options.k), ('recall_10', min(10, options.k))):
            both = 'exact' in found and row['name'] in found
            row[key] = recall(found[row['name']], found['exact'], k) if both else None
        if row['name'] == 'faiss flat' and row['recall'] not in (None, 1.0):
            sys.exit(f'Exact search and FAISS Flat differ: recall {row["recall"]:.6f}.')
    if options.output:
        write(options.output, rows, options={key: str(value) for key, value in vars(options).items()})
    show(rows, options)
    return 0


if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
