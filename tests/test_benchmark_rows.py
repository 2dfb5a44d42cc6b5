"""What benchmarks say before they measure, and what they write."""

import argparse
import json

import pytest

from benchmarks.rows import at_least_one, need, new_file, repeated_row, row, show, write

ROWS = [
    repeated_row('step', [2.4, 2.5, 2.6], [1.9, 2.0, 2.1], 'clips/s', less_is_better=False),
    row('memory', 300.0, None, 'MB'),
]


def test_a_peer_that_is_not_installed_is_named_with_what_to_do():
    need('json')
    with pytest.raises(
        SystemExit, match=r'no_such_peer, not installed here: pip install -r requirements-benchmarks\.txt'
    ):
        need('json', 'no_such_peer')


def test_a_file_that_cannot_be_written_is_told_before(tmp_path):
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument('--output', type=new_file)
    for given, reason in (
        (tmp_path, 'it is a folder'),
        (tmp_path / 'missing' / 'rows.json', 'there is no folder .*missing'),
    ):
        with pytest.raises(argparse.ArgumentError, match=reason):
            parser.parse_args([f'--output={given}'])


def test_a_number_of_rounds_is_at_least_one():
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument('--rounds', type=at_least_one)
    assert parser.parse_args(['--rounds=3']).rounds == 3
    for given in ('0', '-1', 'two', '1.5'):
        with pytest.raises(argparse.ArgumentError, match=f'{given} is no whole number from 1'):
            parser.parse_args([f'--rounds={given}'])


def test_rows_reach_the_file_and_the_table(tmp_path, capsys):
    write(new_file(str(tmp_path / 'rows.json')), ROWS, about={'cores': 2})
    read = json.loads((tmp_path / 'rows.json').read_text())
    assert read['about'] == {'cores': 2} and read['rows'][0]['ours_spread'] == [2.4, 2.6] and read['rows'][1] == ROWS[1]
    show(ROWS, 'a title')
    told = capsys.readouterr().out
    assert 'a title' in told and '1.25' in told and '2.4–2.6' in told and '300' in told and 'None' not in told
