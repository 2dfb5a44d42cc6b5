"""Tables of names: an unknown one is refused with the known ones."""

import pytest

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.registry import Registry


def test_an_unknown_name_is_refused_with_the_field_and_the_known_names():
    fruits = Registry('config.fruit', {'apple': 1, 'pear': 2})
    assert fruits['pear'] == 2 and list(fruits) == ['apple', 'pear'] and fruits.get('plum') is None
    with pytest.raises(UserError, match=r"^config\.fruit = 'plum' is unknown; choose one of: apple, pear\.$"):
        fruits['plum']
