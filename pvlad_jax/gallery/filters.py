"""Which stored tracklets a search may find."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.times import LEAST_DATE
from pvlad_jax.gallery.cosine_search import Allowed


@dataclasses.dataclass(frozen=True)
class Filters:
    """Conditions that a result meets, all of them. A query never finds the tracklet of its own name.

    cameras, sources: one of these; empty = any. after, before: seen at least partly in this time, in the seconds of the
    table; None = any. Where it is given, tracklets of unknown time are left out, and those whose times count from
    another moment: below `LEAST_DATE` it is a time since the source began, else since 1970. other_camera, other_source:
    none of the query's own; an unknown camera or source equals no other.
    """

    cameras: Iterable[str] = ()
    sources: Iterable[str] = ()
    after: float | None = None
    before: float | None = None
    other_camera: bool = False
    other_source: bool = False

    def __post_init__(self):
        for field in ('cameras', 'sources'):
            object.__setattr__(self, field, names_in(getattr(self, field), field))
        if self.after is not None and self.before is not None and self.after > self.before:
            raise UserError(f'No time is after {self.after:g} s and before {self.before:g} s.')
        given = [time for time in (self.after, self.before) if time is not None]
        if any(is_date(time) != is_date(given[0]) for time in given):
            raise UserError(
                f'after = {self.after:g} s counts from the beginning of a source and before = {self.before:g} s from '
                '1970. Give two dates, or two times since the source began.'
            )

    def rows(self, metadata: pa.Table) -> Bool[np.ndarray, 'N'] | None:
        """Which rows meet the conditions that are the same for every query; None = all of them."""
        masks = []
        if self.cameras:
            masks.append(pc.is_in(metadata['camera'], pa.array(self.cameras, pa.string())))
        if self.sources:
            masks.append(pc.is_in(metadata['source'], pa.array(self.sources, pa.string())))
        if self.after is not None:
            masks.append(pc.greater_equal(metadata['end_seconds'], self.after).fill_null(False))
            if not is_date(self.after):
                masks.append(pc.less(metadata['end_seconds'], LEAST_DATE).fill_null(False))
        if self.before is not None:
            masks.append(pc.less_equal(metadata['start_seconds'], self.before).fill_null(False))
            if is_date(self.before):
                masks.append(pc.greater_equal(metadata['start_seconds'], LEAST_DATE).fill_null(False))
        if not masks:
            return None
        return np.logical_and.reduce([mask.to_numpy() for mask in masks])

    def own_columns(self) -> list[str]:
        """The columns in which a result must differ from its query."""
        return ['tracklet', *(['camera'] if self.other_camera else []), *(['source'] if self.other_source else [])]

    def allowed(self, queries: pa.Table, metadata: pa.Table) -> Allowed | None:
        """For `cosine_search.search`: whether a query may find a row; None where every query may find every row."""
        codes = [codes for codes in (_codes(queries[c], metadata[c]) for c in self.own_columns()) if codes is not None]
        if not codes:
            return None

        def allowed(query: Int[np.ndarray, 'c'], row: Int[np.ndarray, 'c']) -> Bool[np.ndarray, 'c']:
            return np.logical_and.reduce([of_query[query] != of_row[row] for of_query, of_row in codes])

        return allowed

    def groups(self, queries: pa.Table) -> list[tuple[dict[str, str], Int[np.ndarray, 'g']]]:
        """The queries by what is forbidden to them: ({column: value that a result must not have}, their numbers)."""
        columns = [column for column in self.own_columns() if column != 'tracklet']
        values = [queries[column].to_pylist() for column in columns]
        members: dict[tuple[str, ...], list[int]] = {}
        for number, key in enumerate(zip(*values) if columns else [()] * len(queries)):
            members.setdefault(key, []).append(number)
        return [
            ({c: value for c, value in zip(columns, key) if value}, np.array(numbers))
            for key, numbers in members.items()
        ]


def is_date(time: float) -> bool:
    """Whether a time counts from 1970."""
    return time >= LEAST_DATE


def names_in(given: Iterable[str], what: str) -> tuple[str, ...]:
    """UserError where it is one name, whose letters would be taken for names, or holds what is no name."""
    if isinstance(given, str | bytes):
        raise UserError(f'{what} = {given!r} is a single name, and a list of names is needed: [{given!r}].')
    names = tuple(given)
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise UserError(f'{what} holds {wrong[0]!r}, which is no text: names are text, such as {str(wrong[0])!r}.')
    return names


def _codes(of_queries: pa.ChunkedArray, of_rows: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray] | None:
    """Numbers that are equal where the text is equal and known; None where no query's text is in a row."""
    values = pc.unique(of_queries)
    values = values.filter(pc.not_equal(values, ''))
    query, row = (
        pc.index_in(column, values).fill_null(absent).to_numpy().astype(np.int32)
        for column, absent in ((of_queries, -1), (of_rows, -2))
    )
    return (query, row) if (row >= 0).any() else None
