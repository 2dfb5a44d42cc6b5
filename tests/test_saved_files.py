"""Values out of JSON are of the types that they should be, or a sentence says which one is not."""

import dataclasses

import pytest

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.saved_files import NoFile, json_object, reading, typed


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    rows: int = 0


def test_values_as_types():
    assert typed({'name': 'a'}, Part) == Part('a')
    assert typed([{'name': 'a', 'rows': 3}], tuple[Part, ...]) == (Part('a', 3),)
    assert typed([1, 'a'], tuple[int, str]) == (1, 'a') and typed(3, float) == 3.0 and typed(None, int | None) is None
    assert typed({'a': 1, 'b': 2}, {'a': int, 'c?': str}) == {'a': 1, 'b': 2}
    for value, kind, says in (
        ({}, Part, 'name is missing'),
        ({'name': 'a', 'row': 3}, Part, 'row is unknown'),
        ([{'name': 3}], list[Part], r'\[0\]\.name is 3'),
        ({'a': {'b': [1, True]}}, dict[str, dict[str, list[int]]], r'a\.b\[1\] is True'),
        ({'a': None}, {'a?': int}, 'a is None'),
        ([1], tuple[int, int], r'it is \[1\]'),
        (2**63, int, 'it is 9223372036854775808'),
        (10**400, float, 'it is 1000'),
        (float('nan'), float, 'it is nan'),
        (1, bool, 'it is 1'),
        ('x' * 999, int | None, r"it is 'x+\.\.\.x+'$"),
        ({'name': 3}, Part | None, 'name is 3'),
        (None, int | str, 'it is None'),
    ):
        with pytest.raises(ValueError, match=says):
            typed(value, kind)


def test_a_file_that_is_not_there_or_cannot_be_read(tmp_path):
    with pytest.raises(NoFile, match=r'none cannot be read \(No such file or directory\)\. Do so\.'):
        with reading(tmp_path / 'none', 'Do so.'):
            json_object((tmp_path / 'none').read_bytes())
    with pytest.raises(UserError, match=r'cannot be read \(Is a directory\)\. Do so\.') as error:
        with reading(tmp_path, 'Do so.'):
            json_object(tmp_path.read_bytes())
    assert not isinstance(error.value, NoFile)
