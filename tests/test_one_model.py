"""Embeddings of two models are never compared, wherever they meet; those that do not say their model are."""

import dataclasses

import numpy as np
import pytest

from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation import Embeddings, read_embeddings, score, write_embeddings
from pvlad_jax.evaluation.calibration import calibrate
from pvlad_jax.evaluation.embeddings import FIELDS
from tests.helpers.labelled_people import people, split


@pytest.fixture(scope='module')
def tables():
    return split(people(60, 0))


def of(table: Embeddings, model: str) -> Embeddings:
    return dataclasses.replace(table, fingerprint=model)


def test_a_file_keeps_the_model(tables, tmp_path):
    for model in ('m1', ''):
        write_embeddings(tmp_path / 'e.npz', of(tables[0], model))
        read = read_embeddings(tmp_path / 'e.npz')
        assert read.fingerprint == model and read.select([1, 0]).join(read.select([2])).fingerprint == model
        with np.load(tmp_path / 'e.npz') as file:
            assert set(file) == {*FIELDS, *(['fingerprint'] if model else [])}
    with np.load(tmp_path / 'e.npz') as file:
        columns = dict(file)
    for wrong in (np.array(['m1', 'm2']), np.array(7)):
        np.savez(tmp_path / 'wrong.npz', **columns, fingerprint=wrong)
        with pytest.raises(UserError, match='fingerprint must be one text'):
            read_embeddings(tmp_path / 'wrong.npz')


@pytest.mark.parametrize('models', [('m1', 'm1'), ('m1', ''), ('', 'm2'), ('', '')])
def test_one_model_or_unknown_ones_are_scored(tables, models):
    query, gallery = map(of, tables, models)
    assert score(query, gallery) == score(*tables)
    assert calibrate(query, gallery, 0.01, resamples=5).model == (models[0] or models[1])


def test_two_models_are_refused(tables):
    query, gallery = map(of, tables, ('m1', 'm2'))
    for compare in (score, calibrate):
        with pytest.raises(UserError, match='of the queries are of the model m1, those of the gallery of m2'):
            compare(query, gallery)
    with pytest.raises(UserError, match='those of the training set of m3'):
        score(query, of(gallery, 'm1'), distance='kissme', train=of(gallery, 'm3'))
    with pytest.raises(UserError, match='are of the model m1, not of m2'):
        calibrate(query, tables[1], 0.01, model='m2')


def test_a_gallery_knows_the_model_of_a_file(tables, tmp_path):
    pytest.importorskip('pyarrow')
    from pvlad_jax.gallery.gallery import Gallery
    from pvlad_jax.gallery.table_file import read_table

    query, other = (tmp_path / name for name in ('q.npz', 'other.npz'))
    write_embeddings(query, of(tables[0], 'm1'))
    write_embeddings(other, of(tables[1], 'm2'))
    gallery = Gallery.create(tmp_path / 'g')
    assert gallery.add(query).added == len(tables[0]) and gallery.state.fingerprint == 'm1'
    with pytest.raises(UserError, match='of the model m2, those of the gallery of m1'):
        gallery.add(other)
    with pytest.raises(UserError, match='of the model m2, those of the gallery of m1'):
        gallery.search(read_table(other))
