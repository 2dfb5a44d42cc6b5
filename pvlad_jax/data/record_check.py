"""Looks at the frames of tracklets without decoding them: that they are there, as many as the table says, and are whole
pictures by their headers."""

import concurrent.futures

from pvlad_jax.data.clip_sampling import kept_frames
from pvlad_jax.data.frame_decoding import CorruptRecord
from pvlad_jax.data.joined_dataset import AnyDataset
from pvlad_jax.data.tracklet_dataset import TrackletTable
from pvlad_jax.images import ImageError, read_header


def damaged_tracklets(
    dataset: AnyDataset, table: TrackletTable, policy: str = 'all', threads: int = 4
) -> dict[str, str]:
    """{tracklet: what is wrong with it, a clause} of those that an evaluation could not decode.

    Frames are judged by their headers, which is cheap; a picture that is damaged further on is not found.

    Args:
      policy: which frames the evaluation takes (`clip_sampling.kept_frames`).
      threads: that read.
    """

    def one(row: int) -> str | None:
        try:
            record = dataset.read(table.split[row], table.row[row])
            if record.tracklet != table.tracklet[row]:
                return f'its record holds tracklet {record.tracklet!r}: the table of tracklets is out of step'
            if len(record.frames) != table.n_frames[row]:
                return (
                    f'its record holds {len(record.frames)} frames, the table of tracklets says {table.n_frames[row]}'
                )
            for i in kept_frames(int(table.n_frames[row]), policy):
                _look_at(record.frames[int(i)], int(i), record.tracklet)
        except CorruptRecord as error:
            return error.fault
        return None

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        found = pool.map(one, range(len(table)))
        return {str(table.tracklet[row]): wrong for row, wrong in enumerate(found) if wrong is not None}


def _look_at(encoded: bytes, number: int, tracklet: str) -> None:
    """CorruptRecord where the frame is no whole picture."""
    try:
        read_header(encoded)
    except ImageError as error:
        raise CorruptRecord(
            f'Tracklet {tracklet!r}, frame {number} (counted from 0) cannot be decoded: it {error}'
        ) from error
