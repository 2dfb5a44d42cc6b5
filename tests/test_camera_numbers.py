"""Folder names become numbers of cameras and people: any names, the same numbers always, assumptions said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.sources.camera_numbers import UNKNOWN_CAMERA, camera_notes, given_numbers, number_cameras
from data_prep.sources.person_numbers import number_people, person_notes
from pvlad_jax.core import labels
from pvlad_jax.core.errors import UserError


def numbers(names, in_test=(), given=None):
    return number_cameras(names, in_test, given).numbers


def test_unknown_is_what_the_protocols_call_it():
    assert UNKNOWN_CAMERA == labels.UNKNOWN_CAMERA


def test_numbers_in_names_are_kept():
    assert numbers(['c1', 'cam_2', 'Camera-3', '4', 'c05']) == {'c1': 1, 'cam_2': 2, 'Camera-3': 3, '4': 4, 'c05': 5}
    assert numbers(['view2', 'view7']) == {'view2': 2, 'view7': 7}
    assert numbers(['cam_a', 'b', 'camc']) == {'cam_a': 1, 'b': 2, 'camc': 3}


def test_other_names_follow_in_sorted_order():
    assert numbers(['entrance hall', 'c3', 'yard']) == {'c3': 3, 'entrance hall': 4, 'yard': 5}
    assert numbers(['entrance', 'Ausgang', 'cam_b']) == {'Ausgang': 3, 'cam_b': 2, 'entrance': 4}
    assert numbers(['hall1', 'yard1']) == {'hall1': 1, 'yard1': 2}  # not both camera 1
    assert numbers(['c1', 'cam_a']) == {'c1': 1, 'cam_a': 2}
    assert numbers(['99999999999', 'c1']) == {'99999999999': 2, 'c1': 1}


@given(st.sets(st.text(alphabet='abcé日 _-.', min_size=2, max_size=6), max_size=8))
def test_any_names_have_numbers_of_their_own(names):
    found = numbers(names)
    known = [i for i in found.values() if i != UNKNOWN_CAMERA]
    assert found.keys() == names and len(set(known)) == len(known) and all(i >= 1 for i in known)
    assert found == numbers(sorted(names, reverse=True))


@pytest.mark.parametrize(
    'train, test, zero',
    [
        (['0'], ['0'], -1),  # the only one
        (['c0'], ['c0', 'unknown'], -1),
        (['c0', 'door', 'yard 2'], ['c0', 'door', 'yard 2'], -1),  # the only number of a camera
        (['0', '1'], ['0', '1'], 0),  # counted from 0
        (['cam0', 'cam1'], ['cam0', 'cam1'], 0),
        (['c0', 'c1'], ['c0', 'c1'], 0),
        (['0', '1'], ['2', '3'], 0),  # trained and tested with other cameras
        (['c0', 'c1'], ['c2', 'c3'], -1),
        ([f'c{i}' for i in range(7)], [f'c{i}' for i in range(1, 7)], -1),  # as in MARS panels
        ([f'{i}' for i in range(7)], [f'{i}' for i in range(1, 7)], -1),
        (['c0', 'c1', 'c2', 'c3'], ['c1', 'c2'], -1),
        (['C0', 'C1', 'C2', 'C3'], ['C1', 'C2'], -1),  # as in small letters
    ],
)
def test_zero_is_a_camera_or_unknown(train, test, zero):
    result = number_cameras({*train, *test}, test)
    name = next(n for n in train if n.endswith('0'))
    assert result.numbers[name] == zero
    assert f'--camera_numbers={name}={"unknown" if zero == 0 else 0}' in result.assumed
    assert numbers({*train, *test}, test, given_numbers(f'{name}={"unknown" if zero == 0 else 0}'))[name] == (
        -1 if zero == 0 else 0
    )


def test_the_user_has_the_last_word():
    assert numbers(['c0', 'hall', 'c2'], given={'c0': 7, 'hall': 2, 'c2': 2}) == {'c0': 7, 'hall': 2, 'c2': 2}
    assert given_numbers(' c0 = unknown,entrance hall=3, a=b=4') == {'c0': -1, 'entrance hall': 3, 'a=b': 4}
    for wrong in ('c0=' + '9' * 5000, 'c0', 'c0=x', '=3', 'c0=-2', 'a=1,a=2', 'a=99999999999'):
        with pytest.raises(UserError, match='--camera_numbers'):
            given_numbers(wrong)
    with pytest.raises(UserError, match='names c9, but the camera folders are c1, c2'):
        number_cameras(['c1', 'c2'], given={'c9': 1})


def test_two_names_of_one_number_are_refused_with_a_way_out():
    with pytest.raises(UserError, match=r"'1' and 'c1' both read as camera 1.*--camera_numbers=1=1,c1=1") as error:
        number_cameras(['c1', '1'])
    hint = str(error.value).partition('--camera_numbers=')[2].partition(';')[0]
    assert numbers(['c1', '1'], given=given_numbers(hint)) == {'1': 1, 'c1': 1}


def test_cameras_are_said():
    text = ' '.join(camera_notes(number_cameras(['entrance', 'c2', 'c0'], ['c2', 'entrance'])))
    assert 'Cameras: c2 = 2, entrance = 3; c0 = unknown.' in text and "'c0' is taken as an unknown camera" in text
    assert 'No camera is known' in ' '.join(camera_notes(number_cameras(['none'])))


NUMBERS = (st.integers(0, 3000).map(str), st.integers(0, 99).map('{:04d}'.format))


@given(st.sets(st.one_of(*NUMBERS, st.text('aé日 0_-', min_size=1, max_size=4))))
def test_people_are_numbered_once_each(names):
    found = number_people(names)
    assert found.keys() == names and len(set(found.values())) == len(names) and min(found.values(), default=1) >= 1
    numeric = {n: int(n) for n in names if n.isascii() and n.isdigit() and int(n) >= 1}
    for name, number in numeric.items():
        if list(numeric.values()).count(number) == 1:
            assert found[name] == number
    assert found == number_people(sorted(names, reverse=True))


def test_junk_and_distractors_are_those_of_mars():
    test = {'query', 'gallery'}
    people = number_people({'0001': {'train'}, '00-1': {'gallery'}, '-1': test, '0000': {'gallery'}, '0002': test})
    assert people == {'0001': 1, '00-1': -1, '-1': -1, '0000': 0, '0002': 2}
    text = ' '.join(person_notes(people))
    assert 'Junk, as in MARS: -1, 00-1' in text and 'Distractors, as in MARS: 0000' in text


def test_digits_of_other_scripts_are_names():
    people = number_people({'²': {'train'}, '٣': {'train'}, '2': {'train'}})
    assert people == {'2': 2, '²': 3, '٣': 4}
    assert 'named by numbers, which are kept (2)' in ' '.join(person_notes(people))


@pytest.mark.parametrize('roles', [{'train'}, {'train', 'gallery'}, {'query', 'gallery'}])
def test_people_that_count_from_0_are_people(roles):
    people = number_people({'0': roles, '1': {'train'}, '2': {'query', 'gallery'}})
    assert people == {'0': 3, '1': 1, '2': 2}
    assert '0 = 3: taken as a person' in ' '.join(person_notes(people))
