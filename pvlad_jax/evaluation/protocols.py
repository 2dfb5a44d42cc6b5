"""Evaluation protocols: what a gallery is made of, and, from labels alone, who in it is good for a query and who is
ignored.

| name | gallery | ignored for a query | good |
|---|---|---|---|
| `mars_official` | all test tracklets, also queries | junk; same person and camera | same person, other camera |
| `gallery_only` | without queries and junk | junk; same person and camera | same person, other camera |
| `cross_camera` | as given (the other camera's) | junk; everything of the query's camera | same person, other camera |
| `all_but_query` | all test tracklets, also the queries | junk; the query itself | same person |

`all_but_query` is for tracklets without camera ids: it compares none. It finds a person's other tracklets of the same
camera too, which is easier than what the others ask for; its numbers cannot be compared with theirs.

A good tracklet is a match of the query. Everything neither good nor ignored is a negative, distractors (person 0) among
them. Queries without a good tracklet are not valid: they are left out of the metrics, and counted.
Sources: Zheng et al. ECCV 2016 and its public code (MARS); Wang et al. ECCV 2014 (iLIDS-VID, PRID 2011).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.labels import JUNK, UNKNOWN_CAMERA
from pvlad_jax.core.registry import Registry
from pvlad_jax.evaluation.embeddings import Labels

UNKNOWN_CAMERAS = ('refuse', 'other', 'ignore')
_MAX_PAIRS = 2**24  # pairs of query and same-person tracklet listed at a time


class LabelArrays(NamedTuple):
    """Labels of tracklets, as integer arrays of NumPy or JAX of any shapes that broadcast together."""

    person: Any
    camera: Any
    tracklet: Any  # a number that is equal for the same tracklet only


def mars_official(query: LabelArrays, gallery: LabelArrays, unknown_cameras: str = 'refuse'):
    """(good, ignored), each the broadcast shape of query and gallery."""
    same_person = query.person == gallery.person
    ignored = (
        (gallery.person == JUNK)
        | (same_person & same_camera(query, gallery, unknown_cameras))
        | (query.tracklet == gallery.tracklet)
    )
    return same_person & ~ignored, ignored


def gallery_only(query: LabelArrays, gallery: LabelArrays, unknown_cameras: str = 'refuse'):
    """(good, ignored): as `mars_official`; the difference lies in the gallery."""
    return mars_official(query, gallery, unknown_cameras)


def cross_camera(query: LabelArrays, gallery: LabelArrays, unknown_cameras: str = 'refuse'):
    """(good, ignored), each the broadcast shape of query and gallery."""
    ignored = (
        (gallery.person == JUNK) | same_camera(query, gallery, unknown_cameras) | (query.tracklet == gallery.tracklet)
    )
    return (query.person == gallery.person) & ~ignored, ignored


def all_but_query(query: LabelArrays, gallery: LabelArrays, unknown_cameras: str = 'refuse'):
    """(good, ignored), each the broadcast shape of query and gallery; cameras, known or not, play no part."""
    ignored = (gallery.person == JUNK) | (query.tracklet == gallery.tracklet)
    return (query.person == gallery.person) & ~ignored, ignored


def same_camera(query: LabelArrays, gallery: LabelArrays, unknown_cameras: str):
    """Whether both are of one camera.

    An unknown camera counts as a camera of its own ('other') or as every camera ('ignore').
    """
    same = query.camera == gallery.camera
    unknown = (query.camera == UNKNOWN_CAMERA) | (gallery.camera == UNKNOWN_CAMERA)
    return same | unknown if unknown_cameras == 'ignore' else same & ~unknown


@dataclasses.dataclass(frozen=True)
class Protocol:
    """An entry of PROTOCOLS."""

    name: str
    relevance: Callable[..., tuple[Any, Any]]  # (query, gallery, unknown_cameras) -> (good, ignored)
    queries: str  # in the gallery: 'included', 'removed', or 'as_given'
    cameras: str  # whose camera must be known: 'same_person' (of tracklets of a query's person), 'all' or 'none'
    finds: str = 'a tracklet of the same person and another camera'  # what a query looks for, as messages say it

    def relevance_of(self, rows: Any, query: LabelArrays, gallery: LabelArrays, unknown_cameras: str):
        """(good, ignored) of these queries against the whole gallery, [b, N] each."""
        chosen = LabelArrays(*(labels[rows][:, None] for labels in query))
        return self.relevance(chosen, LabelArrays(*(labels[None, :] for labels in gallery)), unknown_cameras)


_EACH = (
    Protocol('mars_official', mars_official, 'included', 'same_person'),
    Protocol('gallery_only', gallery_only, 'removed', 'same_person'),
    Protocol('cross_camera', cross_camera, 'as_given', 'all'),
    Protocol('all_but_query', all_but_query, 'included', 'none', 'another tracklet of the same person'),
)
PROTOCOLS = Registry('protocol', {protocol.name: protocol for protocol in _EACH})


def compose_gallery(protocol: Protocol, query: Labels, gallery: Labels) -> tuple[Int[np.ndarray, 'M'], bool]:
    """What the protocol searches: rows of the given gallery, and whether all queries are to be appended to them.

    Tracklet names decide. `mars_official` wants the queries in the gallery: if all of them are there, it is taken as it
    is; if none is, they are appended; if only some are, that is an error. `gallery_only` drops queries and junk from
    the gallery.
    """
    own_row = rows_of(query, gallery)
    inside = own_row >= 0
    for field in ('person_id', 'camera_id'):
        differs = inside & (getattr(gallery, field)[own_row] != getattr(query, field))
        if differs.any():
            name = str(query.tracklet[differs.argmax()])
            raise UserError(
                f'Tracklet {name!r} has one {field} among the queries and another in the gallery: '
                'their labels are out of step.'
            )
    if protocol.queries == 'included' and inside.any() and not inside.all():
        raise UserError(
            f'{protocol.name}: {inside.sum()} of {len(query)} queries are in the gallery (by tracklet name), the '
            f'others are not, such as {str(query.tracklet[inside.argmin()])!r}. Give a gallery with all of them, or '
            'with none (they are then added).'
        )
    if protocol.queries == 'removed':
        keep = gallery.person_id != JUNK
        keep[own_row[inside]] = False
        if not keep.any():
            raise UserError(f'{protocol.name}: nothing is left of the gallery without its queries and junk.')
        return np.flatnonzero(keep), False
    return np.arange(len(gallery)), protocol.queries == 'included' and not inside.any()


def rows_of(query: Labels, gallery: Labels) -> Int[np.ndarray, 'Q']:
    """The gallery's row of each query by tracklet name, -1 where it has none."""
    place = {name: i for i, name in enumerate(query.tracklet.tolist())}
    rows = np.full(len(query), -1)
    for row, name in enumerate(gallery.tracklet.tolist()):
        if name in place:
            rows[place[name]] = row
    return rows


def label_arrays(query: Labels, gallery: Labels) -> tuple[LabelArrays, LabelArrays]:
    """Integers for the relevance functions. A gallery tracklet's number is its row."""
    own_row = rows_of(query, gallery)
    number = np.where(own_row >= 0, own_row, -2)
    return (
        LabelArrays(query.person_id, query.camera_id, number.astype(np.int32)),
        LabelArrays(gallery.person_id, gallery.camera_id, np.arange(len(gallery), dtype=np.int32)),
    )


def default_protocol(query: Any, gallery: Any, unknown_cameras: str = 'refuse') -> str:
    """`mars_official`; `all_but_query` where no camera of the queries is known, or none of the gallery's people.

    Then no pair of a query and a gallery tracklet can be judged by cameras, unless `unknown_cameras` says what they
    count as.
    """
    if unknown_cameras != 'refuse':
        return 'mars_official'
    people = [t.camera_id[t.person_id > 0] for t in (query, gallery)]
    blind = any(len(cameras) and (cameras == UNKNOWN_CAMERA).all() for cameras in people)
    return 'all_but_query' if blind else 'mars_official'


def check_protocol(protocol: str, query: Any, gallery: Any, unknown_cameras: str = 'refuse') -> int:
    """How many queries have something to find, from labels alone: whatever `score` would refuse in them is refused
    here, in the same words.

    Args:
      protocol: a name of `PROTOCOLS`.
      query, gallery: whatever has `person_id`, `camera_id` and `tracklet`, such as a data set's tables.

    Raises:
      UserError: an unknown protocol, labels that are wrong in themselves, cameras that it needs and that are unknown,
      or no valid query.
    """
    query, gallery = (
        Labels(person_id=t.person_id, camera_id=t.camera_id, tracklet=t.tracklet).checked(name)
        for t, name in ((query, 'queries'), (gallery, 'gallery'))
    )
    chosen = PROTOCOLS[protocol]
    gallery = searched_gallery(chosen, query, gallery)
    check_labels(chosen, query, gallery, unknown_cameras)
    valid = int((MatchLists(*label_arrays(query, gallery), chosen, unknown_cameras).counts() > 0).sum())
    if not valid:
        raise UserError(nothing_found(chosen, len(query), len(gallery)))
    return valid


def searched_gallery(protocol: Protocol, query: Labels, gallery: Labels) -> Labels:
    """The gallery as `compose_gallery` makes it up, with embeddings where both tables have them."""
    rows, append = compose_gallery(protocol, query, gallery)
    if len(rows) < len(gallery):
        gallery = gallery.select(rows)
    return gallery.join(query) if append else gallery


def nothing_found(protocol: Protocol, n_query: int, n_gallery: int) -> str:
    """The message where no query has anything to find."""
    return (
        f'{protocol.name}: none of the {n_query} queries has {protocol.finds} in the gallery of {n_gallery}; nothing '
        'can be measured. Are these the right files, and their labels in step?'
    )


def check_labels(protocol: Protocol, query: Labels, gallery: Labels, unknown_cameras: str = 'refuse') -> None:
    """UserError for queries that cannot be searched for, and for cameras that the protocol needs and does not know."""
    if unknown_cameras not in UNKNOWN_CAMERAS:
        raise UserError(f'unknown_cameras is {unknown_cameras!r}; allowed are {", ".join(UNKNOWN_CAMERAS)}.')
    unsearchable = query.person_id < 1
    if unsearchable.any():
        raise UserError(
            f'{unsearchable.sum()} queries have person_id {np.unique(query.person_id[unsearchable]).tolist()}, '
            f'first {str(query.tracklet[unsearchable.argmax()])!r}: junk (-1) and distractors (0) cannot be '
            'looked for. Number people from 1.'
        )
    if unknown_cameras != 'refuse' or protocol.cameras == 'none':
        return
    unknown_query = query.camera_id == UNKNOWN_CAMERA
    unknown_gallery = (gallery.camera_id == UNKNOWN_CAMERA) & (gallery.person_id != JUNK)
    unknown_gallery &= ~np.isin(gallery.tracklet, query.tracklet)  # queries that are searched too: counted above
    if protocol.cameras == 'same_person':
        unknown_query = unknown_query & np.isin(query.person_id, gallery.person_id)
        unknown_gallery = unknown_gallery & np.isin(gallery.person_id, query.person_id)
    if unknown_query.any() or unknown_gallery.any():
        table, where = (query, unknown_query) if unknown_query.any() else (gallery, unknown_gallery)
        raise UserError(
            f'{protocol.name} compares cameras, but {unknown_query.sum()} queries and {unknown_gallery.sum()} gallery '
            f'tracklets that it must judge have none (camera_id -1), first {str(table.tracklet[where.argmax()])!r}. '
            'Give their cameras, choose the protocol all_but_query, which compares none, or set unknown_cameras to '
            'other (each unknown camera counts as a camera of its own) or to ignore (what it leaves undecided is '
            'ignored).'
        )


class MatchLists:
    """Each query's good tracklets, found among those of the same person without looking at the rest of the gallery."""

    def __init__(self, query: LabelArrays, gallery: LabelArrays, protocol: Protocol, unknown_cameras: str):
        self.query, self.gallery, self.protocol, self.unknown_cameras = query, gallery, protocol, unknown_cameras
        self.order = np.argsort(gallery.person, kind='stable')
        people = gallery.person[self.order]
        self.start = np.searchsorted(people, query.person, side='left')
        self.size = np.searchsorted(people, query.person, side='right') - self.start

    def _pairs(self, index: Int[np.ndarray, 'b']) -> tuple[Int[np.ndarray, 'L'], Int[np.ndarray, 'L']]:
        """(place in index, gallery column) of every good pair, sorted by place."""
        size = self.size[index]
        place = np.repeat(np.arange(len(index)), size)
        within = np.arange(len(place)) - np.repeat(np.cumsum(size) - size, size)
        column = self.order[np.repeat(self.start[index], size) + within]
        query = LabelArrays(*(labels[index][place] for labels in self.query))
        good, _ = self.protocol.relevance(
            query, LabelArrays(*(labels[column] for labels in self.gallery)), self.unknown_cameras
        )
        return place[good], column[good]

    def counts(self) -> Int[np.ndarray, 'Q']:
        """How many good tracklets each query has."""
        counts = np.zeros(len(self.size), np.int64)
        chunk = np.cumsum(self.size) // _MAX_PAIRS
        for c in np.unique(chunk):
            index = np.flatnonzero(chunk == c)
            counts[index] = np.bincount(self._pairs(index)[0], minlength=len(index))
        return counts

    def columns(self, index: Int[np.ndarray, 'b'], size: int) -> Int[np.ndarray, 'b M']:
        """Good columns, a row for each query of index, filled up with zeros."""
        place, column = self._pairs(index)
        n = np.bincount(place, minlength=len(index))
        columns = np.zeros((len(index), size), np.int32)
        columns[place, np.arange(len(place)) - np.repeat(np.cumsum(n) - n, n)] = column
        return columns
