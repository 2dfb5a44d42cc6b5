"""'~' and relative paths mean the same in every command and field."""

from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks.rows import new_file
from data_prep.builder.build import data_set_path
from data_prep.sources.annotations import find_annotation
from data_prep.sources.archives import open_files
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import remote_or_user_path, user_path
from pvlad_jax.data.tracklet_dataset import TrackletDataset, find_dataset
from pvlad_jax.evaluation import Embeddings
from pvlad_jax.evaluation.__main__ import main as evaluation
from pvlad_jax.evaluation.embeddings import write_embeddings
from pvlad_jax.launch import compile_cache
from pvlad_jax.launch.flags import _expanded_config
from pvlad_jax.runs.workdir import open_workdir
from pvlad_jax.training.initialisation.pretrained import read_weights


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'home').mkdir()
    return tmp_path / 'home'


def test_user_path(home, tmp_path):
    assert user_path('~/a') == home / 'a' and user_path('a/b') == tmp_path / 'a/b' and user_path('/a') == Path('/a')
    assert user_path('a~') == tmp_path / 'a~'
    assert remote_or_user_path('gs://bucket/a') == 'gs://bucket/a' and remote_or_user_path('~/a') == str(home / 'a')
    with pytest.raises(UserError, match='no home folder'):
        user_path('~nobody_of_this_name/a')
    with pytest.raises(UserError, match='object storage'):
        user_path('gs://bucket/a')


def test_data_sets(home, tmp_path):
    (home / 'data/mine/1.0.0').mkdir(parents=True)
    (home / 'data/mine/1.0.0/dataset_info.json').write_text('{}')
    assert data_set_path('~/data', 'mine') == find_dataset('~/data', 'mine') == home / 'data/mine/1.0.0'
    assert find_dataset('home/data', 'mine') == home / 'data/mine/1.0.0'
    with pytest.raises(UserError, match=f"No data set 'other' in {home}/data"):
        TrackletDataset.open('~/data', 'other')


def test_sources_tables_and_weights(home):
    (home / 'raw').mkdir()
    (home / 'raw/table.mat').write_bytes(b'1')
    files = open_files('~/raw')
    assert files.read('table.mat') == find_annotation(files, '~/raw', 'table.mat') == b'1'
    with pytest.raises(UserError, match=f'{home}/w.safetensors'):
        read_weights('~/w.safetensors')


def test_working_directory_cache_and_configuration(home, monkeypatch):
    assert open_workdir('~/run') == home / 'run'
    told = {}
    monkeypatch.setattr(jax.config, 'update', lambda name, value: told.update({name: value}))
    compile_cache.use('~/cache', home)
    assert told['jax_compilation_cache_dir'].startswith(f'{home}/cache/cpu-')
    mine = told['jax_compilation_cache_dir']
    monkeypatch.setattr(compile_cache.platform, 'machine', lambda: 'another')
    compile_cache.use('~/cache', home)  # programs of one kind of processor are not run on another
    assert told['jax_compilation_cache_dir'] != mine
    assert _expanded_config('--config=~/mine.py:twins') == f'--config={home}/mine.py:twins'
    assert _expanded_config('--config.dataset.data_dir=~/data') == '--config.dataset.data_dir=~/data'
    assert new_file('~/rows.json') == home / 'rows.json'


def test_evaluation_of_files(home):
    tables = {
        name: Embeddings(
            embedding=np.eye(2, dtype=np.float32),
            person_id=np.array([1, 2]),
            camera_id=np.full(2, camera),
            tracklet=np.array([f'{name}1', f'{name}2']),
        )
        for camera, name in ((1, 'query'), (2, 'gallery'))
    }
    for name, table in tables.items():
        write_embeddings(home / f'{name}.npz', table)
    assert evaluation(['--query=~/query.npz', '--gallery=home/gallery.npz', '--output=~/result.json']) == 0
    assert (home / 'result.json').exists()
