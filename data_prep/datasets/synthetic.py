"""The synthetic walkers as a data set: who walks past which camera, and which tracklets are queries. main.py builds it
on first use."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from data_prep.datasets.dataset_source import DatasetSource, Flag, Options
from data_prep.raw_dataset import RawDataset, TrackletSource
from data_prep.synthetic_walkers.camera import camera
from data_prep.synthetic_walkers.filming import film_jpeg
from data_prep.synthetic_walkers.tracklets import World, frame_numbers
from pvlad_jax.core.errors import UserError

# raised when the same options give other pictures, so that a data set of older ones is not taken for a new one
RENDERING = 3


@dataclass(frozen=True)
class FilmTracklet:
    """Reads a tracklet by rendering it; picklable."""

    world: World

    def __call__(self, source: TrackletSource) -> list[bytes]:
        """The frames as JPEG, in order. They depend on the options and the tracklet's numbers alone."""
        number = int(source.name.rpartition('_t')[2])
        quality = camera(source.camera_id, self.world.seed).quality
        return film_jpeg(self.world, source.person_id, source.camera_id, number, quality)


def synthetic_raw_dataset(
    train_people: int,
    test_people: int,
    cameras: int = 3,
    tracklets_per_camera: int = 2,
    twins: bool = False,
    seed: int = 0,
    min_frames: int = 8,
    max_frames: int = 60,
) -> RawDataset:
    """Walkers past cameras, in the layout 'roles'.

    Every person walks past every camera `tracklets_per_camera` times. People 1..train_people are the training split,
    the next test_people are the test people: of each of them and each camera the first tracklet is a query, the others
    are
      gallery.

    Args:
      train_people, test_people: Number of people, disjoint.
      cameras: At least 2. The first three are fixed, further ones are drawn from the seed.
      tracklets_per_camera: At least 2, so that there is a gallery.
      twins: People 2i-1 and 2i look the very same (build, clothes, hair, things carried) and have the same joint angles
        over the phase of a stride; they differ in the frequency of their gait alone (gait.SLOW_TWIN, gait.FAST_TWIN),
        and with it in how fast they walk. A pair is always in the same split.
      seed: Everything follows from it.
      min_frames, max_frames: Length of tracklets; short ones are more frequent.

    Raises:
      UserError: Where the options cannot give a data set.
    """
    _check(train_people, test_people, cameras, tracklets_per_camera, twins, seed, min_frames, max_frames)
    world = World(seed, twins, min_frames, max_frames)

    def sources(people, numbers) -> list[TrackletSource]:
        return [_source(world, p, c, n) for p in people for c in range(1, cameras + 1) for n in numbers]

    test = range(train_people + 1, train_people + test_people + 1)
    return RawDataset(
        name='synthetic_twins' if twins else 'synthetic',
        splits={
            'train': sources(range(1, train_people + 1), range(tracklets_per_camera)),
            'query': sources(test, range(1)),
            'gallery': sources(test, range(1, tracklets_per_camera)),
        },
        read_frames=FilmTracklet(world),
        encoding='jpeg',
        layout='roles',
        metadata={
            'source': 'synthetic walkers',
            'rendering': RENDERING,
            'options': {
                'train_people': train_people, 'test_people': test_people, 'cameras': cameras,
                'tracklets_per_camera': tracklets_per_camera, 'twins': twins, 'seed': seed,
                'min_frames': min_frames, 'max_frames': max_frames,
            },
        },
        workers='processes',
    )  # fmt: skip


def _source(world: World, person_id: int, camera_id: int, number: int) -> TrackletSource:
    name = f'p{person_id:04d}_c{camera_id}_t{number}'
    numbers = tuple(int(n) for n in frame_numbers(world, person_id, camera_id, number))
    return TrackletSource(
        name=name,
        person=f'{person_id:04d}',
        person_id=person_id,
        camera_id=camera_id,
        frame_numbers=numbers,
        frames=tuple(f'{name}_f{n:04d}' for n in numbers),
    )


def _check(train_people, test_people, cameras, tracklets_per_camera, twins, seed, min_frames, max_frames) -> None:
    def refuse(wrong: str, remedy: str):
        raise UserError(f'Synthetic walkers: {wrong}. {remedy}.')

    if train_people < 2 or test_people < 2:
        refuse(f'{train_people} training and {test_people} test people', 'Ask for at least 2 of each')
    if twins and (train_people % 2 or test_people % 2):
        refuse(
            f'twins come in pairs, but {train_people} training and {test_people} test people were asked for',
            'Use even numbers',
        )
    if cameras < 2:
        refuse(f'cameras is {cameras}', 'Queries are matched across cameras: use at least 2')
    if tracklets_per_camera < 2:
        refuse(f'tracklets_per_camera is {tracklets_per_camera}', 'One of each camera is the query: use at least 2')
    if not 1 <= min_frames <= max_frames:
        refuse(f'tracklets of {min_frames} to {max_frames} frames', 'Use 1 <= min_frames <= max_frames')
    if seed < 0:
        refuse(f'seed is {seed}', 'Use 0 or a positive number')


def scan_synthetic(name: str = 'synthetic', **options: Any) -> RawDataset:
    """The walkers' data set under this name. `options` are those of `synthetic_raw_dataset`: train_people, twins, seed
    ..."""
    return replace(synthetic_raw_dataset(**options), name=name)


_PARAMETERS = {'people': 'train_people'}  # flags that are called otherwise than what they set


def _scan(name: str, options: Options) -> RawDataset:
    given: Mapping[str, Any] = {flag.name: options[flag.name] for flag in SOURCE.flags}
    return scan_synthetic(name, **{_PARAMETERS.get(k, k): v for k, v in given.items() if v is not None})


SOURCE = DatasetSource(
    scan=_scan,
    flags=(
        Flag('people', int, 40, 'people in train.', lower=2),
        Flag('test_people', int, 20, 'people in query and gallery.', lower=2),
        Flag('cameras', int, None, 'cameras.', lower=2),
        Flag('tracklets_per_camera', int, None, 'tracklets of a person in each camera.', lower=2),
        Flag('min_frames', int, None, 'shortest tracklet.', lower=1),
        Flag('max_frames', int, None, 'longest tracklet.', lower=1),
        Flag('twins', bool, None, 'pairs in the same clothes and build, who differ by gait only.'),
        Flag('seed', int, None, 'seed of people, cameras and tracklets.'),
    ),
    needs_source=False,
)
