"""Flags that a data set was built with and that its metadata keeps: what is compared with it is read so too."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import Meta

from data_prep.builder.build import is_built
from data_prep.raw_dataset import RawDataset
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.saved_files import reading
from pvlad_jax.data.dataset_format import METADATA_FILE, read_metadata

_AGAIN = 'Build the data set again with --overwrite.'
_PATTERN = '(?P<frame>'  # is in every --frame_pattern, and in no rule that was found


class _Stored(TypedDict, total=False):
    jpeg_quality: Annotated[int, Meta(ge=0, le=100)]
    bit_depth: Annotated[int, Meta(ge=0, le=16)]
    splits_drawn_by_seed: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    cameras: dict[str, Annotated[int, Meta(ge=-1, le=2**31 - 1)]]
    frame_order: list[str]


def built_options(path: Path) -> dict[str, Any]:
    """Flag -> value of the data set that lies here; {} where there is none.

    --camera_numbers is a mapping from every camera folder to its number. UserError where metadata.json is damaged.
    """
    return stored_options(path, read_metadata(path, _AGAIN)) if is_built(path) else {}


def stored_options(path: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """As `built_options`, of metadata that was read from here."""
    with reading(path / METADATA_FILE, _AGAIN):
        msgspec.convert(dict(metadata), _Stored)
    return _options(metadata)


def refuse_other_options(path: Path, metadata: Mapping[str, Any], raw: RawDataset) -> None:
    """UserError, with both values, where the source was read otherwise than for the data set that lies here."""
    then, now = stored_options(path, metadata), _options(raw.metadata)
    now |= {name: getattr(raw, name) for name in ('jpeg_quality', 'bit_depth') if getattr(raw, name)}
    for flag in sorted(then.keys() | now.keys()):
        was, is_now = _shown(flag, then, now), _shown(flag, now, then)
        if was != is_now:
            raise UserError(
                f'{path} was built {was}, and the source is read {is_now} now. Leave the flag out, which takes what '
                'the data set was built with, or build it again with --overwrite.'
            )


def _options(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_named(metadata))


def _named(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for flag in ('jpeg_quality', 'bit_depth'):
        if metadata.get(flag):
            yield flag, metadata[flag]
    if 'splits_drawn_by_seed' in metadata:
        yield 'draw_splits', metadata['splits_drawn_by_seed']
    if 'cameras' in metadata:
        yield 'camera_numbers', dict(metadata['cameras'])
    order = metadata.get('frame_order', [])
    if len(order) == 1 and _PATTERN in order[0]:
        yield 'frame_pattern', order[0]


def _shown(flag: str, options: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    """'with --bit_depth=16' or 'without --bit_depth'. Of cameras those that differ; which there are the tables tell."""
    value = options.get(flag)
    if flag == 'camera_numbers':
        differing = {name for name, number in (value or {}).items() if others.get(flag, {}).get(name, number) != number}
        value = ','.join(f'{name}={"unknown" if value[name] == -1 else value[name]}' for name in sorted(differing))
        return f'with --{flag}={value}' if value else ''
    return f'without --{flag}' if value is None else f'with --{flag}={value}'
