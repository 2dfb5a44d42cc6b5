"""The compile cache: a second start compiles nothing, whether it resumes from a checkpoint or starts again."""

from pathlib import Path

import pytest

from tests.helpers import quick_compilation
from tests.helpers.forked_run import ForkedRun

FIELDS = {'training.checkpoint_every': 1, 'training.log_every': 1, 'training.eval_untrained': True}


def stop_after_steps(arguments) -> None:
    """Of a process: runs that are stopped after a number of steps. arguments: data, cache, number of steps, working
    directories.
    """
    from absl import flags

    import main
    from pvlad_jax.launch.preemption import Preempted
    from pvlad_jax.runs import training_run
    from tests.helpers.micro import micro_config_dict

    data, cache, steps, *workdirs = arguments
    saved, done = training_run.TrainingRun.save, []

    def save(self, *args):
        saved(self, *args)
        done.append(args)
        if len(done) == int(steps):
            self.checkpoints.wait()
            raise Preempted('enough')

    flags.FLAGS.mark_as_parsed()
    training_run.TrainingRun.save = save
    for workdir in workdirs:
        done.clear()
        assert main.run(micro_config_dict(data, **{'compile_cache': cache}, **FIELDS), workdir, 'train') == 75


def programs_after(data: Path, cache: Path, steps: int, *workdirs: Path) -> set[str]:
    """What is in the cache after a process that makes this number of steps in each working directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XLA_FLAGS', quick_compilation.xla_flags(devices=1))
        process = ForkedRun(*map(str, (data, cache, steps, *workdirs)), function=stop_after_steps)
    said = process.communicate(timeout=300)
    assert process.returncode == 0, said
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
