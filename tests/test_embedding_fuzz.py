"""Whatever numbers and names a file of embeddings holds, the result is right or refused in a sentence."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from pvlad_jax.core.errors import UserError
from pvlad_jax.evaluation import Embeddings, Result, read_embeddings, score
from tests.helpers.cmc_map_oracle import evaluate

PROTOCOL = 'all_but_query'
ID_TYPES = ('i1', 'u1', '<i4', '>i4', 'i8', 'u8')
# With a factor that each can hold.
FLOATS = {'f2': 1.0, '<f4': 1.0, '>f4': 1e30, 'f8': 1e-200, '>f8': 1e30, np.longdouble: 1.0}
NAMES = st.text(
    st.characters(exclude_categories=['Cs'], exclude_characters='\0'), min_size=1, max_size=6
) | st.sampled_from(
    ['[bold]', '[/bold]', ':smile:', '\x1b[2J', 'a\nb', '\u202e', ' ', '人/é', '\ud800', '../x', 'None', '-1']
)


def saved(**columns) -> io.BytesIO:
    file = io.BytesIO()
    np.savez(file, **columns)
    file.seek(0)
    return file


def table(rng, rows: int, size: int, names: list[str]) -> dict:
    return {
        'embedding': rng.standard_normal((rows, size)) + 2,
        'person_id': rng.integers(1, 4, rows),
        'camera_id': rng.integers(-1, 3, rows),
        'tracklet': np.array(names, dtype=str),
    }


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(NAMES, min_size=5, max_size=8, unique=True),
    st.sampled_from([1, 4]),
    st.sampled_from(sorted(FLOATS, key=str)),
    st.sampled_from(ID_TYPES),
    st.booleans(),
    st.sampled_from(['cosine', 'euclidean']),
)
def test_any_types_and_names_give_the_result_of_the_plain_evaluator(seed, names, size, kind, ids, as_bytes, distance):
    tables = {
        'query': table(np.random.default_rng([seed, 0]), 2, size, names[:2]),
        'gallery': table(np.random.default_rng([seed, 1]), len(names) - 2, size, names[2:]),
    }
    for columns in tables.values():
        columns['embedding'] = (columns['embedding'] * FLOATS[kind]).astype(kind)
        columns['person_id'] = columns['person_id'].astype(ids)
        if as_bytes:
            columns['tracklet'] = np.array([n.encode('utf-8', 'replace') for n in columns['tracklet'].tolist()])
    try:
        query, gallery = (read_embeddings(saved(**columns)) for columns in tables.values())
        result = score(query, gallery, PROTOCOL, distance)
    except UserError as error:
        # '?' twice, or nothing to find.
        assert 'names must be unique' in str(error) or 'another tracklet of the same person' in str(error)
        return
    everybody = gallery.join(query)
    x, y = (t.embedding.astype(np.float64) / np.abs(everybody.embedding).max() for t in (query, everybody))
    if distance == 'cosine':
        x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    distances = np.square(x[:, None] - y[None]).sum(axis=2)
    gaps = np.diff(np.sort(distances, axis=1), axis=1)
    if gaps.min() < 1e-6:  # as close as float32 can part; on a line all cosines are equal
        return
    expected = evaluate(distances, query, everybody, PROTOCOL)
    expected = expected[expected[:, 0] > 0]
    np.testing.assert_allclose(
        [result.mAP, result.mINP, result.rank_1], [*expected[:, [2, 4]].mean(axis=0), np.mean(expected[:, 1] <= 1)]
    )


GOOD = table(np.random.default_rng(0), 4, 3, list('abcd'))
ANYTHING = arrays(scalar_dtypes(), array_shapes(min_dims=0, max_dims=3, max_side=4)) | st.sampled_from(
    [
        np.array(list('abcd'), object),
        np.array(list('abcc')),
        np.array(['', 'b', 'c', 'd']),
        np.array([b'\xff', b'b', b'c', b'd']),
        np.array([1.0, 2.0, 3.0, 4.0]),
        np.array([1, 2, 3, -7]),
        np.array([1, 2, 3, 2**31]),
        np.array([1, 2, 3, 2**64 - 1], np.uint64),
        np.array(list('1234')),
        np.zeros((4, 3)),
        np.full((4, 3), np.nan),
        np.full((4, 3), np.inf),
        np.full((4, 3), 1e300),
        np.zeros((4, 0)),
        np.zeros((0, 3)),
        np.ones((4, 3), complex),
        np.ones((4, 3), bool),
        np.ones(4, [('a', 'f4')]),
        np.zeros(0, int),
        np.full((4, 3), 1e-45, 'f4'),
    ]
)


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(GOOD)), ANYTHING | st.none(), min_size=1),
    st.sampled_from(['cosine', 'euclidean', 'xqda', 'kissme']),
)
def test_any_columns_are_scored_or_refused_in_a_sentence(changes, distance):
    columns = {name: values for name, values in {**GOOD, **changes}.items() if values is not None}
    try:
        spoilt = read_embeddings(saved(**columns))
        good = Embeddings(**GOOD).checked('good')
        if distance in ('xqda', 'kissme'):
            result = score(good.select([0, 1]), good, PROTOCOL, distance, train=spoilt)
        else:
            result = score(good.select([0, 1]), spoilt, PROTOCOL, distance)
        assert isinstance(result, Result) and 0 <= result.mAP <= 1
    except UserError as error:
        assert str(error) and '\n' not in str(error)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damaged_archives_are_read_or_refused_in_a_sentence(data):
    file = io.BytesIO()
    (np.savez_compressed if data.draw(st.booleans()) else np.savez)(file, **GOOD)
    damaged = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    try:
        np.testing.assert_array_equal(read_embeddings(io.BytesIO(damaged)).embedding, GOOD['embedding'])
    except UserError as error:
        assert '\n' not in str(error)


@pytest.mark.parametrize(
    ('field', 'values', 'says'),
    [
        ('person_id', [1.0, 2, 3, 4], r'person_id must be one integer a tracklet; got float64.*person_id\.astype'),
        ('person_id', list('abcd'), 'person_id must be one integer'),
        ('person_id', 3, 'person_id must be one integer'),
        ('tracklet', [b'\xff', b'b', b'c', b'd'], 'not text in UTF-8'),
        ('tracklet', ['a', '', 'c', 'd'], 'row 1 has an empty name'),
        ('embedding', 3.0, 'must be a matrix of floats'),
        ('embedding', [[1, 2]] * 4, r'Integers are converted by \.astype'),
    ],
)
def test_wrong_types_and_single_values_are_refused_with_what_to_do(field, values, says):
    with pytest.raises(UserError, match=says):
        Embeddings(**{**GOOD, field: np.array(values)}).checked('mine')
