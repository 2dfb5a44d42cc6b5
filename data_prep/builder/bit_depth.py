"""Gives a data set the depth of its pictures of 16 bits a sample (`pvlad_jax.images.bit_depth`)."""

from dataclasses import replace
from itertools import chain

from data_prep.raw_dataset import RawDataset, TrackletSource
from pvlad_jax.images import ImageError
from pvlad_jax.images.bit_depth import check_bit_depth, found_bit_depth, has_16_bits


def with_bit_depth(raw: RawDataset, bit_depth: int = 0) -> RawDataset:
    """Returns the data set with the depth of its 16-bit pictures.

    Args:
      bit_depth: 8-16 as the user gives it. 0: where the first frame of a split has 16 bits, every frame is read for the
        largest value, which says how many bits are used; data sets without such pictures are left alone.
    Raises UserError for a depth that no picture of 16 bits can have.
    """
    check_bit_depth(bit_depth)
    if bit_depth:
        return _set(raw, bit_depth, ())
    if raw.workers == 'processes' or not any(_is_deep(raw, sources[0]) for sources in raw.splits.values() if sources):
        return raw
    found, note = found_bit_depth(raw.read_frames, chain.from_iterable(raw.splits.values()))
    return _set(raw, found, (note,))


def _set(raw: RawDataset, bit_depth: int, notes: tuple[str, ...]) -> RawDataset:
    return replace(
        raw, bit_depth=bit_depth, metadata=dict(raw.metadata) | {'bit_depth': bit_depth}, notes=(*raw.notes, *notes)
    )


def _is_deep(raw: RawDataset, source: TrackletSource) -> bool:
    first = replace(source, frame_numbers=source.frame_numbers[:1], frames=source.frames[:1])
    try:
        return any(has_16_bits(frame) for frame in raw.read_frames(first))
    except (ImageError, OSError):
        return False  # the builder reports this frame together with the other bad ones
