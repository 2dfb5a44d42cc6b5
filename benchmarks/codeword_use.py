"""What the VLAD codewords meet at the start of training: mean of the descriptors, codewords in use, sharpness of the
assignment.

    python benchmarks/codeword_use.py --config=configs/synthetic.py --seeds=0,1,2

Descriptors u are those of the first training batches, computed in training mode. Printed for each seed, as means over
parts:
  |mean u| / rms   length of the mean descriptor over the root mean square length of descriptors; 0 = centred
  in use           exp(entropy) of the codewords' shares of the soft assignment, weighted with the part masks; K = all
                   equally
  largest          mean over locations of the largest of the K soft assignments; 1 = hard assignment
"""

import argparse
import runpy
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project's root, for configs

from pvlad_jax.core.environment_errors import one_sentence


def measure(config, batches: int) -> tuple[float, float, float]:
    """(|mean u| / rms, codewords in use, largest assignment) of a fresh state, means over parts."""
    import jax

    from pvlad_jax.data.train_batches import TrainBatches
    from pvlad_jax.parallel.mesh import gather_to_host
    from pvlad_jax.report.codeword_use import codeword_use
    from pvlad_jax.runs.experiment import prepare

    experiment = prepare(config)
    state = gather_to_host(experiment.initial_state())
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    source = TrainBatches(experiment.dataset, experiment.partition.train, config)
    look = jax.jit(
        lambda clips, valid: experiment.network.apply(variables, clips, valid, train=True, mutable=['batch_stats'])[0]
    )
    descriptors, assignments, weights = [], [], []
    for step in range(batches):
        output = jax.device_get(look(source[step]['clips'], source[step]['valid']))
        valid = np.broadcast_to(output.valid[..., None, None], output.soft_assignment.shape[:-2])
        descriptors.append(output.part_descriptors[valid])
        assignments.append(output.soft_assignment[valid])
        masks = output.soft_assignment.sum(-1) if output.part_masks is None else output.part_masks  # without masks: 1
        weights.append(masks[valid])
    u, assignment = np.concatenate(descriptors), np.concatenate(assignments)
    total = np.einsum('npk,np->pk', assignment, np.concatenate(weights))
    off_centre = np.linalg.norm(u.mean(0), axis=-1) / np.sqrt(np.square(u).sum(-1).mean(0))
    return (
        float(off_centre.mean()),
        float(codeword_use(total, batches).effective.mean()),
        float(assignment.max(-1).mean()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default='configs/synthetic.py', help='FILE, or FILE:arguments')
    parser.add_argument('--data_dir', default='', help="where data sets lie; the configuration's, if empty")
    parser.add_argument('--seeds', default='0')
    parser.add_argument('--batches', type=int, default=4, help='training batches looked at')
    arguments = parser.parse_args()
    from pvlad_jax.config import freeze
    from pvlad_jax.core.terminal import say

    rows = []
    for seed in map(int, arguments.seeds.split(',')):
        file, _, given = arguments.config.partition(':')
        config = runpy.run_path(file)['get_config'](given)
        config.seed = seed
        config.dataset.data_dir = arguments.data_dir or config.dataset.data_dir
        rows.append(measure(freeze(config), arguments.batches))
        say('seed {:>3}  |mean u|/rms {:.3f}  codewords in use {:.1f}  largest {:.3f}'.format(seed, *rows[-1]))
    mean, spread = np.mean(rows, 0), np.std(rows, 0, ddof=1) if len(rows) > 1 else np.zeros(3)
    say(
        'mean      |mean u|/rms {0:.3f} ± {3:.3f}  codewords in use {1:.1f} ± {4:.1f}  largest {2:.3f} ± '
        '{5:.3f}'.format(*mean, *spread)
    )


if __name__ == '__main__':
    with one_sentence():
        main()
