"""The columns of a table of embeddings but the embedding: their types, and what stands where something is unknown."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pvlad_jax.core.errors import UserError

# With the value that stands for 'unknown' (None: must be given).
COLUMNS: dict[str, tuple[pa.DataType, Any]] = {
    'tracklet': (pa.string(), None),
    'source': (pa.string(), ''),
    'camera': (pa.string(), ''),
    'first_frame': (pa.int64(), -1),
    'last_frame': (pa.int64(), -1),
    'start_seconds': (pa.float64(), None),
    'end_seconds': (pa.float64(), None),
    'frames': (pa.int32(), -1),
}
METADATA_SCHEMA = pa.schema([(name, kind) for name, (kind, _) in COLUMNS.items()])


def metadata_of(columns: Mapping[str, Any]) -> pa.Table:
    """From sequences by column name, `tracklet` among them. UserError for columns of another length or type."""
    for name, values in columns.items():
        if isinstance(values, str | bytes):
            raise UserError(
                f'The column {name} is one value, {values[:80]!r}, and needs one for each tracklet: a list.'
            )
    n, arrays = len(columns['tracklet']), []
    for name, (kind, default) in COLUMNS.items():
        values = columns.get(name)
        try:
            array = pa.array([default] * n, kind) if values is None else _array(values, kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise UserError(f'The column {name} is {kind}: {" ".join(str(error).split())}') from error
        if len(array) != n:
            raise UserError(f'The column {name} has {len(array)} values, tracklet has {n}.')
        arrays.append(array)
    return pa.table(arrays, schema=METADATA_SCHEMA)


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    if pa.types.is_integer(kind):
        return pa.array(values).cast(kind)  # which refuses 2.5, where Arrow's own conversion takes 2
    return pa.array(values, kind, from_pandas=pa.types.is_floating(kind))  # NaN becomes null


def cast_metadata(columns: Mapping[str, pa.Array], n: int, name: str) -> pa.Table:
    """The columns in their types, unknown where they are missing or null."""
    arrays = []
    for column, (kind, default) in COLUMNS.items():
        if column not in columns:
            arrays.append(pa.array([default] * n, kind))
            continue
        try:
            array = columns[column].cast(kind)
        except pa.ArrowException as error:
            raise UserError(f'{name}: the column {column} is not {kind} ({" ".join(str(error).split())}).') from error
        if pa.types.is_floating(kind):
            array = pc.if_else(pc.is_nan(array), None, array)
        arrays.append(array if default is None else array.fill_null(default))
    return pa.table(arrays, schema=METADATA_SCHEMA)
