"""Which frames of a tracklet make its clips: segments over the whole length in training, all frames at test.

Frames that do not exist are marked, not replaced: index -1. A tracklet is never looped to fill a clip (18 % of MARS's
training tracklets are shorter than 16 frames; a loop would show the network motion that never happened).
"""

import numpy as np
from jaxtyping import Int


def segment_clips(
    n_frames: int, segments: int, frames: int, stride: int, rng: np.random.Generator
) -> Int[np.ndarray, 'S T']:
    """A training example: one clip from a random place in each of S equal stretches of the tracklet.

    A clip spans `(T-1)·stride + 1` frames and may reach past its stretch, not past the tracklet. A tracklet too short
    for the stride is read with the largest stride that it fills (at least 1). One too short for S clips side by side
    gives fewer of them, so that no frame is counted twice for want of others; the clips left over are -1 throughout.

    Returns: indices into the tracklet's frames, -1 = none.
    """
    clips = np.full((segments, frames), -1, np.int64)
    stride = max(1, min(stride, (n_frames - 1) // max(frames - 1, 1)))
    span = (frames - 1) * stride + 1
    n_clips = min(segments, max(1, n_frames // span))
    edges = np.linspace(0, n_frames, n_clips + 1)
    last_start = max(0, n_frames - span)
    for s in range(n_clips):
        low = min(int(edges[s]), last_start)
        high = min(max(low, int(edges[s + 1]) - span), last_start)
        index = rng.integers(low, high + 1) + stride * np.arange(frames)
        clips[s] = np.where(index < n_frames, index, -1)
    return clips


def kept_frames(n_frames: int, policy: str = 'all') -> Int[np.ndarray, 'L']:
    """The frames that a test policy keeps: 'all', 'even:N' (N evenly spread), 'every:N' (0, N, 2 N, ...) or
    'first:N'.
    """
    kind, _, number = policy.partition(':')
    if kind == 'all':
        return np.arange(n_frames)
    if kind == 'every':
        return np.arange(0, n_frames, int(number))
    count = min(int(number), n_frames)
    if kind == 'first':
        return np.arange(count)
    return ((np.arange(count) + 0.5) * n_frames / count).astype(np.int64)


def consecutive_clips(index: Int[np.ndarray, 'L'], frames: int) -> Int[np.ndarray, 'S T']:
    """A test video: the given frames one after the other in clips of T, the tail marked -1."""
    n_clips = -(-len(index) // frames)
    clips = np.full(n_clips * frames, -1, np.int64)
    clips[: len(index)] = index
    return clips.reshape(n_clips, frames)
