"""A picture of walkers: rows are people seen by cameras, columns are consecutive frames.

python -m data_prep.synthetic_walkers.contact_sheet --output=walkers.png --people=4
"""

import numpy as np
from absl import app, flags
from jaxtyping import UInt8
from PIL import Image

from data_prep.synthetic_walkers.filming import film
from data_prep.synthetic_walkers.tracklets import HEIGHT, WIDTH, World
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.terminal import say
from pvlad_jax.launch.command_flags import parse_command_flags


def contact_sheet(
    people: range, cameras: range, frames: int = 8, twins: bool = False, seed: int = 0, columns: int = 1
) -> UInt8[np.ndarray, 'h w 3']:
    """Rows: people x cameras (their first tracklet each); each shows `frames` consecutive frames. columns sets strips
    side by side."""
    world = World(seed, twins, min_frames=max(frames, 8), max_frames=max(frames, 60))
    strips = []
    for person_id in people:
        for camera_id in cameras:
            pictures = film(world, person_id, camera_id, 0)[:frames]
            strip = np.full((HEIGHT + 2, frames * (WIDTH + 1) + 3, 3), 255, np.uint8)
            for i, picture in enumerate(pictures):
                strip[:HEIGHT, i * (WIDTH + 1) : i * (WIDTH + 1) + WIDTH] = picture
            strips.append(strip)
    rows = [np.concatenate(strips[i : i + columns], 1) for i in range(0, len(strips) - columns + 1, columns)]
    return np.concatenate(rows, 0)


def main(_argv) -> None:
    people = range(flags.FLAGS.first, flags.FLAGS.first + flags.FLAGS.people)
    cameras = range(1, flags.FLAGS.cameras + 1)
    sheet = contact_sheet(
        people, cameras, flags.FLAGS.frames, flags.FLAGS.twins, flags.FLAGS.seed, columns=flags.FLAGS.cameras
    )
    with one_sentence():
        Image.fromarray(sheet).save(flags.FLAGS.output, format='PNG')
    say(f'{flags.FLAGS.output}: {len(people)} people x {len(cameras)} cameras, {flags.FLAGS.frames} frames each')


if __name__ == '__main__':
    flags.DEFINE_string('output', None, 'PNG file to write.')
    flags.DEFINE_integer('people', 4, 'Number of people.', lower_bound=1)
    flags.DEFINE_integer('first', 1, 'Number of the first person.', lower_bound=1)
    flags.DEFINE_integer('cameras', 3, 'Number of cameras.', lower_bound=1)
    flags.DEFINE_integer('frames', 8, 'Frames of a tracklet that are shown.', lower_bound=1)
    flags.DEFINE_boolean('twins', False, 'People 2i-1 and 2i differ by gait only.')
    flags.DEFINE_integer('seed', 0, 'Of everything.', lower_bound=0)
    app.run(main, flags_parser=parse_command_flags(required=('output',)))
