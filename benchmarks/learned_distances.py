"""Learned distances on synthetic embeddings: mAP of 200 test people, at the sizes of the benchmarks' training sets.

    python benchmarks/learned_distances.py --slope=0 --noise=1.5

An embedding is its person's centre plus noise plus half a shift of its camera, scaled to unit length. Centres lie along
one random basis, noise and shifts along another; the k-th direction of either has the standard deviation k^-slope, and
noise is multiplied by --noise.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from jaxtyping import Float

from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.terminal import say
from pvlad_jax.evaluation import Embeddings, score
from pvlad_jax.evaluation.distances import DISTANCES

SIZE = 512  # numbers an embedding
TEST_PEOPLE = 200
# People, cameras, tracklets of each pair.
SETS = {'PRID 2011': (89, 2, 1), 'iLIDS-VID': (150, 2, 1), '600 people, 6 cameras': (600, 6, 2)}


@dataclasses.dataclass(frozen=True)
class World:
    """Where centres and noise lie."""

    spread: Float[np.ndarray, 'E']
    centres: Float[np.ndarray, 'E E']
    noises: Float[np.ndarray, 'E E']
    noise: float

    def people(self, count: int, cameras: int, tracklets: int, first: int, rng: np.random.Generator) -> Embeddings:
        person = np.repeat(np.arange(first, first + count), cameras * tracklets)
        camera = np.tile(np.arange(cameras).repeat(tracklets), count)
        centre = rng.standard_normal((count, SIZE)) * self.spread @ self.centres.T
        noise = rng.standard_normal((len(person), SIZE)) * self.spread @ self.noises.T
        shift = np.random.default_rng(5).standard_normal((cameras, SIZE)) * self.spread @ self.noises.T
        x = centre[person - first] + self.noise * noise + 0.5 * shift[camera]
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return Embeddings(
            embedding=x.astype(np.float32),
            person_id=person,
            camera_id=camera,
            tracklet=np.array([f'{first}-{i}' for i in range(len(person))]),
        )


def measure(seed: int, sizes: tuple[int, int, int], slope: float, noise: float) -> dict[str, float]:
    """mAP by distance."""
    rng = np.random.default_rng(seed)
    bases = (np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0] for _ in range(2))
    world = World(np.arange(1, SIZE + 1.0) ** -slope, *bases, noise)
    train, test = world.people(*sizes, 1, rng), world.people(TEST_PEOPLE, 2, 1, 5000, rng)
    query, gallery = test.select(test.camera_id == 0), test.select(test.camera_id == 1)
    return {d: score(query, gallery, 'cross_camera', d, train=train).mAP for d in DISTANCES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--slope', type=float, default=0.0, help='0: every direction alike')
    parser.add_argument('--noise', type=float, default=1.5)
    parser.add_argument('--seeds', type=int, default=3)
    options = parser.parse_args()
    for name, sizes in SETS.items():
        runs = [measure(seed, sizes, options.slope, options.noise) for seed in range(options.seeds)]
        say(f'{name}: ' + ', '.join(f'{d} {np.mean([r[d] for r in runs]):.3f}' for d in DISTANCES))


if __name__ == '__main__':
    with one_sentence():
        main()
