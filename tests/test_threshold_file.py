"""What a calibration leaves: the file of thresholds, what a search makes of it, and the curves."""

import json
from statistics import NormalDist

import numpy as np
import pytest

from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation import Embeddings, write_embeddings
from pvlad_jax.evaluation.calibration import calibrate
from pvlad_jax.evaluation.threshold import read_calibration, write_calibration
from tests.helpers.labelled_people import SIZE, people, rates, split


def test_a_threshold_reads_as_it_was_written_and_decides(tmp_path):
    calibration = calibrate(*split(people(40, 8)), 0.02, model='m1', resamples=20)
    write_calibration(tmp_path / 't.json', calibration)
    assert read_calibration(tmp_path / 't.json', 'm1') == calibration
    with pytest.raises(UserError, match='is of the model m1, the gallery of m2'):
        read_calibration(tmp_path / 't.json', 'm2')
    same, nobody = calibration.same.value, calibration.nobody
    assert same < nobody
    assert calibration.decide([same, nobody, nobody + 0.01]) == ('same', ['same', 'not sure', 'other'])
    assert calibration.decide([same + 1e-6])[0] == 'not sure'
    assert calibration.decide([nobody + 0.01])[0] == calibration.decide([])[0] == 'nobody here'
    fields = json.loads((tmp_path / 't.json').read_text())
    for change, says in (
        ({'format': 9}, 'format version 9'),
        ({'same': 3}, 'is not a threshold'),
        ({'nobody': 10**400}, 'is not a threshold'),
        ({'gallery': '9'}, r'is not a threshold .* got `str` - at `\$\.gallery`'),
        ({'nobody': 2.1}, 'bad.json is not a threshold .* nobody = 2.1 must lie between 0 and 2'),
        ({'same': {**fields['same'], 'value': 1e300}, 'nobody': 1e300}, r'same.value = 1e\+300 .* must lie between'),
        ({'same': {**fields['same'], 'value': -0.1}}, r'same.value = -0.1 .* must lie between'),
        ({'same': {**fields['same'], 'value': 0.9}, 'nobody': 0.1}, 'same.value = 0.9 is above nobody = 0.1'),
        ({'nobody': float('nan')}, r'Expected `float` .* at `\$\.nobody`'),
    ):
        (tmp_path / 'bad.json').write_text(json.dumps({**fields, **change}))
        with pytest.raises(UserError, match=says):
            read_calibration(tmp_path / 'bad.json')
    (tmp_path / 'later.json').write_text(json.dumps({**fields, 'more': 1}))  # in the same format: nothing goes wrong
    assert read_calibration(tmp_path / 'later.json') == calibration
    with pytest.raises(UserError, match='There is no file'):
        read_calibration(tmp_path / 'none.json')


def test_thresholds_of_alike_and_of_opposite_people_can_be_read(tmp_path):
    for seed in range(3):
        table = people(40, seed, cameras=2, spread=0)
        ends = np.where(table.person_id % 2, 1, -1)[:, None] * np.random.default_rng(seed).standard_normal((1, SIZE))
        for vectors in (ends, np.abs(ends)):  # distances of 0 and 2, and of 0
            alike = Embeddings(**{**vars(table), 'embedding': vectors.astype(np.float32)})
            for rate, per in ((0.02, 'pair'), (0.6, 'pair'), (0.1, 'search')):
                calibration = calibrate(*split(alike), rate, per=per, resamples=5)
                write_calibration(tmp_path / 't.json', calibration)
                assert read_calibration(tmp_path / 't.json') == calibration


def test_searches_that_have_nobody_else_to_find_leave_a_threshold(tmp_path):
    query, gallery = split(people(10, 0))
    calibration = calibrate(query, gallery.select(gallery.person_id == 1), 0.95, per='search', resamples=5)
    write_calibration(tmp_path / 't.json', calibration)
    assert read_calibration(tmp_path / 't.json').same.value <= 2


MODEL = '1f' * 32  # a fingerprint


def test_the_command_writes_threshold_and_curves_and_search_uses_it(tmp_path, capsys):
    for library in ('pyarrow', 'matplotlib'):
        pytest.importorskip(library)
    from PIL import Image

    from pvlad_jax.commands.dispatcher import main

    query, gallery = split(people(40, 9))
    for name, table in (('q', query), ('g', gallery), ('strangers', people(5, 10, first=500))):
        write_embeddings(tmp_path / f'{name}.npz', table)
    command = [
        'calibrate',
        f'--query={tmp_path}/q.npz',
        f'--gallery={tmp_path}/g.npz',
        '--false_accept_rate=0.02',
        '--resamples=50',
        f'--model={MODEL}',
    ]
    assert main(command) == 2 and 'Say where to write it' in capsys.readouterr().err
    command += [f'--output={tmp_path}/t.json']
    assert main([*command, f'--curves={tmp_path}/c.png']) == 0
    captured = capsys.readouterr()
    assert '40 people' in captured.out and 'rule of 30' in captured.err
    assert Image.open(tmp_path / 'c.png').size[0] > 500
    store = f'--gallery={tmp_path}/store'
    assert main(['gallery', 'create', store, f'--model={MODEL}']) == 0
    assert main(['gallery', 'add', store, f'--input={tmp_path}/g.npz', f'--model={MODEL}']) == 0
    search = ['gallery', 'search', store, f'--model={MODEL}', f'--threshold={tmp_path}/t.json']
    search += [f'--output={tmp_path}/r.json']
    assert main([*search, f'--input={tmp_path}/q.npz']) == 0
    threshold = read_calibration(tmp_path / 't.json')
    answers = json.loads((tmp_path / 'r.json').read_text())
    for answer in answers:
        assert answer['decision'] == threshold.decide([hit['distance'] for hit in answer['hits']])[0]
    said = [answer['decision'] for answer in answers]
    right, wrong = (threshold.open_set[name].value for name in ('present_same', 'present_wrong_person'))
    assert said.count('same') / 40 == pytest.approx(right + wrong)


def test_curves_show_the_rates_and_mark_the_threshold(tmp_path, monkeypatch):
    curves = pytest.importorskip('pvlad_jax.report.error_curves', reason='curves need matplotlib', exc_type=UserError)
    figures, canvas = [], curves.FigureCanvasAgg
    monkeypatch.setattr(curves, 'FigureCanvasAgg', lambda figure: (figures.append(figure), canvas(figure)))
    result = calibrate(*split(people(60, 0)), 0.01, resamples=5)
    curves.draw_curves(tmp_path / 'c.png', result)
    false, miss = (np.asarray(result.curve[name]) for name in ('false_accepts', 'misses'))
    (roc, roc_mark), (det, det_mark) = (axes.lines for axes in figures[0].axes)
    np.testing.assert_allclose(roc.get_data(), (false[false > 0], 1 - miss[false > 0]))
    mark = result.false_accepts.value, result.misses.value
    np.testing.assert_allclose(np.ravel(roc_mark.get_data()), (mark[0], 1 - mark[1]), rtol=0.05)
    inside = (false > 0) & (false < 1) & (miss > 0) & (miss < 1)
    deviates = np.vectorize(NormalDist().inv_cdf)
    np.testing.assert_allclose(det.get_data(), (deviates(false[inside]), deviates(miss[inside])))
    np.testing.assert_allclose(np.ravel(det_mark.get_data()), deviates(mark), rtol=0.05)


@pytest.mark.parametrize('seed', range(3))
def test_no_more_false_accepts_are_marked_than_there_are(tmp_path, monkeypatch, seed):
    curves = pytest.importorskip('pvlad_jax.report.error_curves', reason='curves need matplotlib', exc_type=UserError)
    figures, canvas = [], curves.FigureCanvasAgg
    monkeypatch.setattr(curves, 'FigureCanvasAgg', lambda figure: (figures.append(figure), canvas(figure)))
    query, gallery = split(people(30, seed, cameras=2))
    for per, rate in (('pair', 0.02), ('search', 0.12)):
        result = calibrate(query, gallery, rate, per=per, resamples=5)
        curves.draw_curves(tmp_path / 'c.png', result)
        marked = float(np.ravel(figures[-1].axes[0].lines[1].get_data())[0])
        there = rates(query, gallery, result.same.value)[0]
        assert marked == pytest.approx(there) if per == 'pair' else there * 0.7 < marked <= there
