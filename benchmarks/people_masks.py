"""Whether part masks rest on body parts of real people: overlap with limbs that a pose landmarker finds.

    python -m venv pose && pose/bin/pip install mediapipe==0.10.21
    python benchmarks/people_masks.py runs/position runs/colours --data_dir=data --pose_python=pose/bin/python

The measures, and what is printed, are those of benchmarks/part_masks.py. Of the people of a run's data set those are
looked at who were held out of its training (config.dataset.validation_share), or with --people=trained those that it
was trained on; test people never. In place of the renderer's limbs stands what MediaPipe makes of each frame
(benchmarks/pose_landmarks.py, in a Python of its own, as it needs another NumPy; benchmarks/people_limbs.py draws the
limbs). Frames count in which it finds a whole body, in the picture and in its mirror image, and much the same one. Bags
have no label: they belong to the nearest limb.

Printed for each run are rank-1 and mAP of the held-out people, the trained network, and the same network as its
training began (without them); below them the references of benchmarks/part_masks.py, and "mirrored": the limbs found in
the mirrored frames as masks, mirrored back. What that lacks from 1 is noise of the landmarks themselves. Runs that have
other people to look at, as those of other seeds, are refused.

No picture is written but for the frames that the landmarker is given, in a temporary folder that is deleted.
"""

import dataclasses
import functools
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from jaxtyping import Bool, Float, UInt8

from benchmarks.clip_masks import LabelledTracklet, LimbMasks, limb_masks, limb_shares
from benchmarks.part_masks import BODY, drawn, measures, parser_of_runs, references, run_row, show, with_sides_joined
from benchmarks.people_limbs import agreement, has_pose, limb_map
from benchmarks.rows import child_output, write
from benchmarks.same_tracklets import check_same, config_of_run, data_set_of
from data_prep.synthetic_walkers.limbs import Limb
from data_prep.synthetic_walkers.tracklets import HEIGHT, WIDTH
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.terminal import say
from pvlad_jax.data.frame_decoding import decode_clips
from pvlad_jax.data.partition import Partition
from pvlad_jax.data.tracklet_dataset import TrackletTable
from pvlad_jax.runs.checkpoint import EVALUATION
from pvlad_jax.runs.open_data import OpenedData, open_data
from pvlad_jax.runs.trained_model import TrainedModel, load_trained

GROUPS = ('held_out', 'trained')
AGREEMENT = 0.6  # least, of the limbs found in a frame and in its mirror image: below it, most are wrong
LANDMARKS = Path(__file__).with_name('pose_landmarks.py')
# The labels of a mirrored frame as those of the frame: the person's left is the mirror image's right.
MIRRORED = [0, 1, 2, Limb.RIGHT_ARM, Limb.LEFT_ARM, Limb.RIGHT_LEG, Limb.LEFT_LEG, Limb.BAG]


@dataclasses.dataclass(frozen=True)
class Poses:
    """What the landmarker found in F frames and in their mirror images (first axis)."""

    landmarks: Float[np.ndarray, '2 F 33 4']
    person: Float[np.ndarray, '2 F H W']

    def labels(self, height: int, width: int) -> tuple[UInt8[np.ndarray, 'F h w'], UInt8[np.ndarray, 'F h w']]:
        """Limbs by the frames and by their mirror images, both as in the frames; 0 where one of them has no pose."""
        found = has_pose(self.landmarks[0]) & has_pose(self.landmarks[1])
        maps = np.zeros((2, len(found), height, width), np.uint8)
        for side in range(2):
            for f in np.flatnonzero(found):
                maps[side, f] = limb_map(self.landmarks[side, f], self.person[side, f], height, width)
        return maps[0], np.array(MIRRORED, np.uint8)[maps[1, :, :, ::-1]]

    @functools.cached_property
    def known(self) -> Bool[np.ndarray, 'F']:
        """Whether both have a pose, and nearly the same one."""
        return agreement(*self.labels(*self.person.shape[2:])) >= AGREEMENT


def poses(frames: UInt8[np.ndarray, 'F H W 3'], python: str) -> Poses:
    """Runs benchmarks/pose_landmarks.py."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, 'frames.npz'), Path(folder, 'landmarks.npz')
        np.savez(given, frames=np.concatenate([frames, frames[:, :, ::-1]]))
        child_output([python, str(LANDMARKS), str(given), str(found)], 'The pose landmarker')
        arrays = np.load(found)
        return Poses(
            *(arrays[name].reshape(2, len(frames), *arrays[name].shape[1:]) for name in ('landmarks', 'person'))
        )


def untrained(model: TrainedModel) -> TrainedModel:
    """The network as its training began; except for the codebooks, on which no mask depends."""
    import jax

    from pvlad_jax.models.tracklet_network import init_variables
    from pvlad_jax.training.initialisation.pretrained import load_backbone_weights

    config = model.config
    key, _ = jax.random.split(jax.random.key(config.seed))
    began = jax.tree.map(np.asarray, dict(init_variables(model.network, model.clip, key)))
    backbone = config.model.backbone
    if backbone.weights:
        template = (began[kind].get('backbone', {}) for kind in ('params', 'batch_stats'))
        arrays = load_backbone_weights(backbone.weights, backbone.name, *template, backbone.inflation)
        for kind, tree in zip(('params', 'batch_stats'), arrays):
            began[kind] = {**began[kind], 'backbone': tree}
    return dataclasses.replace(model, variables=began)


def drawn_people(roles: Partition, people: str, count: int) -> TrackletTable:
    """count tracklets of the people (`GROUPS`), or all: `drawn`."""
    held_out = [roles.validation_query, roles.validation_gallery]
    return drawn(roles.train if people == 'trained' else TrackletTable.concatenate(held_out), count)


def people_of_runs(
    workdirs: Sequence[Path], data_dir: str, people: str, count: int
) -> tuple[OpenedData, TrackletTable]:
    """The data of all runs, and what `drawn_people` gives of each. UserError where that is nobody, or where runs have
    other tracklets to look at.
    """
    shown = {}
    for workdir in workdirs:
        config = config_of_run(workdir)
        about = dataclasses.replace(config.dataset, data_dir=data_dir or config.dataset.data_dir)
        data = open_data(dataclasses.replace(config, dataset=about))
        table = drawn_people(data.roles, people, count)
        if not len(table):
            raise UserError(
                f'{workdir} holds nobody out. Train with --config.dataset.validation_share=0.2, or look at the people '
                'that it was trained on: --people=trained'
            )
        shown[workdir] = {'data set': data_set_of(config, data_dir), 'people to look at': table}
    check_same(shown, 'Compare runs of one data set, config.seed and config.dataset.validation_share.')
    return data, table


def held_out_scores(workdir: Path, step: int | None) -> dict[str, float]:
    """rank-1 and mAP in %, where the checkpoint was scored on the held-out people."""
    file = workdir / 'checkpoints' / str(step) / EVALUATION
    scores = json.loads(file.read_text()).get('validation', {}) if file.exists() else {}
    return {name: 100 * scores[name] for name in ('rank_1', 'mAP') if name in scores}


def mirrored_row(seen: LimbMasks, labels: np.ndarray, mirrored: np.ndarray, tracklet: np.ndarray) -> dict:
    """labels, mirrored: the limbs [F,H,W] of the known frames."""
    grid = seen.masks.shape[1:3]
    masks = with_sides_joined(limb_shares(mirrored, *grid))[..., BODY]
    return {'name': 'mirrored', **measures(masks, limb_shares(labels, *grid), tracklet)}


def main() -> None:
    parser = parser_of_runs(__doc__, tracklets=128)
    parser.add_argument('--pose_python', default=sys.executable, help='the Python that has MediaPipe')
    parser.add_argument('--people', choices=GROUPS, default='held_out', help='whose tracklets')
    given = parser.parse_args()
    if given.tracklets < 0:
        parser.error(f'--tracklets={given.tracklets}: at least 0.')
    data, table = people_of_runs(given.workdirs, given.data_dir, given.people, given.tracklets)
    encoded = [data.dataset.read(table.split[row], table.row[row]).frames for row in range(len(table))]
    names, counts = table.tracklet.tolist(), [len(frames) for frames in encoded]
    clips = [decode_clips(e, np.arange(n), HEIGHT, WIDTH, name) for e, n, name in zip(encoded, counts, names)]
    found = poses(np.concatenate(clips), given.pose_python)
    known, rows = found.known, []
    say(
        f'{len(table)} tracklets of {len(np.unique(table.person_id))} people; limbs are known of {known.sum()} of '
        f'{len(known)} frames, the others are left out.'
    )
    if not known.any():
        raise UserError('No frame shows a whole body to the pose landmarker, so there is nothing to compare with.')
    for workdir in given.workdirs:
        model = load_trained(workdir, given.checkpoint)
        labels, mirrored = found.labels(*model.clip[1:])
        at = np.cumsum(counts)[:-1]
        tracklets = [LabelledTracklet(*one) for one in zip(names, encoded, np.split(labels, at), np.split(known, at))]
        seen = limb_masks(model, tracklets)
        scores = held_out_scores(workdir, model.step)
        rows.append(run_row(str(workdir), seen, scores))
        try:
            rows.append(run_row(f'{workdir}, untrained', limb_masks(untrained(model), tracklets), {}))
        except UserError as error:  # its weights are elsewhere
            say(f'{workdir}, no row of the untrained network: {error}')
    tracklet = np.repeat(np.arange(len(names)), counts)
    rows += [*references(seen), mirrored_row(seen, labels[known], mirrored[known], tracklet[known])]
    if given.output:
        write(given.output, rows)
    show(rows)


if __name__ == '__main__':
    with one_sentence():
        main()
