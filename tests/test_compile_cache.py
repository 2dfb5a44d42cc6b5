"""The compile cache: a second start compiles nothing, whether it resumes from a checkpoint or starts again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import quick_compilation

FIELDS = {'training.checkpoint_every': 1, 'training.log_every': 1, 'training.eval_untrained': True}
STARTS = """
import sys
from absl import flags
import main
from pvlad_jax.runs import training_run as train
from pvlad_jax.launch.preemption import Preempted
from tests.helpers.micro import micro_config_dict

def save(self, *args):
    saved(self, *args)
    done.append(args)
    if len(done) == steps:
        self.checkpoints.wait()
        raise Preempted('enough')

flags.FLAGS.mark_as_parsed()
saved, train.TrainingRun.save = train.TrainingRun.save, save
data, cache, steps, *workdirs = sys.argv[1:]
steps = int(steps)
for workdir in workdirs:
    done = []
    assert main.run(micro_config_dict(data, **{'compile_cache': cache}, **FIELDS), workdir, 'train') == 75
"""


def programs_after(data: Path, cache: Path, steps: int, *workdirs: Path) -> set[str]:
    """What is in the cache after a process that makes this number of steps in each working directory."""
    ended = subprocess.run(
        [sys.executable, '-c', f'FIELDS = {FIELDS}\n{STARTS}', str(data), str(cache), str(steps), *map(str, workdirs)],
        cwd=Path(__file__).resolve().parents[1],
        env=os.environ | {'XLA_FLAGS': quick_compilation.xla_flags(devices=1)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return {path.name for path in cache.rglob('*-cache')}


@pytest.fixture(scope='module')
def first(micro_data, tmp_path_factory):
    """(folder, programs that two steps of a run have left there)."""
    folder = tmp_path_factory.mktemp('cache')
    return folder, programs_after(micro_data, folder / 'cache', 2, folder / 'run')


def test_every_step_runs_the_same_program(first):
    programs = [name.split('-')[0] for name in first[1]]
    assert programs.count('jit_step') == 1 and set(programs) >= {'jit_init', 'jit_step', 'jit_embed_batch'}


def test_a_second_start_compiles_nothing(first, micro_data, tmp_path):
    folder, programs = first
    assert programs_after(micro_data, folder / 'cache', 1, folder / 'run', tmp_path / 'another') == programs
