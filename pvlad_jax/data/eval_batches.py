"""The test input: whole tracklets as one stream of fixed-shape steps of clips.

Tracklets of very different lengths (MARS: 2 to 920 frames) follow each other without gaps, so every step but the last
is full, one compiled program serves every length, and memory does not grow with a video.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from pvlad_jax.data.clip_sampling import consecutive_clips, kept_frames
from pvlad_jax.data.frame_decoding import CorruptRecord, decode_clips, decoding_threads
from pvlad_jax.data.joined_dataset import AnyDataset
from pvlad_jax.data.tracklet_dataset import TrackletTable


@dataclasses.dataclass(frozen=True)
class EvalBatch:
    """N clips. `segment` says which of the step's videos a clip belongs to, rising from 0; padding clips have segment N
    (none).

    `videos[i]` is the row of segment i's video in the table; segment 0 continues a video of the last step where
    `continues`; the step's last video continues in the next step where `unfinished`.
    """

    clips: UInt8[np.ndarray, 'N T H W 3']
    valid: Bool[np.ndarray, 'N T']
    segment: Int32[np.ndarray, 'N']
    videos: list[int]
    continues: bool
    unfinished: bool


def eval_batches(
    dataset: AnyDataset,
    table: TrackletTable,
    n_clips: int,
    clip: tuple[int, int, int],
    policy: str = 'all',
    threads: int = 4,
    skipped: set[int] | None = None,
) -> Iterator[EvalBatch]:
    """All frames of all tracklets of the table, in its order, N clips of T frames a step.

    Args:
      n_clips: N.
      clip: (T, H, W); frames are resized to H x W pixels.
      policy: which frames of a tracklet are kept (`clip_sampling.kept_frames`).
      threads: that read and decode; the batches are the same for any number.
      skipped: where it is given, rows of tracklets that cannot be decoded are added to it, and their clips are padding;
        the caller leaves out whatever comes of them.

    Raises:
      CorruptRecord: a tracklet cannot be decoded, and there is no `skipped`.
    """
    frames, height, width = clip

    def place(start: int) -> EvalBatch:
        chosen = plan[start : start + n_clips]
        clips = np.zeros((n_clips, frames, height, width, 3), np.uint8)
        valid = np.zeros((n_clips, frames), bool)
        segment = np.full(n_clips, n_clips, np.int32)
        videos: list[int] = []
        record = None
        for i, (row, index) in enumerate(chosen):
            first_clip = not videos or videos[-1] != row
            if first_clip:
                videos.append(row)
            segment[i] = len(videos) - 1
            try:
                if first_clip:
                    record = dataset.read(table.split[row], table.row[row])
                if skipped is None or row not in skipped:
                    clips[i] = decode_clips(record.frames, index, height, width, record.tracklet)
                    valid[i] = index >= 0
            except CorruptRecord:
                if skipped is None:
                    raise
                skipped.add(row)
        end = start + n_clips
        continues = start > 0 and plan[start - 1][0] == chosen[0][0]
        unfinished = end < len(plan) and plan[end][0] == chosen[-1][0]
        return EvalBatch(clips, valid, segment, videos, continues, unfinished)

    plan = [
        (row, index)
        for row in range(len(table))
        for index in consecutive_clips(kept_frames(int(table.n_frames[row]), policy), frames)
    ]
    with decoding_threads(threads) as pool:
        starts = iter(range(0, len(plan), n_clips))
        ahead = [pool.submit(place, s) for _, s in zip(range(threads + 1), starts)]
        while ahead:
            yield ahead.pop(0).result()
            ahead += [pool.submit(place, s) for _, s in zip(range(1), starts)]
