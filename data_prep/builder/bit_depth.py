"""How many bits are in use in pictures of 16 bits a sample: cameras of 10 or 12 bits leave the upper ones at 0."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from data_prep.raw_dataset import RawDataset, TrackletSource
from pvlad_jax.core.errors import UserError
from pvlad_jax.images import ImageError, read_header
from pvlad_jax.images.decoding import largest_value

DEPTHS = (8, 10, 12, 14, 16)


def with_bit_depth(raw: RawDataset, bit_depth: int = 0) -> RawDataset:
    """Returns the data set with the depth of its 16-bit pictures.

    Args:
      bit_depth: 8-16 as the user gives it. 0: where the first frame of a split has 16 bits, every frame is read for the
        largest value, which says how many bits are used; data sets without such pictures are left alone.
    Raises UserError for a depth that no picture of 16 bits can have.
    """
    if bit_depth and not 8 <= bit_depth <= 16:
        raise UserError(
            f'--bit_depth={bit_depth}: pictures of 16 bits a sample use 8 to 16 of them '
            '(0 = found by the largest value).'
        )
    if bit_depth:
        return _set(raw, bit_depth, ())
    if raw.workers == 'processes' or not any(_is_deep(raw, sources[0]) for sources in raw.splits.values() if sources):
        return raw
    with ThreadPoolExecutor() as threads:
        largest = max(threads.map(lambda source: _largest(raw, source), _tracklets(raw)))
    found = next(d for d in DEPTHS if largest < 1 << d)
    note = (
        f'Frames have 16 bits a sample. Their largest value is {largest:,}, so {found} bits are in use and are scaled '
        'to 8; --bit_depth says otherwise.'
    )
    return _set(raw, found, (note,))


def _set(raw: RawDataset, bit_depth: int, notes: tuple[str, ...]) -> RawDataset:
    return replace(
        raw, bit_depth=bit_depth, metadata=dict(raw.metadata) | {'bit_depth': bit_depth}, notes=(*raw.notes, *notes)
    )


def _tracklets(raw: RawDataset) -> Iterator[TrackletSource]:
    for sources in raw.splits.values():
        yield from sources


def _is_deep(raw: RawDataset, source: TrackletSource) -> bool:
    first = replace(source, frame_numbers=source.frame_numbers[:1], frames=source.frames[:1])
    try:
        return any(read_header(frame).bits == 16 for frame in raw.read_frames(first))
    except (ImageError, OSError):
        return False  # the builder reports this frame together with the other bad ones


def _largest(raw: RawDataset, source: TrackletSource) -> int:
    largest = 0
    try:
        for frame in raw.read_frames(source):
            largest = max(largest, largest_value(frame))
    except (ImageError, OSError):
        pass  # as above
    return largest
