"""Benchmarks whose table or picture is of the same tracklets for all runs refuse runs of other ones."""

import json
import sys

import pytest

from benchmarks import corrupted_queries, mask_picture, part_masks, people_masks
from pvlad_jax.core.errors import UserError
from tests.helpers.micro import build_micro
from tests.helpers.small_models import write_workdir

HELD_OUT = {'dataset.validation_share': 0.5}


@pytest.fixture(scope='module')
def first(tmp_path_factory):
    return write_workdir(tmp_path_factory.mktemp('same') / 'first', **HELD_OUT)


def of_seed(folder, seed):
    """A run that held people out by another config.seed."""
    path = write_workdir(folder, **HELD_OUT) / 'config.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'seed': seed}))
    return folder


@pytest.fixture
def compared(monkeypatch, first, micro_data):
    """Calls a benchmark for the first run and another one, until it would look at tracklets."""

    def compare(benchmark, other, *arguments, data_dir=micro_data):
        def stop(*_given):
            raise InterruptedError

        for name in ('scores_of_run', 'walker_masks', 'poses'):
            if hasattr(benchmark, name):
                monkeypatch.setattr(benchmark, name, stop)
        given = [first, other, *([f'--data_dir={data_dir}'] if data_dir else []), *arguments]
        monkeypatch.setattr(sys, 'argv', ['benchmark.py', *map(str, given)])
        with pytest.raises(InterruptedError):
            benchmark.main()

    return compare


@pytest.mark.parametrize(
    ('fields', 'differs'),
    [
        ({'dataset.validation_share': 0.35}, r'the held-out queries \(6 and 4 tracklets'),
        ({'evaluation.protocol': 'all_but_query'}, r'the protocol \(mars_official and all_but_query\)\.'),
        ({'evaluation.unknown_cameras': 'other'}, r'the treatment of unknown cameras \(refuse and other\)\.'),
    ],
)
def test_queries_of_other_held_out_people_are_not_compared(compared, first, tmp_path, fields, differs):
    other = write_workdir(tmp_path / 'other', **{**HELD_OUT, **fields})
    with pytest.raises(UserError, match=f'{first} and {other} cannot be compared: they differ in {differs}'):
        compared(corrupted_queries, other)


def test_queries_of_another_seed_are_not_compared(compared, first, tmp_path):
    other = of_seed(tmp_path / 'other', 1)
    queries = r'the held-out queries \(6 and 6 tracklets, [024] of them the same\)'
    with pytest.raises(UserError, match=rf'{first} and {other} cannot .* differ in {queries}, the held-out gallery \('):
        compared(corrupted_queries, other)


def test_masks_of_other_people_are_not_compared(compared, tmp_path):
    other = of_seed(tmp_path / 'other', 1)
    with pytest.raises(
        UserError, match=r'differ in the people to look at \(12 and 12 tracklets, \d of them the same\)'
    ):
        compared(people_masks, other)


def test_masks_of_other_times_do_not_get_into_one_picture(compared, tmp_path):
    other = write_workdir(tmp_path / 'other', **HELD_OUT, **{'clips.frames': 8})
    with pytest.raises(UserError, match=r'they differ in the frames of a clip \(4 and 8\)\. Draw each'):
        compared(mask_picture, other, f'--output={tmp_path / "masks.png"}')


@pytest.mark.parametrize('benchmark', [corrupted_queries, part_masks, mask_picture, people_masks])
def test_runs_of_two_data_sets_are_not_compared(compared, first, tmp_path, benchmark):
    build_micro(tmp_path)
    build_micro(tmp_path, name='second')
    output = f'--output={tmp_path / "masks.png"}'
    renamed = write_workdir(tmp_path / 'renamed', **{**HELD_OUT, 'dataset.name': 'second'})
    with pytest.raises(UserError, match=rf'the data set \(micro in {tmp_path} and second in {tmp_path}\)'):
        compared(benchmark, renamed, output, data_dir=tmp_path)
    alike = write_workdir(tmp_path / 'alike', 1, **HELD_OUT)
    compared(benchmark, alike, output, data_dir=tmp_path)


@pytest.mark.parametrize('benchmark', [part_masks, mask_picture])
def test_a_data_set_of_the_same_name_elsewhere_is_another_one(compared, first, tmp_path, benchmark):
    other = write_workdir(tmp_path / 'other', **{**HELD_OUT, 'dataset.data_dir': str(tmp_path)})
    with pytest.raises(UserError, match=rf'no_data and micro in {tmp_path}\)\. .* name one with --data_dir'):
        compared(benchmark, other, f'--output={tmp_path / "masks.png"}', data_dir='')
