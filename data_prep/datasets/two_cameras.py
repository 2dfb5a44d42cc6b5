"""What iLIDS-VID and PRID 2011 share: two cameras, and one tracklet a person in each."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from data_prep.datasets.people_splits import Splits, SplitSource
from data_prep.issues import Issues
from data_prep.raw_dataset import Check, RawDataset, TrackletSource
from data_prep.sources.archives import FrameFiles, read_files
from data_prep.sources.frame_suffixes import is_frame
from pvlad_jax.data.dataset_format import EVERYONE

QUERY_CAMERA, GALLERY_CAMERA = 1, 2


def people_metadata(splits: Splits, seed: int | None) -> dict:
    """The metadata of the layout 'people_splits'. seed: of drawn splits."""
    drawn = {} if seed is None else {'splits_drawn_by_seed': seed}
    return {'people_splits': list(splits), 'query_camera': QUERY_CAMERA, 'gallery_camera': GALLERY_CAMERA} | drawn


def tracklet(person: str, person_id: int, camera: int, name: str, frames: dict[int, str]) -> TrackletSource:
    """A tracklet from its frames by number."""
    numbers = sorted(frames)
    return TrackletSource(name, person, person_id, camera, tuple(numbers), tuple(frames[n] for n in numbers))


Frames = dict[tuple[int, int], dict[int, str]]  # (person, camera) -> frame number -> path


def group_frames(
    paths: Iterable[str], top: str, locate: Callable[[list[str]], tuple[int, int, int] | str]
) -> tuple[Frames, Issues, list[str]]:
    """Groups the paths below the folder `top`, at any depth: (frames, issues, files that are no frames).

    Args:
      locate: (folders and name of a file) -> person, camera and frame number, or what is wrong with such files.
    """
    tracklets: Frames = {}
    issues, others = Issues(), []
    for path in paths:
        parts = path.split('/')
        if top not in parts[:-1]:
            continue
        if not is_frame(path):
            others.append(path)
            continue
        found = locate(parts)
        if isinstance(found, str):
            issues.add(found, path)
            continue
        person, camera, number = found
        frames = tracklets.setdefault((person, camera), {})
        if number in frames:
            issues.add('Files of the same frame', f'{frames[number]} = {path}')
        else:
            frames[number] = path
    return tracklets, issues, others


def two_camera_dataset(
    files: FrameFiles,
    sources: list[TrackletSource],
    splits: Splits,
    source: SplitSource,
    jpeg_quality: int,
    metadata: dict,
    *,
    notes: Iterable[str],
    **found: Any,
) -> RawDataset:
    """The scanned data set. source: where its splits come from. found: the other fields of RawDataset."""
    jpeg = {'jpeg_quality': jpeg_quality} if jpeg_quality else {}
    return RawDataset(
        splits={EVERYONE: sources},
        read_frames=partial(read_files, files),
        encoding='jpeg' if jpeg_quality else 'png',
        layout='people_splits',
        metadata=people_metadata(splits, source.seed) | metadata | jpeg,
        jpeg_quality=jpeg_quality,
        notes=(*source.notes(), *notes),
        **found,
    )


def label_columns(sources: list[TrackletSource]) -> tuple[list[int], list[int], list[int]]:
    """People, cameras and lengths, one entry a tracklet."""
    return [s.person_id for s in sources], [s.camera_id for s in sources], [len(s.frames) for s in sources]


def recount(count: Callable[..., list[Check]], tables: dict[str, dict[str, np.ndarray]], metadata: dict) -> list[Check]:
    """The counts of a data set that was built; `count` takes columns of people, cameras and lengths, and the splits."""
    columns = (tables[EVERYONE][name].tolist() for name in ('person_id', 'camera_id', 'n_frames'))
    return count(*columns, metadata['people_splits'])
