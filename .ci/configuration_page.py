"""Writes docs/configuration.md from the definitions of the fields and from the registries.

python .ci/configuration_page.py
"""

import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pvlad_jax.config import Config
from pvlad_jax.core.settings import describe
from pvlad_jax.evaluation.distances import DISTANCES
from pvlad_jax.evaluation.protocols import PROTOCOLS
from pvlad_jax.models.backbones import BACKBONES
from pvlad_jax.models.pooling import POOLINGS

PAGE = ROOT / 'docs' / 'configuration.md'
INTRODUCTION = """# Configuration

Every field with its default, its meaning and what it may be. Set one by its path, `--config.clips.frames=16`, or by its
short name after the configuration file, `--config=configs/mars.py:pooling=average,backbone=c3d`. Fields marked ↻ may
differ when a run is resumed, those marked ↑ may grow then ([a longer run](transfer.md#train-longer)); the others belong
to it for good. An unknown field, a wrong type or an impossible value is refused before anything is computed.

This page is written by `python .ci/configuration_page.py`; the definitions are in `pvlad_jax/config/fields/`.
"""
NAMES = {
    'model.backbone.name': BACKBONES,
    'model.pooling': POOLINGS,
    'evaluation.protocol': PROTOCOLS,
    'evaluation.distance': DISTANCES,
}


def page() -> str:
    """The whole page: a table for each section of the configuration."""
    sections: dict[str, list[str]] = {}
    for d in describe(Config):
        default = (
            ('{}' if not d.default else str(dict(d.default))) if isinstance(d.default, Mapping) else repr(d.default)
        )
        notes = [
            d.allowed,
            f'short name `{d.short}`' if d.short else '',
            f'its former name `{d.former}` still works' if d.former else '',
            'names: ' + ', '.join(f'`{name}`' for name in NAMES[d.path]) if d.path in NAMES else '',
        ]
        rest = f' ({"; ".join(filter(None, notes))})' if any(notes) else ''
        sections.setdefault(d.path.rpartition('.')[0], []).append(
            f'| `{d.path}`{" ↻" if d.resumable else " ↑" if d.grows else ""} | `{default}` | {d.meaning}{rest} |\n'
        )
    heads = '\n## {}\n\n| field | default | meaning |\n|---|---|---|\n'
    tables = (heads.format(section or 'The run') + ''.join(rows) for section, rows in sections.items())
    return INTRODUCTION + ''.join(tables)


if __name__ == '__main__':
    PAGE.write_text(page())
