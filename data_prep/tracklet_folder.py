"""Scans {train,query,gallery}/PERSON/CAMERA/TRACKLET/frames, the layout for anybody's own tracklets."""

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from data_prep.frame_files import FrameFiles, open_files
from data_prep.person_numbers import UNKNOWN_CAMERA, number_cameras, number_people
from data_prep.raw_dataset import RawDataset, TrackletSource
from pvlad_jax.errors import UserError
from pvlad_jax.images import JPEG_EXTENSIONS, ImageError, read_header

ROLES = ('train', 'query', 'gallery')
LAYOUT = '{train,query,gallery}/PERSON/CAMERA/TRACKLET/FRAME.jpg (camera c0 where it is unknown)'
_MOST_LISTED = 20
_NUMBER = re.compile(r'(\d+)\D*$')


def scan_tracklet_folder(source: str | Path, name: str = 'tracklet_folder') -> RawDataset:
    """Scans a folder, or a zip or tar of it.

    Raises UserError: missing source, other layout, empty folders, frames without a number or two with the same, one person in train.
    """
    files = open_files(source)
    tracklets, faults = group_frames(files.names)
    faults += [f'{folder} is empty' for folder in files.empty_folders if folder.split('/')[0] in ROLES]
    present = {role for role, *_ in tracklets}
    if missing := [r for r in ROLES if r not in present]:
        raise UserError(_wrong_layout(source, files, missing, faults))
    if faults:
        raise UserError(
            f'{source} does not follow {LAYOUT}:\n  ' + '\n  '.join(faults[:_MOST_LISTED])
            + (f'\n  and {len(faults) - _MOST_LISTED} more' if len(faults) > _MOST_LISTED else '')
        )
    people = number_people(person for _, person, _, _ in tracklets)
    cameras = number_cameras(camera for _, _, camera, _ in tracklets)
    splits: dict[str, list[TrackletSource]] = {role: [] for role in ROLES}
    for (role, person, camera, tracklet), frames in sorted(tracklets.items()):
        numbers = sorted(frames)
        splits[role].append(
            TrackletSource(
                name=f'{role}/{person}/{camera}/{tracklet}',
                person=person,
                person_id=people[person],
                camera_id=cameras[camera],
                frame_numbers=tuple(numbers),
                frames=tuple(frames[n] for n in numbers),
            )
        )
    trained = {s.person for s in splits['train']}
    if len(trained) < 2:
        raise UserError(
            f'{source}/train has one person only ({trained.pop()}). Learning to tell people apart takes at least two.'
        )
    return RawDataset(
        name=name,
        splits=splits,
        read_frames=partial(read_files, files),
        encoding=_encoding(files, [s.frames[0] for sources in splits.values() for s in sources]),
        layout='roles',
        notes=tuple(_notes(splits, people, cameras)),
    )


def group_frames(names: Iterable[str]) -> tuple[dict[tuple[str, str, str, str], dict[int, str]], list[str]]:
    """Groups relative paths into tracklets: ((role, person, camera, tracklet) -> frame number -> path), and what is wrong."""
    tracklets: dict[tuple[str, str, str, str], dict[int, str]] = {}
    faults = []
    for name in names:
        parts = name.split('/')
        if parts[0] not in ROLES:
            continue
        if len(parts) != 5:
            faults.append(f'{name} lies {"too deep" if len(parts) > 5 else "too high"}')
            continue
        key = (parts[0], parts[1], parts[2], parts[3])
        stem = parts[4].rpartition('.')[0] or parts[4]
        match = _NUMBER.search(stem)
        if match is None:
            faults.append(f'{name} has no frame number')
            continue
        frames = tracklets.setdefault(key, {})
        number = int(match[1])
        if number in frames:
            faults.append(f'{name} has the frame number {number}, as {frames[number].rpartition("/")[2]} has')
        elif number >= 2**31:
            faults.append(f'{name} has a frame number of more than 31 bits')
        else:
            frames[number] = name
    return tracklets, faults


def read_files(files: FrameFiles, source: TrackletSource) -> list[bytes]:
    """The frames of a tracklet whose keys are file names."""
    return [files.read(key) for key in source.frames]


def _encoding(files: FrameFiles, names: list[str]) -> str:
    """What the frames will be stored as, by the names' suffixes and the first frame's content; the build finds out."""
    if len({name.lower().endswith(JPEG_EXTENSIONS) for name in names}) > 1:
        return 'mixed'
    try:
        return 'jpeg' if read_header(files.read(names[0])).format == 'jpeg' else 'png'
    except (ImageError, OSError):
        # The builder reports this frame together with the other bad ones.
        return 'jpeg' if names[0].lower().endswith(JPEG_EXTENSIONS) else 'png'


def _wrong_layout(source: str | Path, files: FrameFiles, missing: list[str], faults: list[str]) -> str:
    tops = sorted({n.split('/')[0] for n in files.names} | {n.split('/')[0] for n in files.empty_folders})
    inner = {n.split('/')[1] for n in files.names if n.count('/') > 1}
    text = f'{source} has no tracklets in {", ".join(missing)}; expected {LAYOUT}. It holds: {", ".join(tops[:10]) or "nothing"}.'
    if len(tops) == 1 and inner & set(ROLES):
        text += f' Did you mean {source}/{tops[0]}?'
    if faults:
        text += '\n  ' + '\n  '.join(faults[:_MOST_LISTED])
    return text


def _notes(splits: dict[str, list[TrackletSource]], people: dict[str, int], cameras: dict[str, int]) -> Iterable[str]:
    counts: dict[str, int] = {}
    for s in splits['train']:
        counts[s.person] = counts.get(s.person, 0) + 1
    if single := [p for p, n in counts.items() if n == 1]:
        yield f'{len(single)} people of train have one tracklet: {_few(single)}.'
    if both := sorted({s.person for s in splits['train']} & {s.person for s in splits['query']}):
        yield f'{len(both)} people of query stand in train too: {_few(both)}.'
    seen_by: dict[str, set[int]] = {}
    for s in (*splits['gallery'], *splits['query']):
        seen_by.setdefault(s.person, set()).add(s.camera_id)
    alone = [
        s.name for s in splits['query']
        if not any(c != s.camera_id or c == UNKNOWN_CAMERA for c in seen_by.get(s.person, ()))
    ]
    if alone:
        yield f'{len(alone)} queries have no tracklet of another camera in gallery or query: {_few(alone)}.'
    if unknown := sorted(n for n, number in cameras.items() if number == UNKNOWN_CAMERA):
        yield f'Camera unknown: {_few(unknown)}.'
    if named := [f'{n} = {i}' for n, i in sorted(cameras.items()) if i != UNKNOWN_CAMERA and not n[-1:].isdigit()]:
        yield f'Cameras were numbered: {_few(named)}.'
    if renamed := [f'{n} = {i}' for n, i in people.items() if n.isdigit() and int(n) != i]:
        yield f'People whose number was taken or is 0 got another: {_few(renamed)}.'


def _few(names: list[str]) -> str:
    return ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')
