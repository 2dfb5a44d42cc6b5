"""What both sides of benchmarks/input.py read: synthetic walkers at MARS's size, in ArrayRecord and as files."""

from pathlib import Path

NAME = 'input_benchmark'
QUALITY = 88  # of JPEG; gives 6 kB a frame, as MARS has


def walkers_at_mars_size(source, read) -> list[bytes]:
    import cv2
    import simplejpeg

    frames = [simplejpeg.decode_jpeg(frame, 'RGB') for frame in read(source)]
    return [
        simplejpeg.encode_jpeg(cv2.resize(f, (128, 256), interpolation=cv2.INTER_CUBIC), QUALITY, 'RGB', '420')
        for f in frames
    ]


def make_data(folder: Path, people: int) -> None:
    """The data set, and its frames as files next to it: FILES/TRACKLET/NNNN.jpg, the same bytes."""
    import dataclasses
    from functools import partial

    from data_prep.builder.build import build
    from data_prep.datasets.synthetic import synthetic_raw_dataset
    from pvlad_jax.data.tracklet_dataset import TrackletDataset

    raw = synthetic_raw_dataset(people, 2, cameras=2, min_frames=10, max_frames=80)
    raw = dataclasses.replace(raw, name=NAME, read_frames=partial(walkers_at_mars_size, read=raw.read_frames))
    dataset = TrackletDataset(build(raw, folder, progress=False))
    table = dataset.tables['train']
    for row, name in enumerate(table.tracklet):
        target = folder / 'files' / name
        target.mkdir(parents=True, exist_ok=True)
        frames = dataset.read('train', row).frames
        for i in range(len(frames)):
            (target / f'{i:04d}.jpg').write_bytes(frames[i])
