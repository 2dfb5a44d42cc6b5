"""Whether two data sets hold the same tracklet, whatever it is called in them: by its encoded frames."""

import concurrent.futures
import hashlib

import numpy as np
from jaxtyping import UInt8

from pvlad_jax.data.frame_decoding import CorruptRecord
from pvlad_jax.data.tracklet_dataset import TrackletDataset, TrackletTable

BYTES = 16  # of a digest
_FEW = 3  # frames of a tracklet, spread over it: to read every frame of MARS takes minutes


def tracklet_digests(
    dataset: TrackletDataset, table: TrackletTable, threads: int = 4, whole: bool = True
) -> UInt8[np.ndarray, 'N 16']:
    """A digest of each tracklet: of the number of its frames and of their bytes, in order. Those that cannot be read
    are all zeros.

    whole: of all frames; otherwise of the first, the middle and the last, to find those that are worth reading.
    """

    def one(row: int) -> bytes:
        try:
            frames = dataset.read(table.split[row], table.row[row]).frames
            count = len(frames)
            digest = hashlib.blake2b(str(count).encode(), digest_size=BYTES)
            for i in range(count) if whole else np.unique(np.linspace(0, count - 1, _FEW).round().astype(int)):
                frame = frames[int(i)]
                digest.update(len(frame).to_bytes(8, 'little') + frame)
        except (CorruptRecord, IndexError):  # other checks tell
            return bytes(BYTES)
        return digest.digest()

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        found = b''.join(pool.map(one, range(len(table))))
    return np.frombuffer(found, np.uint8).reshape(len(table), BYTES)
