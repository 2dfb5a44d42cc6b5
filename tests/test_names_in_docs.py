"""Modules, functions and fields that pages and comments name are there: nothing else fails when one is renamed."""

import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pvlad_jax.config import Config
from pvlad_jax.core.settings import describe, short_names

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ('pvlad_jax', 'data_prep', 'configs', 'benchmarks', 'docs', '.ci')
FILES = [
    *ROOT.glob('*.md'),
    *ROOT.glob('*.py'),
    *(p for f in FOLDERS for p in (ROOT / f).rglob('*') if p.suffix in ('.py', '.md')),
]


def named(pattern: str) -> Iterator[tuple[str, str]]:
    """(file, what the pattern's group matches in it)."""
    for path in FILES:
        for match in re.finditer(pattern, path.read_text(encoding='utf-8')):
            yield str(path.relative_to(ROOT)), match[1]


def exists(name: str) -> bool:
    """Whether 'pvlad_jax.losses.LOSSES' leads to a module or to something in one."""
    try:
        if importlib.util.find_spec(name):  # not imported: some need an extra
            return True
    except ModuleNotFoundError:  # its parent is no package
        pass
    parent, _, last = name.rpartition('.')
    return bool(parent) and exists(parent) and hasattr(importlib.import_module(parent), last)


def test_modules_and_what_is_in_them():
    found = set(named(r'(?<![\w/.-])((?:pvlad_jax|data_prep)(?:\.\w+)+)\b(?!/)'))
    assert len(found) > 100
    assert not sorted(f'{path}: {name}' for path, name in found if not exists(name))


def test_fields_of_the_configuration():
    paths = [d.path.split('.') for d in describe(Config)]
    known = {'.'.join(path[:n]) for path in paths for n in range(1, len(path) + 1)}
    mappings = tuple(f'{d.path}.' for d in describe(Config) if isinstance(d.default, Mapping))
    assert mappings == ('dataset.build_options.',)
    found = set(named(r'--config\.((?:[a-z_]+\.)*[a-z_]+)\b'))
    assert len(found) > 30
    assert not sorted(f'{path}: {name}' for path, name in found if name not in known and not name.startswith(mappings))


def test_short_names_of_the_configuration():
    """After a configuration file's name, `configs/mars.py:pooling=average`, and in the README's table of arguments."""
    used = set(named(r'configs/\w+\.py:([\w=,./-]+=[\w=,./-]*)'))
    found = {(path, pair.partition('=')[0]) for path, pairs in used for pair in pairs.split(',') if '=' in pair}
    table = (ROOT / 'README.md').read_text(encoding='utf-8').partition('| argument | values |')[2].partition('\n\n')[0]
    rows = {name for row in table.splitlines()[2:] for name in re.findall(r'`(\w+)`', row.split('|')[1])}
    assert len(found) > 10 and len(rows) > 10
    known = short_names(Config)
    assert not sorted(
        f'{path}: {name}' for path, name in found | {('README.md', name) for name in rows} if name not in known
    )
