"""What the evaluation command reads is never replaced, and a remedy it gives leads to the right numbers."""
# ruff: noqa: F401, F811  fixtures of another file

import re

import numpy as np
import pytest

from pvlad_jax.commands.dispatcher import main as commands
from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation import Embeddings, read_embeddings, score
from pvlad_jax.evaluation.__main__ import main
from tests.test_evaluation_cli import columns, files, flags, spoil


@pytest.mark.parametrize('read', ['query', 'gallery', 'train'])
def test_a_file_that_is_read_is_not_replaced(files, capsys, read):
    before = files[read].read_bytes()
    (files[read].parent / 'link.json').symlink_to(files[read])
    command = [*flags(files, *files), '--distance=xqda']
    for output in (files[read], files[read].parent / 'link.json'):
        assert main([*command, f'--output={output}']) == 2
        said = capsys.readouterr()
        assert f'is the file that --{read} names' in said.err and not said.out
    assert files[read].read_bytes() == before


def test_a_threshold_does_not_replace_what_it_is_of(files, capsys):
    before = files['query'].read_bytes()
    assert commands(['calibrate', *flags(files, 'query', 'gallery'), f'--output={files["query"]}']) == 2
    assert 'is the file that --query names' in capsys.readouterr().err and files['query'].read_bytes() == before


def test_a_folder_is_no_place_for_the_result_and_said_before_scoring(files, tmp_path, capsys):
    assert main([*flags(files, 'query', 'gallery'), f'--output={tmp_path}']) == 2
    said = capsys.readouterr()
    assert 'is a folder' in said.err and 'Free space' not in said.err and not said.out


def test_training_embeddings_without_a_learned_distance_are_refused(files, capsys):
    assert main(flags(files, *files)) == 2
    assert '--train is for distances that are learned' in capsys.readouterr().err


def test_ids_that_are_whole_numbers_of_another_type_are_to_be_converted(files):
    """Junk and distractors keep their numbers, and one person has one number in both files."""
    tables = {name: read_embeddings(files[name]) for name in ('query', 'gallery')}
    others = ~np.isin(tables['gallery'].tracklet, tables['query'].tracklet)
    tables['gallery'].person_id[np.flatnonzero(others)[:6]] = [-1, 0, -1, 0, 0, -1]
    expected = score(**tables)
    for name, table in tables.items():
        given = {field: getattr(table, field) for field in ('embedding', 'camera_id', 'tracklet')}
        spoil(files[name], **given, person_id=table.person_id.astype(np.float64))
        with pytest.raises(UserError, match=r'person_id\.astype\(np\.int64\)') as error:
            read_embeddings(files[name]).checked(name)
        person_id = columns(files[name])['person_id']
        remedy = re.search(r'person_id\.astype\(np\.int64\)', str(error.value))[0]
        tables[name] = Embeddings(**given, person_id=eval(remedy, {'np': np, 'person_id': person_id}))
    assert score(**tables).to_json() == expected.to_json()


@pytest.mark.parametrize(
    'field, says',
    [('person_id', 'people from 1, by one table .* -1 for junk and 0 for'), ('camera_id', 'cameras from 0')],
)
def test_names_are_to_be_numbered_over_all_files(files, field, says):
    spoil(files['query'], **{field: np.array([f'a{i}' for i in columns(files['query'])[field]])})
    with pytest.raises(UserError, match=says):
        read_embeddings(files['query']).checked('query')


def test_a_query_without_camera_is_counted_once(files):
    query, gallery = read_embeddings(files['query']), read_embeddings(files['gallery'])
    query = Embeddings(**{**vars(query), 'tracklet': np.char.add('q', query.tracklet)})
    query.camera_id[0] = -1
    with pytest.raises(UserError, match=f'1 queries and 0 gallery tracklets .* first {str(query.tracklet[0])!r}'):
        score(query, gallery, 'mars_official')
