"""Values out of JSON are of the types that they should be, or a sentence says which one is not."""

import dataclasses
import json

import msgspec
import pytest

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.saved_files import Finite, Int64, NoFile, json_object, reading


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    rows: Int64 = 0


@dataclasses.dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...] = ()
    share: Finite = 0.0
    step: Int64 | None = None
    flip: bool = False


def test_numbers_are_of_their_type_and_of_a_size_to_compute_with():
    assert msgspec.convert({'share': 3, 'step': -(2**63)}, Whole) == Whole(share=3.0, step=-(2**63))
    for field, value, says in (
        ('step', True, 'Expected `int . null`, got `bool`'),
        ('step', '3', 'Expected `int . null`, got `str`'),
        ('step', 3.0, 'Expected `int . null`, got `float`'),
        ('step', 2**63, r'Expected `int` <= \d{19}'),
        ('step', -(2**63) - 1, 'Expected `int` >= -'),
        ('step', 10**400, r'Expected `int` <= \d{19}'),
        ('share', 10**400, 'Number out of range'),
        ('share', float('nan'), 'Expected `float` >= -1'),
        ('share', float('-inf'), 'Expected `float` >= -1'),
        ('share', float('inf'), 'Expected `float` <= 1'),
        ('share', True, 'Expected `float`, got `bool`'),
        ('flip', 1, 'Expected `bool`, got `int`'),
    ):
        with pytest.raises(ValueError, match=rf'{says}.* - at `\$\.{field}`'):
            msgspec.convert(json_object(json.dumps({field: value}).encode()), Whole)


def test_what_is_damaged_is_said_with_its_place(tmp_path):
    path = tmp_path / 'parts.json'
    for content, says in (
        ('{"parts": [{"name": "a", "rows": "x"}]}', r'Expected `int`, got `str` - at `\$\.parts\[0\]\.rows`'),
        ('{"parts": [{"rows": 3}]}', r'Object missing required field `name` - at `\$\.parts\[0\]`'),
        ('[]', 'it holds no fields, but a value of type list'),
        ('{"parts": ' * 100_000, 'it is nested too deeply'),
        ('{"parts": [', r'Expecting value: line 1 .*'),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=rf'parts\.json is damaged \({says}\)\. Do so\.$'):
            with reading(path, 'Do so.'):
                msgspec.convert(json_object(path.read_bytes()), Whole)


def test_a_file_that_is_not_there_or_cannot_be_read(tmp_path):
    with pytest.raises(NoFile, match=r'none cannot be read \(No such file or directory\)\. Do so\.'):
        with reading(tmp_path / 'none', 'Do so.'):
            json_object((tmp_path / 'none').read_bytes())
    with pytest.raises(UserError, match=r'cannot be read \(Is a directory\)\. Do so\.') as error:
        with reading(tmp_path, 'Do so.'):
            json_object(tmp_path.read_bytes())
    assert not isinstance(error.value, NoFile)
