"""The page of the documentation on the configuration, and --help, say what the definitions of the fields say."""

import runpy
from pathlib import Path

from pvlad_jax.config import Config
from pvlad_jax.core.settings import describe
from pvlad_jax.launch.flags import field_help

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_is_up_to_date():
    page = runpy.run_path(str(ROOT / '.ci' / 'configuration_page.py'))['page']()
    # Tests register networks of their own, which the page lacks.
    written = (ROOT / 'docs' / 'configuration.md').read_text()
    names = [line for line in page.splitlines() if line.startswith('| `model.backbone.name`')]
    kept = [line for line in page.splitlines() if line not in names]
    assert kept == [line for line in written.splitlines() if not line.startswith('| `model.backbone.name`')], (
        'docs/configuration.md is out of date: python .ci/configuration_page.py'
    )


def test_help_lists_every_field_with_its_meaning():
    text = field_help(Config)
    for d in describe(Config):
        assert f'--config.{d.path}=' in text and d.meaning in text


def test_every_field_has_a_meaning():
    assert all(d.meaning for d in describe(Config))
