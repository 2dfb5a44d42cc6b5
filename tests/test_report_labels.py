"""Labels with a meaning of their own, distractors and unknown cameras, are words in a report."""

import re

import pytest

import main
from configs import run as saved_run
from pvlad_jax.evaluation import score, write_embeddings, write_result
from tests.test_report import Page, evaluated, tables

pytest.importorskip('jinja2', reason='reports need Jinja2')


def test_labels_with_a_meaning_are_words(tmp_path):
    query, gallery = tables()
    query.camera_id[:4] = -1
    gallery.person_id[1::2] = 0
    workdir = evaluated(tmp_path / 'work', **{'evaluation.unknown_cameras': 'other'})
    for role, table in (('query', query), ('gallery', gallery)):
        write_embeddings(workdir / 'embeddings' / f'{role}.npz', table)
    result = score(query, gallery, dataset='d', split='test', step=2, unknown_cameras='other')
    write_result(workdir / 'eval' / 'latest.json', result)
    assert main.run(saved_run.get_config(str(workdir)), workdir, 'report') == 0
    page = Page((workdir / 'report' / 'index.html').read_text(encoding='utf-8'))
    assert re.search(r'person \d, unknown camera; first match', page.said) and 'distractor, camera 2' in page.said
    assert re.search(r'cameraunknown\d', page.said) and not re.search(r'camera -1|person 0|>-1<', page.said)
    assert 'unknown' in [row['data-camera'] for row in page.all('section')]
