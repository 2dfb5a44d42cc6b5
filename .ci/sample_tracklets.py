"""Writes a few rendered tracklets as a folder of frames, as a user's own may be: python .ci/sample_tracklets.py FOLDER

{train,query,gallery}/PERSON/CAMERA/TRACKLET/NNNN.jpg
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_prep.datasets.synthetic import synthetic_raw_dataset


def write_tracklets(folder: Path, train_people: int = 12, test_people: int = 4) -> int:
    """Returns the number of tracklets."""
    walkers = synthetic_raw_dataset(train_people, test_people, cameras=2, min_frames=4, max_frames=6)
    for role, sources in walkers.splits.items():
        for source in sources:
            place = folder / role / source.person / f'c{source.camera_id}' / source.name
            place.mkdir(parents=True, exist_ok=True)
            for number, frame in zip(source.frame_numbers, walkers.read_frames(source)):
                (place / f'{number:04d}.jpg').write_bytes(frame)
    return sum(map(len, walkers.splits.values()))


if __name__ == '__main__':
    print(f'{sys.argv[1]}: {write_tracklets(Path(sys.argv[1]))} tracklets')
