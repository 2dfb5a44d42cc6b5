"""Evaluation protocols: what a gallery is made of, and, from labels alone, who in it is good for a query and who is ignored.

| name | gallery | ignored for a query | good |
|---|---|---|---|
| `mars_official` | all test tracklets, also the queries | junk; same person and camera (so the query itself) | same person, other camera |
| `gallery_only` | without queries and junk | junk; same person and camera | same person, other camera |
| `cross_camera` | as given (the other camera's tracklets) | junk; everything of the query's camera | same person, other camera |

Everything neither good nor ignored is a negative, distractors (person 0) among them. Queries without a good tracklet are skipped.
Sources: Zheng et al. ECCV 2016 and its public code (MARS); Wang et al. ECCV 2014 (iLIDS-VID, PRID 2011).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from pvlad_jax.errors import UserError
from pvlad_jax.evaluation.embedding_file import JUNK, UNKNOWN_CAMERA, Labels

UNKNOWN_CAMERAS = ('refuse', 'other', 'ignore')


class Seen(NamedTuple):
    """Labels of tracklets, as integer arrays of NumPy or JAX of any shapes that broadcast together."""

    person: Any
    camera: Any
    tracklet: Any  # a number that is equal for the same tracklet only


def mars_official(query: Seen, gallery: Seen, unknown_cameras: str = 'refuse'):
    """(good, ignored), each the broadcast shape of query and gallery."""
    same_person = query.person == gallery.person
    ignored = (gallery.person == JUNK) | (same_person & same_camera(query, gallery, unknown_cameras)) | (query.tracklet == gallery.tracklet)
    return same_person & ~ignored, ignored


def gallery_only(query: Seen, gallery: Seen, unknown_cameras: str = 'refuse'):
    """(good, ignored): as `mars_official`; the difference lies in the gallery."""
    return mars_official(query, gallery, unknown_cameras)


def cross_camera(query: Seen, gallery: Seen, unknown_cameras: str = 'refuse'):
    """(good, ignored), each the broadcast shape of query and gallery."""
    ignored = (gallery.person == JUNK) | same_camera(query, gallery, unknown_cameras) | (query.tracklet == gallery.tracklet)
    return (query.person == gallery.person) & ~ignored, ignored


def same_camera(query: Seen, gallery: Seen, unknown_cameras: str):
    """Whether both are of one camera. An unknown camera counts as a camera of its own ('other') or as every camera ('ignore')."""
    same = query.camera == gallery.camera
    unknown = (query.camera == UNKNOWN_CAMERA) | (gallery.camera == UNKNOWN_CAMERA)
    return same | unknown if unknown_cameras == 'ignore' else same & ~unknown


@dataclasses.dataclass(frozen=True)
class Protocol:
    name: str
    relevance: Callable[..., tuple[Any, Any]]
    queries: str  # in the gallery: 'included', 'removed', or 'as_given'


PROTOCOLS = {p.name: p for p in (
    Protocol('mars_official', mars_official, 'included'),
    Protocol('gallery_only', gallery_only, 'removed'),
    Protocol('cross_camera', cross_camera, 'as_given'),
)}


def find_protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise UserError(f'Unknown protocol {name!r}; known are {", ".join(PROTOCOLS)}.')
    return PROTOCOLS[name]


def compose_gallery(protocol: Protocol, query: Labels, gallery: Labels) -> tuple[Int[np.ndarray, 'M'], bool]:
    """What the protocol searches: rows of the given gallery, and whether all queries are to be appended to them.

    Tracklet names decide. `mars_official` wants the queries in the gallery: if all of them are there, it is taken as it is; if none is,
    they are appended; if only some are, that is an error. `gallery_only` drops queries and junk from the gallery.
    """
    own_row = rows_of(query, gallery)
    inside = own_row >= 0
    for field in ('person_id', 'camera_id'):
        differs = inside & (getattr(gallery, field)[own_row] != getattr(query, field))
        if differs.any():
            name = str(query.tracklet[differs.argmax()])
            raise UserError(f'Tracklet {name!r} has one {field} among the queries and another in the gallery: '
                            'their labels are out of step.')
    if protocol.queries == 'included' and inside.any() and not inside.all():
        raise UserError(f'{protocol.name}: {inside.sum()} of {len(query)} queries are in the gallery (by tracklet name), the others are '
                        f'not, such as {str(query.tracklet[inside.argmin()])!r}. Give a gallery with all of them, or with none '
                        '(they are then added).')
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


def seen(query: Labels, gallery: Labels) -> tuple[Seen, Seen]:
    """Integers for the relevance functions. A gallery tracklet's number is its row."""
    own_row = rows_of(query, gallery)
    number = np.where(own_row >= 0, own_row, -2)
    return (Seen(query.person_id, query.camera_id, number.astype(np.int32)),
            Seen(gallery.person_id, gallery.camera_id, np.arange(len(gallery), dtype=np.int32)))


def check_labels(protocol: Protocol, query: Labels, gallery: Labels, unknown_cameras: str = 'refuse') -> None:
    """UserError for queries that nobody can look for, and for cameras that the protocol needs and does not know."""
    if unknown_cameras not in UNKNOWN_CAMERAS:
        raise UserError(f'unknown_cameras is {unknown_cameras!r}; allowed are {", ".join(UNKNOWN_CAMERAS)}.')
    nobody = query.person_id < 1
    if nobody.any():
        raise UserError(f'{nobody.sum()} queries have person_id {np.unique(query.person_id[nobody]).tolist()}, '
                        f'first {str(query.tracklet[nobody.argmax()])!r}: junk (-1) and distractors (0) cannot be '
                        'looked for. Number people from 1.')
    if unknown_cameras != 'refuse':
        return
    unknown_query = query.camera_id == UNKNOWN_CAMERA
    unknown_gallery = (gallery.camera_id == UNKNOWN_CAMERA) & (gallery.person_id != JUNK)
    if protocol.name != 'cross_camera':  # there, the camera of every negative matters; elsewhere of the same person's tracklets only
        unknown_query = unknown_query & np.isin(query.person_id, gallery.person_id)
        unknown_gallery = unknown_gallery & np.isin(gallery.person_id, query.person_id)
    if unknown_query.any() or unknown_gallery.any():
        table, where = (query, unknown_query) if unknown_query.any() else (gallery, unknown_gallery)
        raise UserError(f'{protocol.name} compares cameras, but {unknown_query.sum()} queries and {unknown_gallery.sum()} gallery '
                        f'tracklets that it must judge have none (camera_id -1), first {str(table.tracklet[where.argmax()])!r}. '
                        'Give cameras, or say unknown_cameras=other (each unknown camera counts as another one) or '
                        'unknown_cameras=ignore (what it leaves undecided is ignored).')
