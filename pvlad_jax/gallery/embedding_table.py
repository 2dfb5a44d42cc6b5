"""The table of embeddings that users' own videos are made into: Parquet, one row a tracklet.

| column | type | meaning |
|---|---|---|
| `tracklet` | string | its name, unique, any text |
| `source` | string | the video or folder that it comes from; '' = unknown |
| `camera` | string | any name; '' = unknown |
| `first_frame`, `last_frame` | int64 | numbers in the source, from 0; -1 = unknown |
| `start_seconds`, `end_seconds` | float64 | since the source began, or since 1970; null (NaN) = unknown |
| `frames` | int32 | how many were embedded; -1 = unknown |
| `embedding` | fixed-size list of float32 | as the model gives it |

gallery/table_file.py writes and reads the files.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped

from pvlad_jax.core.errors import UserError

try:
    import pyarrow as pa
except ImportError as error:
    raise UserError(
        'Tables of embeddings need pyarrow, which is not installed: pip install -r requirements-use.txt'
    ) from error

from pvlad_jax.gallery.metadata_columns import COLUMNS, metadata_of

MAX_NAME = 1000  # characters
NAME_SHOWN = 60  # characters of one that is too long


@dataclasses.dataclass(frozen=True)
class EmbeddingTable:
    """Rows of the table.

    metadata: the columns of `METADATA_SCHEMA`. fingerprint: of the model, '' where it is unknown.
    """

    metadata: pa.Table
    embedding: Shaped[np.ndarray, '...']  # Float [N, E] once checked
    fingerprint: str = ''

    def __len__(self) -> int:
        return len(self.embedding)

    @property
    def names(self) -> list[str]:
        return self.metadata['tracklet'].to_pylist()

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any], embedding: Any, fingerprint: str = '') -> 'EmbeddingTable':
        """From sequences by column name; those that are left out are unknown. `tracklet` must be there.

        Raises:
          UserError: unknown or missing columns, columns of another length or type, and whatever `checked` refuses.
        """
        unknown = sorted(set(columns) - set(COLUMNS))
        if unknown or 'tracklet' not in columns:
            raise UserError(
                f'A table of embeddings has the columns {", ".join(COLUMNS)} and embedding, tracklet '
                f'among them; got {", ".join(map(str, columns))}.'
            )
        return cls(metadata_of(columns), np.asarray(embedding), fingerprint).checked('The table')

    def checked(self, name: str) -> 'EmbeddingTable':
        """The same with contiguous float32 vectors.

        Raises:
          UserError: begins with `name`; where it is empty, a name is missing or occurs twice, a vector holds NaN or
            Inf, is all zeros or of another length, or a time is infinite.
        """
        vectors = self.embedding
        if vectors.ndim != 2 or vectors.dtype.kind != 'f' or not vectors.shape[1] or len(vectors) != len(self.metadata):
            raise UserError(
                f'{name}: embedding must be floats [{len(self.metadata)} tracklets, size]; got '
                f'{vectors.dtype} of shape {vectors.shape}.'
            )
        if not len(vectors):
            raise UserError(f'{name} is empty: no tracklets.')
        names = check_names(self.names, name)
        with np.errstate(over='ignore'):
            vectors = np.ascontiguousarray(vectors, np.float32)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            row = int(finite.argmin())
            raise UserError(
                f'{name}: the embedding of {names[row]!r} holds NaN or Inf. Such rows have no place in a '
                'ranking: find where they come from.'
            )
        silent = ~vectors.any(axis=1)
        if silent.any():
            row = int(silent.argmax())
            raise UserError(f'{name}: the embedding of {names[row]!r} is all zeros: it has no direction.')
        for column in ('start_seconds', 'end_seconds'):
            infinite = np.isinf(self.metadata[column].to_numpy())  # null is NaN there
            if infinite.any():
                raise UserError(
                    f'{name}: {column} of {names[int(infinite.argmax())]!r} is infinite. Leave it out (null) where it '
                    'is unknown.'
                )
        return dataclasses.replace(self, embedding=vectors)


def check_names(names: list[str | None], what: str) -> list[str]:
    """UserError for missing, empty, endless and repeated names of tracklets."""
    known: set[str] = set()
    for row, name in enumerate(names):
        if not name:
            raise UserError(f'{what}: the tracklet of row {row} has no name.')
        if len(name) > MAX_NAME:
            raise UserError(
                f'{what}: the tracklet of row {row} has a name of {len(name):,} characters, more than {MAX_NAME}. '
                f'Shorten it: {name[:NAME_SHOWN]!r}...'
            )
        if name in known:
            raise UserError(f'{what}: the tracklet name {name!r} occurs twice; names must be unique.')
        known.add(name)
    return names
