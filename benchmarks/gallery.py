"""Galleries at size: time to add, time to search, recall against exact search, and memory, of each backend.

    python benchmarks/gallery.py --rows=1000000 --output=gallery.json

Vectors are synthetic: people are random directions, tracklets lie around them, ten to a person. Each backend runs in a
process of its own, so that its peak memory is its own; what is not installed is left out and said. The command ends
with 1 where exact search finds others than FAISS Flat.
"""

import argparse
import importlib.util
import json
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.table import Table

from benchmarks.rows import child_output, new_file, own_path, write
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.terminal import complain, console, say
from pvlad_jax.gallery.embedding_table import EmbeddingTable, TableReader, TableWriter, read_table
from pvlad_jax.gallery.gallery import Gallery

_PIECE = 50_000  # a multiple of 1000, as rows are made by the thousand
BACKENDS = {
    'exact': {},
    'faiss flat': {'backend': 'faiss', 'kind': 'flat'},
    'faiss ivfpq': {'backend': 'faiss', 'kind': 'ivfpq'},
    'milvus-lite': {'backend': 'milvus'},
}
LIBRARIES = {'exact': 'pyarrow', 'faiss flat': 'faiss', 'faiss ivfpq': 'faiss', 'milvus-lite': 'milvus_lite'}


def tracklets(first: int, count: int, size: int, n_people: int, spread: float) -> np.ndarray:
    """Rows from `first` on; the same whatever pieces they are made in. People are numbered round and round."""
    vectors = np.empty((count, size), np.float32)
    for i in range(0, count, 1000):
        rng = np.random.default_rng((1, (first + i) // 1000))
        vectors[i : i + 1000] = spread * rng.standard_normal((min(1000, count - i), size), np.float32)
    person = (first + np.arange(count)) % n_people
    for block in np.unique(person // 1000):
        rows = np.flatnonzero(person // 1000 == block)
        centres = np.random.default_rng((0, int(block))).standard_normal((1000, size), np.float32)
        vectors[rows] += centres[person[rows] % 1000]
    return vectors


def write_tables(folder: Path, options: argparse.Namespace) -> None:
    people = max(options.rows // 10, 1)
    with TableWriter(folder / 'gallery.parquet', options.size, 'synthetic') as writer:
        for start in range(0, options.rows, _PIECE):
            count = min(_PIECE, options.rows - start)
            names = [f'{i:08d}' for i in range(start, start + count)]
            writer.write(
                EmbeddingTable.from_columns(
                    {'tracklet': names, 'camera': [str(i % 6) for i in range(count)], 'source': ['synthetic'] * count},
                    tracklets(start, count, options.size, people, options.spread),
                    'synthetic',
                )
            )
    # Other tracklets of the same people.
    first = -(-options.rows // (1000 * people)) * 1000 * people
    queries = tracklets(first, options.queries, options.size, people, options.spread)
    with TableWriter(folder / 'queries.parquet', options.size, 'synthetic') as writer:
        names = [f'q{i}' for i in range(options.queries)]
        writer.write(EmbeddingTable.from_columns({'tracklet': names}, queries, 'synthetic'))


def measure(name: str, folder: Path, options: argparse.Namespace) -> None:
    """Prints one JSON line: seconds, processor seconds, results, bytes, peak memory."""
    kind = dict(BACKENDS[name])
    if name == 'milvus-lite':
        kind['uri'] = str(folder / 'milvus.db')
    gallery = Gallery.create(folder / name.replace(' ', '_'), 'synthetic', **kind)
    add = clock(lambda: gallery.add(TableReader(folder / 'gallery.parquet')))
    queries = read_table(folder / 'queries.parquet')
    searches, answers = [], []
    for _ in range(options.rounds):
        start, processor = time.perf_counter(), time.process_time()
        answers = gallery.search(queries, options.k, probes=options.probes, candidates=options.candidates)
        searches.append((time.perf_counter() - start, time.process_time() - processor))
    first = EmbeddingTable(queries.metadata.slice(0, 1), queries.embedding[:1], 'synthetic')
    one = clock(lambda: gallery.search(first, options.k, probes=options.probes, candidates=options.candidates))
    hits = [[[hit['tracklet'], hit['distance']] for hit in answer.hits] for answer in answers]
    (folder / f'{name}.json').write_text(json.dumps(hits))
    peak = int(re.search(r'VmHWM:\s+(\d+) kB', Path('/proc/self/status').read_text())[1]) / 1024
    size = gallery.info()['bytes'] + sum(p.stat().st_size for p in folder.glob('milvus.db/**/*') if p.is_file())
    say(
        json.dumps(
            {
                'add': add,
                'search': min(searches, key=lambda pair: pair[1]),
                'one': one,
                'peak_mb': peak,
                'disk_mb': size / 2**20,
            }
        )
    )


def clock(run) -> tuple[float, float]:
    start, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - processor


def recall(found: list, exact: list) -> float:
    """Share of the exact neighbours that were found; equal distances count as found."""
    shares = []
    for ours, true in zip(found, exact):
        limit = true[-1][1] + 1e-6
        shares.append(sum(distance <= limit for _, distance in ours) / len(true))
    return float(np.mean(shares))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--output', type=new_file, help='JSON file for the rows')
    parser.add_argument('--rows', type=int, default=1_000_000)
    parser.add_argument('--size', type=int, default=512, help='of an embedding')
    parser.add_argument('--queries', type=int, default=1000)
    parser.add_argument('--k', type=int, default=50)
    parser.add_argument(
        '--spread', type=float, default=1.0, help='of the tracklets of a person, in units of that between people'
    )
    parser.add_argument('--rounds', type=int, default=2)
    parser.add_argument('--probes', type=int, default=32)
    parser.add_argument('--candidates', type=int, default=1000)
    parser.add_argument('--backends', default=','.join(BACKENDS))
    parser.add_argument('--folder', type=own_path, help='where galleries lie meanwhile (default: a temporary folder)')
    parser.add_argument('--measure', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.folder, options)
        return 0
    names = options.backends.split(',')
    if unknown := [name for name in names if name not in BACKENDS]:
        parser.error(f'there is no backend {unknown[0]!r}; choose of {", ".join(BACKENDS)}')
    missing = [name for name in names if importlib.util.find_spec(LIBRARIES[name]) is None]
    if missing:
        complain(f'Left out, as it is not installed (requirements-search.txt): {", ".join(missing)}.')
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        write_tables(folder, options)
        rows = []
        for name in (name for name in names if name not in missing):
            arguments = [
                f'--{key}={getattr(options, key)}'
                for key in ('rows', 'size', 'queries', 'k', 'rounds', 'probes', 'candidates')
            ]
            output = child_output(
                [sys.executable, __file__, f'--measure={name}', f'--folder={folder}', *arguments], f'The backend {name}'
            )
            rows.append({'name': name, **json.loads(output.splitlines()[-1])})
            shutil.rmtree(folder / name.replace(' ', '_'))
            shutil.rmtree(folder / 'milvus.db', ignore_errors=True)
        found = {row['name']: json.loads((folder / f'{row["name"]}.json').read_text()) for row in rows}
    finally:
        shutil.rmtree(folder)
    for row in rows:
        ten = min(10, options.k)  # tracklets are of the query's person
        for name, k in (('recall', options.k), ('recall_10', ten)):
            row[name] = (
                recall([hits[:k] for hits in found[row['name']]], [hits[:k] for hits in found['exact']])
                if 'exact' in found
                else None
            )
        if row['name'] == 'faiss flat' and row['recall'] not in (None, 1.0):
            sys.exit(f'Exact search and FAISS Flat differ: recall {row["recall"]:.6f}.')
    if options.output:
        write(options.output, rows, options={key: str(value) for key, value in vars(options).items()})
    table = Table(
        title=f'{options.rows:,} x {options.size}, {options.queries:,} queries, top {options.k}; seconds '
        '(processor seconds)'
    )
    for column in ('backend', 'add', 'search', 'one query', 'recall', 'recall at 10', 'peak MB', 'disk MB'):
        table.add_column(column, justify='left' if column == 'backend' else 'right')
    for row in rows:
        times = (f'{row[key][0]:.3g} ({row[key][1]:.3g})' for key in ('add', 'search', 'one'))
        recalls = ('' if row[name] is None else f'{row[name]:.4f}' for name in ('recall', 'recall_10'))
        table.add_row(row['name'], *times, *recalls, f'{row["peak_mb"]:,.0f}', f'{row["disk_mb"]:,.0f}')
    console(width=140).print(table)
    return 0


if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
