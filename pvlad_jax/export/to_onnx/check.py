"""Whether a file computes in ONNX Runtime what the network does in JAX, on random clips."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from pvlad_jax.export.program import embed_clips
from pvlad_jax.export.to_onnx.program import AFTER, BEFORE, EMBEDDING, FRAMES, VALID
from pvlad_jax.models.tracklet_network import TrackletNetwork

VIDEOS, CLIPS = 3, 2
State = dict[str, np.ndarray]  # statistics of B videos
Embedded = tuple[np.ndarray, State]  # embeddings [B, E]
_ALL = slice(None)


class RuntimeFailure(RuntimeError):
    """ONNX Runtime cannot read or run the file."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """The largest differences found.

    Attributes:
      embedding: of a number of an embedding, a unit vector.
      statistics: of a number of the statistics, as a share of the largest of them.
    """

    embedding: float
    statistics: float

    def within(self, tolerance: float) -> bool:
        """Whether both are no larger; never with NaN."""
        return self.embedding <= tolerance and self.statistics <= tolerance


def random_clips(clip: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(frames [3, 2, T, H, W, 3] uint8, valid [3, 2, T]): a video without padding, one whose last clip has some, one
    whose last clip is padding throughout. Something stands in the padding.
    """
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (VIDEOS, CLIPS, *clip, 3), dtype=np.uint8)
    valid = np.ones((VIDEOS, CLIPS, clip[0]), bool)
    valid[1, -1, (clip[0] + 1) // 2 :] = False
    valid[2, -1] = False
    return frames, valid


def compare(
    path: Path, network: TrackletNetwork, flip: bool, weights: Mapping[str, np.ndarray], clip: tuple[int, int, int]
) -> Difference:
    """Three videos of two clips at once, one by one, and clip by clip, against JAX on this machine's CPU.

    Raises:
      RuntimeFailure: ONNX Runtime cannot read or run the file.
    """
    frames, valid = random_clips(clip)
    try:
        before, runs = _by_onnxruntime(path, frames, valid, 0.0 if network.aggregator.merge == 'add' else -np.inf)
    except Exception as error:  # its errors have no base class of their own
        if not type(error).__module__.startswith('onnxruntime'):
            raise
        raise RuntimeFailure(' '.join(str(error).split())) from error
    with jax.default_device(jax.local_devices(backend='cpu')[0]):  # others multiply float32 with fewer bits
        wanted = jax.jit(embed_clips, static_argnums=(0, 1))(network, flip, dict(weights), frames, valid, before)
    embedding, statistics = jax.tree.map(np.asarray, wanted)
    return Difference(
        max(_largest(found, embedding[rows]) for rows, (found, _) in runs),
        max(
            _largest(after[name], expected[rows]) / max(_size(expected), np.finfo(np.float32).tiny)
            for rows, (_, after) in runs
            for name, expected in statistics.items()
        ),
    )


def _by_onnxruntime(
    path: Path, frames: np.ndarray, valid: np.ndarray, empty: float
) -> tuple[State, list[tuple[slice, Embedded]]]:
    """The statistics of no clip, and what comes out for which videos."""
    import onnxruntime  # an extra

    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    names = [one.name for one in session.get_outputs()]
    before = {
        one.name.removeprefix(BEFORE): np.full((VIDEOS, *one.shape[1:]), empty, np.float32)
        for one in session.get_inputs()
        if one.name.startswith(BEFORE)
    }

    def run(rows: slice, clips: slice, state: State) -> Embedded:
        given = {FRAMES: frames[rows, clips], VALID: valid[rows, clips]}
        given |= {BEFORE + name: value[rows] for name, value in state.items()}
        found = dict(zip(names, session.run(names, given)))
        return found.pop(EMBEDDING), {name.removeprefix(AFTER): value for name, value in found.items()}

    in_turn = run(_ALL, slice(0, 1), before)
    for clip in range(1, CLIPS):
        in_turn = run(_ALL, slice(clip, clip + 1), in_turn[1])
    alone = [slice(row, row + 1) for row in range(VIDEOS)]
    return before, [(_ALL, run(_ALL, _ALL, before)), (_ALL, in_turn), *((row, run(row, _ALL, before)) for row in alone)]


def _largest(found: np.ndarray, expected: np.ndarray) -> float:
    """inf where one is of another shape, NaN or infinite and the other is not the same."""
    if found.shape != expected.shape:
        return np.inf
    other = found != expected  # -inf of both is the same
    differences = np.abs(found[other] - expected[other])
    return float(differences.max(initial=0.0)) if np.isfinite(differences).all() else np.inf


def _size(values: np.ndarray) -> float:
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
