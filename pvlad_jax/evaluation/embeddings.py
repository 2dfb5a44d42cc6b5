"""A table of embeddings with their labels, and its npz file: `embedding, person_id, camera_id, tracklet`, one row a
tracklet, and `fingerprint`, which tells embeddings of one model from those of another.
"""

import dataclasses
import io
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
from jaxtyping import Integer, Shaped

from pvlad_jax.core.errors import UserError, first_line
from pvlad_jax.core.files import atomic_write
from pvlad_jax.core.npz_file import read_npz

FIELDS = ('embedding', 'person_id', 'camera_id', 'tracklet')
_FINGERPRINT = 'fingerprint'  # files of other programs and of former versions have none
_ROWS_PER_CHECK = 65_536  # bounds the temporary of the check for NaN


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels:
    """Who is seen in which tracklet.

    person_id: -1 junk, 0 distractor, people from 1. camera_id: any number from 0, -1 = unknown. tracklet: unique names,
      str.
    """

    # Whatever a file holds, until `checked` has looked: then Int [N], Int [N] and text [N].
    person_id: Shaped[np.ndarray, '...']
    camera_id: Shaped[np.ndarray, '...']
    tracklet: Shaped[np.ndarray, '...']

    def __len__(self) -> int:
        return len(self.person_id)

    def select(self, rows):
        """The rows of a mask, slice or index array, in its order."""
        return dataclasses.replace(self, **{name: column[rows] for name, column in self._columns().items()})

    def join(self, other):
        """The rows of both, `other` last."""
        more = other._columns()
        return dataclasses.replace(
            self, **{name: np.concatenate([column, more[name]]) for name, column in self._columns().items()}
        )

    def _columns(self) -> dict[str, Shaped[np.ndarray, '...']]:
        return {name: getattr(self, name) for name in FIELDS if hasattr(self, name)}

    def checked(self, name: str):
        """The same rows with ids as int32 and names as str.

        UserError, which begins with `name`, where anything is wrong with them.
        """
        person_id, camera_id = (
            _ids(self, name, *about)
            for about in (
                ('person_id', '-1 = junk, 0 = distractor, people from 1'),
                ('camera_id', '-1 = unknown, cameras from 0'),
            )
        )
        tracklet = _names(self.tracklet, name)
        lengths = {name: np.shape(column)[:1] for name, column in self._columns().items()}
        if len(set(lengths.values())) > 1:
            raise UserError(
                f'{name}: one row a tracklet is needed in every field, but their lengths differ: '
                + ', '.join(f'{k} {v[0] if v else "(a single value)"}' for k, v in lengths.items())
                + '. Ids per frame do not fit embeddings per tracklet.'
            )
        if not len(tracklet):
            raise UserError(f'{name} is empty: no tracklets.')
        names, counts = np.unique(tracklet, return_counts=True)
        if names[0] == '':
            raise UserError(
                f'{name}: the tracklet of row {int((tracklet == "").argmax())} has an empty name. Names tell which '
                'gallery tracklet is the query itself: give each tracklet one.'
            )
        if counts.max() > 1:
            raise UserError(
                f'{name}: tracklet name {str(names[counts.argmax()])!r} occurs {counts.max()} times; names must be '
                'unique.'
            )
        return dataclasses.replace(
            self, person_id=person_id.astype(np.int32), camera_id=camera_id.astype(np.int32), tracklet=tracklet
        )


def _ids(table: 'Labels', name: str, field: str, meaning: str) -> Integer[np.ndarray, 'N']:
    ids = as_array(getattr(table, field), f'{name}: {field}')
    if ids.ndim != 1 or ids.dtype.kind not in 'iu':
        raise UserError(
            f'{name}: {field} must be one integer a tracklet; got {ids.dtype} of shape {ids.shape}. '
            f'{_remedy(ids, field)}'
        )
    if len(ids) and (ids.min() < -1 or ids.max() > np.iinfo(np.int32).max):
        raise UserError(f'{name}: {field} holds {ids.min()} to {ids.max()}; allowed are 32-bit numbers with {meaning}.')
    return ids


def _remedy(ids: Shaped[np.ndarray, '...'], field: str) -> str:
    """How to make integers of ids that are none. One person or camera must have one number in all files."""
    if ids.dtype.kind == 'f' and np.isfinite(ids).all() and (ids == np.rint(ids)).all():
        return f'These are whole numbers: {field}.astype(np.int64).'
    kept = '-1 for an unknown camera' if field == 'camera_id' else '-1 for junk and 0 for distractors'
    what = 'cameras from 0' if field == 'camera_id' else 'people from 1'
    return f'Number {what}, by one table for queries, gallery and training tracklets together, and keep {kept}.'


def _names(tracklet: Any, name: str) -> Shaped[np.ndarray, 'N']:
    """As str. Bytes are UTF-8."""
    tracklet = as_array(tracklet, f'{name}: tracklet')
    if tracklet.ndim != 1 or tracklet.dtype.kind not in 'US':
        raise UserError(
            f'{name}: tracklet must be one name (fixed-width text) a tracklet; got {tracklet.dtype} of shape '
            f'{tracklet.shape}. Make it with np.array(names, dtype=str).'
        )
    if tracklet.dtype.kind == 'U':
        return tracklet
    try:
        return np.char.decode(tracklet, 'utf-8')
    except UnicodeDecodeError as error:
        raise UserError(
            f'{name}: tracklet {error.object!r} is not text in UTF-8. Decode the names, with np.char.decode(names, '
            'ENCODING), before they are written.'
        ) from error


def as_array(values: Any, what: str) -> np.ndarray:
    """UserError for what is not an array and cannot become one."""
    try:
        return np.asarray(values)
    except Exception as error:  # lists of different lengths, tensors on a device: whatever cannot be made an array of
        raise UserError(f'{what} is not an array: {error}') from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embeddings(Labels):
    """Labels with one vector each. fingerprint: of the model that made them (`pvlad_jax.load(...).fingerprint`); '' =
    unknown."""

    embedding: Shaped[np.ndarray, '...']  # Float [N, E] once checked
    fingerprint: str = ''

    @property
    def labels(self) -> Labels:
        return Labels(person_id=self.person_id, camera_id=self.camera_id, tracklet=self.tracklet)

    def checked(self, name: str) -> 'Embeddings':
        """As `Labels.checked`, and embeddings as finite float32, or float64 where they have more digits than float32
        holds.
        """
        embedding = as_array(self.embedding, f'{name}: embedding')
        if embedding.ndim != 2 or embedding.dtype.kind != 'f' or not embedding.shape[1]:
            raise UserError(
                f'{name}: embedding must be a matrix of floats [tracklets, size]; '
                f'got {embedding.dtype} of shape {embedding.shape}. Integers are converted by .astype(np.float32).'
            )
        table = super().checked(name)
        check_finite(embedding, f'{name}: embedding', table.tracklet, np.float32)
        kind = np.float32 if embedding.dtype.itemsize <= 4 else np.float64
        return dataclasses.replace(table, embedding=np.ascontiguousarray(embedding, kind))


def one_model(tables: Mapping[str, Embeddings | None]) -> str:
    """The fingerprint of the model that made all of these tables, by what they are; '' where none says it. UserError
    where two of them differ: distances between models mean nothing.
    """
    known = {name: table.fingerprint for name, table in tables.items() if table is not None and table.fingerprint}
    first = next(iter(known), '')
    other = next((name for name in known if known[name] != known[first]), None)
    if other is not None:
        raise UserError(
            f'The embeddings of the {first} are of the model {known[first]}, those of the {other} of {known[other]}. '
            'Distances between models mean nothing: embed both with one.'
        )
    return known.get(first, '')


def check_finite(matrix: Shaped[np.ndarray, 'N E'], name: str, row_names=None, kind=np.longdouble) -> None:
    """UserError that names the first row with NaN, Inf or a number beyond the range of `kind`."""
    for start in range(0, len(matrix), _ROWS_PER_CHECK):
        rows = matrix[start : start + _ROWS_PER_CHECK]
        bad = ~(np.abs(rows) <= np.finfo(kind).max).all(axis=1)
        if bad.any():
            row = start + int(bad.argmax())
            tracklet = '' if row_names is None else f' (tracklet {str(row_names[row])!r})'
            what = f'a number beyond the range of {np.dtype(kind)}' if np.isfinite(matrix[row]).all() else 'NaN or Inf'
            raise UserError(
                f'{name} holds {what}, first in row {row}{tracklet}. Such rows have no place in a ranking: '
                'find where they come from.'
            )


def write_embeddings(path: str | PathLike, embeddings: Embeddings) -> None:
    """Writes the npz file; a reader sees the old file or the whole new one, never a part."""
    table = embeddings.checked(str(path))
    with atomic_write(path) as partial, open(partial, 'wb') as file:
        said = {_FINGERPRINT: np.array(table.fingerprint)} if table.fingerprint else {}
        np.savez(file, **{field: getattr(table, field) for field in FIELDS}, **said)


def read_embeddings(path: str | PathLike | io.IOBase) -> Embeddings:
    """Reads and checks an npz file of any origin, by its path or open for reading. Nothing in it is unpickled."""
    try:
        columns = read_npz(path, FIELDS, optional=[_FINGERPRINT])
    except FileNotFoundError as error:
        raise UserError(f'There is no file {path}.') from error
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror or first_line(error)}.') from error
    except ValueError as error:
        raise UserError(
            f'{path} {error}. Labelled embeddings are an .npz file of the plain arrays {", ".join(FIELDS)}, as an '
            'evaluation writes it, or embed with --output=X.npz; names are fixed-width text, not objects.'
        ) from error
    fingerprint = columns.pop(_FINGERPRINT, np.array(''))
    if fingerprint.shape != () or fingerprint.dtype.kind != 'U':
        raise UserError(
            f'{path}: {_FINGERPRINT} must be one text; got {fingerprint.dtype} of shape {fingerprint.shape}. Leave it '
            'out where the model is unknown.'
        )
    return Embeddings(**columns, fingerprint=str(fingerprint)).checked(str(path))
