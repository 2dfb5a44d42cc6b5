"""Whether the frames of a data set are whole, by their headers and ends, before anything is trained on it."""

from concurrent.futures import ThreadPoolExecutor

from pvlad_jax.data.records import TrackletDataset, TrackletTable
from pvlad_jax.images import ImageError, read_header

MAX_REPORTED = 20  # broken frames


def broken_frames(dataset: TrackletDataset, table: TrackletTable, threads: int = 4) -> list[str]:
    """A sentence for each of the first MAX_REPORTED frames that are no whole picture; damage inside is not found.

    Data sets whose build decoded every frame (`frames_decoded` in their metadata) are not read again.
    """
    if dataset.metadata.get('frames_decoded'):
        return []

    def check(row: int) -> list[str]:
        record = dataset.read(str(table.split[row]), int(table.row[row]))
        broken = []
        for i, frame in enumerate(record.frames):
            try:
                read_header(frame)
            except ImageError as error:
                broken.append(f'Tracklet {record.tracklet!r}, frame {i} (counted from 0) {error}')
        return broken

    found: list[str] = []
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(table), 64 * threads):  # so that a damaged disk is not read to its end
            rows = range(start, min(start + 64 * threads, len(table)))
            found += [sentence for sentences in pool.map(check, rows) for sentence in sentences]
            if len(found) >= MAX_REPORTED:
                break
    return found[:MAX_REPORTED]
