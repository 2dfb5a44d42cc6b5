"""benchmarks/ablation.py: which runs are made, and what its table says."""

import json
import sys

import numpy as np
import pytest
from scipy import stats

from benchmarks import ablation
from benchmarks.comparison import compare, markdown, paired
from benchmarks.ended_runs import not_alike
from pvlad_jax.core.errors import UserError


def shares(values):
    return {seed: {'mAP': value, 'rank_1': value / 2} for seed, value in enumerate(values)}


def test_a_paired_difference_has_the_interval_of_the_paired_t_test():
    ours, baseline = np.array([0.71, 0.75, 0.72, 0.79]), np.array([0.70, 0.71, 0.73, 0.70])
    difference = paired(shares(ours), shares(baseline), 'mAP')
    expected = stats.ttest_rel(100 * ours, 100 * baseline).confidence_interval(0.95)
    np.testing.assert_allclose(difference['interval'], expected, rtol=1e-9)
    assert difference['above'] == 3
    np.testing.assert_allclose(difference['mean'], 100 * (ours - baseline).mean())


def test_differences_pair_the_seeds_that_both_have():
    ours, baseline = shares([0.5, 0.6, 0.7]), shares([0.4, 0.6])
    del ours[0]
    assert paired(ours, baseline, 'mAP')['seeds'] == [1]
    assert paired(ours, baseline, 'mAP')['interval'] is None  # of one seed nothing is known
    assert paired({}, baseline, 'mAP') is None


def test_a_table_names_choices_without_a_result_and_the_deviation_of_the_sample():
    rows = compare({'a': shares([0.5, 0.7]), 'b': {}}, 'a')
    assert rows[0]['mAP']['mean'] == pytest.approx(60) and rows[0]['mAP']['sd'] == pytest.approx(200**0.5)
    assert rows[1]['seeds'] == [] and 'mAP' not in rows[1]
    text = markdown(rows, 'a', 'title')
    assert '| a | 30.0 ± 7.1 (25.0, 35.0) |' in text and '| b | no result |' in text


def test_choices_are_arguments_flags_or_both():
    choices = ablation.parse_choices(['base=', 'long=steps=900,position=True --config.optimizer.ema=0.99', ''])
    assert choices == {'base': ('', []), 'long': ('steps=900,position=True', ['--config.optimizer.ema=0.99'])}


@pytest.mark.parametrize(
    ('given', 'says'),
    [
        (['a'], 'is not NAME=ARGUMENTS'),
        (['=x=1'], 'is not NAME=ARGUMENTS'),
        (['a=x=1 y=2'], 'is not NAME=ARGUMENTS'),
        (['a="x'], 'No closing quotation'),
        (['a b=', 'a_b=x=1'], 'has the folder of another'),
        ([''], 'There is no choice'),
    ],
)
def test_a_choice_that_is_none_is_refused(given, says):
    with pytest.raises(UserError, match=says):
        ablation.parse_choices(given)


MEASURED = {'protocol': 'mars_official', 'frames': 'all', 'rerank': False, 'checkpoint': 'last', 'step': 9}


@pytest.fixture
def runs(monkeypatch):
    """The runs that are started; each result depends on the choice, the data set and the seed alone."""
    started = []

    def run_program(command, _what):
        workdir = ablation.own_path(command[2].removeprefix('--workdir='))
        started.append(command[3:])
        if 'broken' in str(workdir):
            raise UserError(f'The run in {workdir} failed.')
        (workdir / 'eval').mkdir(parents=True, exist_ok=True)
        (workdir / 'config.json').write_text(json.dumps({'dataset.build_options': {}}))
        seed = int(str(workdir)[-1])
        (workdir / 'eval/latest.json').write_text(json.dumps(MEASURED | {'rank_1': 0.5, 'mAP': 0.4 + seed / 10}))

    monkeypatch.setattr(ablation, 'run_program', run_program)
    return started


def called(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, 'argv', ['ablation.py', *map(str, arguments)])
    return ablation.main()


def test_what_is_missing_is_run_once_and_a_failure_spares_the_others(runs, tmp_path, monkeypatch, capsys):
    (tmp_path / 'choices.txt').write_text('base=\nbroken=pooling=average\n')
    given = (
        '--config=c.py:steps=9',
        f'--workdir={tmp_path / "runs"}',
        '--seeds=1,0',
        '--datasets=x, y',
        f'--output={tmp_path / "rows.json"}',
        f'--markdown={tmp_path / "table.md"}',
        f'@{tmp_path / "choices.txt"}',
        'wide=parts=8 --config.optimizer.ema=0.9',
        '--',
        '--config.clips.height=64',
    )
    assert called(monkeypatch, *given) == 1
    assert len(runs) == 2 * 2 * 3
    programs = f'compile_cache={tmp_path / "runs" / ".compile_cache"}'  # of all runs
    fields = (programs, 'evaluation.strips=0', 'dataset.name=y', 'optimizer.ema=0.9', 'clips.height=64')
    assert ['--config=c.py:steps=9,parts=8,seed=1', *(f'--config.{field}' for field in fields)] in runs
    captured = capsys.readouterr()
    assert captured.err.count('failed') == 4
    rows = json.loads((tmp_path / 'rows.json').read_text())['rows']
    seeds = {r['name']: r['seeds'] for r in rows if r['dataset'] == 'y'}
    assert seeds == {'base': [0, 1], 'broken': [], 'wide': [0, 1]}
    assert rows[2]['mAP']['difference']['mean'] == 0 and rows[2]['mAP']['each'] == pytest.approx([40, 50])
    assert '| wide |' in (tmp_path / 'table.md').read_text()
    runs.clear()
    assert called(monkeypatch, *given) == 1
    assert len(runs) == 4 and all('pooling=average' in run[0] for run in runs)  # those that failed, and no other


def test_where_every_run_fails_there_is_no_table(runs, tmp_path, monkeypatch, capsys):
    assert called(monkeypatch, '--config=c.py', f'--workdir={tmp_path}', '--seeds=0', 'broken=') == 1
    captured = capsys.readouterr()
    assert len(runs) == 1 and 'failed' in captured.err and not captured.out.strip()


def test_a_later_evaluation_in_the_folder_of_a_run_changes_no_table(runs, tmp_path, monkeypatch, capsys):
    given = ('--config=c.py', f'--workdir={tmp_path / "runs"}', f'--output={tmp_path / "rows.json"}', 'a=', 'b=parts=8')
    assert called(monkeypatch, *given) == 0
    before = (tmp_path / 'rows.json').read_text()
    other = MEASURED | {'protocol': 'all_but_query', 'frames': 'first:1', 'rank_1': 0.1, 'mAP': 0.1}
    (tmp_path / 'runs/b/seed0/eval/latest.json').write_text(json.dumps(other))
    runs.clear()
    assert called(monkeypatch, *given) == 0
    assert not runs and (tmp_path / 'rows.json').read_text() == before
    assert 'NOT MEASURED ALIKE' not in capsys.readouterr().out


def test_runs_that_were_measured_differently_are_named(runs, tmp_path, monkeypatch):
    given = (
        '--config=c.py',
        f'--workdir={tmp_path / "runs"}',
        f'--markdown={tmp_path / "table.md"}',
        'a=',
        'b=parts=8',
    )
    assert called(monkeypatch, *given) == 0
    for ended in tmp_path.glob('runs/*/*/ended.json'):  # as former versions wrote it, which kept no result
        ended.write_text(json.dumps(json.loads(ended.read_text())['asked']))
    other = MEASURED | {'protocol': 'all_but_query', 'rank_1': 0.1, 'mAP': 0.1}
    (tmp_path / 'runs/b/seed0/eval/latest.json').write_text(json.dumps(other))
    runs.clear()
    assert called(monkeypatch, *given) == 0 and not runs
    said = 'NOT MEASURED ALIKE: protocol mars_official (a, b seed 1, 2), all_but_query (b seed 0)\n'
    assert said in (tmp_path / 'table.md').read_text()


@pytest.mark.parametrize('content', ['', '{"rank_1": 0.5, "mA', '{"rank_1": 0.5}', '[]', '{"asked": ["x"]}'])
def test_a_run_whose_ended_json_is_damaged_has_not_ended(runs, tmp_path, monkeypatch, content):
    given = ('--config=c.py', f'--workdir={tmp_path}', 'a=', 'b=parts=8')
    assert called(monkeypatch, *given) == 0
    (tmp_path / 'b/seed1/ended.json').write_text(content)
    runs.clear()
    assert called(monkeypatch, *given) == 0
    assert [run[0] for run in runs] == ['--config=c.py:parts=8,seed=1']
    assert json.loads((tmp_path / 'b/seed1/ended.json').read_text())['result']['mAP'] == 0.5


@pytest.mark.parametrize('damaged', ['eval/latest.json', 'config.json'])
@pytest.mark.parametrize(
    'content', [None, '', '{"rank_1": 0.5, "mA', '[1]', '{"dataset.build_options": 3, "mAP": "x"}']
)
def test_a_damaged_file_of_one_run_spares_the_tables_of_the_others(
    runs, tmp_path, monkeypatch, capsys, damaged, content
):
    given = ('--config=c.py', f'--workdir={tmp_path}', 'a=', 'b=parts=8')
    assert called(monkeypatch, *given) == 0
    workdir = tmp_path / 'b/seed1'
    ended = workdir / 'ended.json'
    ended.write_text(json.dumps(json.loads(ended.read_text())['asked']))  # of former versions, which kept no result
    (workdir / damaged).unlink() if content is None else (workdir / damaged).write_text(content)
    capsys.readouterr()
    assert called(monkeypatch, *given) == 1
    captured = capsys.readouterr()
    assert captured.err.count('\n') == 1 and str(workdir / damaged) in captured.err
    assert '50.0 ± 14.1 (40.0, 60.0)' in captured.out


def test_every_condition_that_differs_is_named_and_the_step_of_the_best_checkpoint_is_none():
    last, best = MEASURED, MEASURED | {'checkpoint': 'best by validation mAP (50.0%)', 'step': 6}
    assert not not_alike({'a': {0: last}, 'b': {0: last, 1: last}})
    assert not not_alike({'a': {0: best}, 'b': {0: best | {'checkpoint': 'best by validation mAP (60.0%)', 'step': 4}}})
    assert not_alike({'a': {0: last}, 'b': {0: best}}) == 'checkpoint last (a), best (b)'
    other = last | {'rerank': True, 'step': 5}
    assert not_alike({'a': {0: last}, 'b': {0: other}}) == 're-ranking off (a), on (b); step 9 (a), 5 (b)'


@pytest.mark.parametrize(
    'option', ['--baseline=none', '--seeds=a', '--at_once=0', '--datasets=x,x', '--datasets=x,', '--datasets=../x']
)
def test_wrong_options_are_refused_before_a_run(runs, tmp_path, monkeypatch, option):
    given = ('--config=c.py', f'--workdir={tmp_path}', option, 'base=')
    try:
        assert called(monkeypatch, *given) == 2
    except SystemExit as error:
        assert error.code == 2
    assert not runs
