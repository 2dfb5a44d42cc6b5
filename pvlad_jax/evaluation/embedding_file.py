"""A table of embeddings with their labels, and its npz file: `embedding, person_id, camera_id, tracklet`, one row a tracklet."""

import dataclasses
import zipfile
from os import PathLike

import numpy as np
from jaxtyping import Float, Shaped

from pvlad_jax.errors import UserError
from pvlad_jax.evaluation.whole_file import whole_file

JUNK = -1  # person: ignored everywhere (MARS)
DISTRACTOR = 0  # person: never a match (MARS)
UNKNOWN_CAMERA = -1
FIELDS = ('embedding', 'person_id', 'camera_id', 'tracklet')
_ROWS_PER_CHECK = 65_536  # bounds the temporary of the check for NaN


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels:
    """Who is seen in which tracklet.

    person_id: -1 junk, 0 distractor, people from 1. camera_id: any number from 0, -1 = unknown. tracklet: unique names, str.
    """

    # Whatever a file holds, until `checked` has looked: then Int [N], Int [N] and text [N].
    person_id: Shaped[np.ndarray, '...']
    camera_id: Shaped[np.ndarray, '...']
    tracklet: Shaped[np.ndarray, '...']

    def __len__(self) -> int:
        return len(self.person_id)

    def select(self, rows):
        """The rows of a mask, slice or index array, in its order."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)})

    def join(self, other):
        """The rows of both, `other` last."""
        return type(self)(**{f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in dataclasses.fields(self)})

    def checked(self, name: str):
        """The same rows with ids as int32 and names as str. UserError, which begins with `name`, where anything is wrong with them."""
        person_id, camera_id, tracklet = (np.asarray(getattr(self, f)) for f in ('person_id', 'camera_id', 'tracklet'))
        for field, ids, meaning in (('person_id', person_id, '-1 = junk, 0 = distractor, people from 1'),
                                    ('camera_id', camera_id, '-1 = unknown, cameras from 0')):
            if ids.ndim != 1 or ids.dtype.kind not in 'iu':
                raise UserError(f'{name}: {field} must be one integer a tracklet; got {ids.dtype} of shape {ids.shape}.')
            if len(ids) and (ids.min() < -1 or ids.max() > np.iinfo(np.int32).max):
                raise UserError(f'{name}: {field} holds {ids.min()} to {ids.max()}; allowed are 32-bit numbers with {meaning}.')
        if tracklet.ndim != 1 or tracklet.dtype.kind not in 'US':
            raise UserError(f'{name}: tracklet must be one name (fixed-width text) a tracklet; '
                            f'got {tracklet.dtype} of shape {tracklet.shape}.')
        if tracklet.dtype.kind == 'S':
            tracklet = np.char.decode(tracklet, 'utf-8')
        lengths = {f.name: len(getattr(self, f.name)) for f in dataclasses.fields(self)}
        if len(set(lengths.values())) > 1:
            raise UserError(f'{name}: one row a tracklet is needed in every field, but their lengths differ: '
                            + ', '.join(f'{k} {v}' for k, v in lengths.items()) + '. Ids per frame do not fit embeddings per tracklet.')
        if not len(tracklet):
            raise UserError(f'{name} is empty: no tracklets.')
        names, counts = np.unique(tracklet, return_counts=True)
        if counts.max() > 1:
            raise UserError(f'{name}: tracklet name {str(names[counts.argmax()])!r} stands {counts.max()} times; names must be unique.')
        return dataclasses.replace(self, person_id=person_id.astype(np.int32), camera_id=camera_id.astype(np.int32), tracklet=tracklet)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embeddings(Labels):
    """Labels with one vector each."""

    embedding: Shaped[np.ndarray, '...']  # Float [N, E] once checked

    @property
    def labels(self) -> Labels:
        return Labels(self.person_id, self.camera_id, self.tracklet)

    def checked(self, name: str) -> 'Embeddings':
        """As `Labels.checked`, and embeddings as finite float32."""
        table = super().checked(name)
        embedding = np.asarray(self.embedding)
        if embedding.ndim != 2 or embedding.dtype.kind != 'f' or not embedding.shape[1]:
            raise UserError(f'{name}: embedding must be a matrix of floats [tracklets, size]; '
                            f'got {embedding.dtype} of shape {embedding.shape}.')
        with np.errstate(over='ignore'):
            embedding = np.ascontiguousarray(embedding, np.float32)
        check_finite(embedding, f'{name}: embedding', table.tracklet)
        return dataclasses.replace(table, embedding=embedding)


def check_finite(matrix: Float[np.ndarray, 'N E'], name: str, row_names=None) -> None:
    """UserError that names the first row with NaN or Inf."""
    for start in range(0, len(matrix), _ROWS_PER_CHECK):
        bad = ~np.isfinite(matrix[start:start + _ROWS_PER_CHECK]).all(axis=1)
        if bad.any():
            row = start + int(bad.argmax())
            tracklet = '' if row_names is None else f' (tracklet {str(row_names[row])!r})'
            raise UserError(f'{name} holds NaN or Inf, first in row {row}{tracklet}. Such rows have no place in a ranking: '
                            'find where they come from.')


def write_embeddings(path: str | PathLike, embeddings: Embeddings) -> None:
    """Writes the npz file; a reader sees the old file or the whole new one, never a part."""
    table = embeddings.checked(str(path))
    with whole_file(path) as partial, open(partial, 'wb') as file:
        np.savez(file, **{field: getattr(table, field) for field in FIELDS})


def read_embeddings(path: str | PathLike) -> Embeddings:
    """Reads and checks an npz file, anybody's. Nothing in it is unpickled."""
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise UserError(f'{path} is a single array; an .npz file with the fields {", ".join(FIELDS)} is needed.')
        with file:
            missing = [field for field in FIELDS if field not in file.files]
            if missing:
                raise UserError(f'{path} lacks {", ".join(missing)}; an embedding file has the fields {", ".join(FIELDS)}.')
            columns = {field: file[field] for field in FIELDS}
    except FileNotFoundError as error:
        raise UserError(f'There is no file {path}.') from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f'{path} is not a readable .npz file of plain arrays ({error}). '
                        'Names must be fixed-width text, not objects.') from error
    return Embeddings(**columns).checked(str(path))
