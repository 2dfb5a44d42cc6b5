"""One job of a working directory, of one split or of all, by one process or by several."""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from pvlad_jax.config import Config, flatten, freeze
from pvlad_jax.config.remarks import remarks, without_effect
from pvlad_jax.core import terminal
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import user_path
from pvlad_jax.evaluation.mean_of_data_sets import AnyResult
from pvlad_jax.launch import compile_cache, distributed
from pvlad_jax.launch.distributed import Processes
from pvlad_jax.launch.preemption import StopRequest
from pvlad_jax.runs.evaluate import evaluate
from pvlad_jax.runs.experiment import prepare
from pvlad_jax.runs.export import export_model
from pvlad_jax.runs.inherited_weights import refuse_itself
from pvlad_jax.runs.other_datasets import evaluate_others
from pvlad_jax.runs.preflight import check_devices, check_folders, check_memory, check_names
from pvlad_jax.runs.report import write_report
from pvlad_jax.runs.run_start import weights_of_new_run
from pvlad_jax.runs.splits import all_splits, first_split
from pvlad_jax.runs.train import train
from pvlad_jax.runs.trained_model import UNTRAINED
from pvlad_jax.runs.workdir import (
    CONFIG,
    Folder,
    check_config,
    claim,
    open_workdir,
    place_of,
    planned_ends,
    what_follows,
)

# Modes that make a folder of what a working directory holds.
FROM_FILES = {'export': export_model, 'report': write_report}
_EMPTY_OUTPUT = '--output is empty. Name a folder, or leave it out to write to --workdir.'


def work(
    config,
    workdir: str | Path,
    mode: str,
    several: Processes,
    stop: StopRequest,
    build: Callable[[Config], None],
    given: Sequence[str] = (),
    output: str | Path | None = None,
) -> None:
    """Trains (`mode='train'`), evaluates (`'eval'`), exports (`'export'`) or shows (`'report'`).

    Args:
      config: a ConfigDict, checked here.
      several: how this process finds the others.
      stop: looked at between steps.
      build: makes a data set that the configuration can make and that is not there yet.
      given: paths of the fields that the user set, which are reported where they have no effect.
      output: where an evaluation, an export or a report writes; `workdir` is then only read.
    """
    frozen = freeze(config)
    check_names(frozen)
    if mode == 'train' and frozen.evaluation.dataset:
        raise UserError(
            'config.evaluation.dataset is for --mode=eval: in training the data set is config.dataset.name.'
        )
    stop.grace = frozen.training.grace_seconds
    distributed.start(several, stop.request)
    distributed.check_same_on_all('configuration', json.dumps([flatten(frozen), str(workdir), mode], sort_keys=True))
    folder = open_workdir(workdir)
    every_split = frozen.dataset.split == 'all' and mode not in FROM_FILES
    stop.what_follows = lambda: (
        'The same command goes on with the splits that are left.'
        if every_split
        else what_follows(folder)
        if mode == 'train'
        else 'The same command starts again.'
    )
    if mode in FROM_FILES:
        return _from_files(frozen, folder, mode, output)
    check_devices(frozen)
    check_memory(frozen, mode == 'train')
    target = folder if output is None else _output_folder(output, mode, frozen, folder)
    if mode == 'eval' and frozen.evaluation.checkpoint != UNTRAINED and not folder.exists():  # it is only read from
        raise UserError(
            f'{folder} holds no checkpoint to evaluate: there is no such folder. Train first, with --mode=train.'
        )
    # Each split has a folder of its own, which is claimed when its turn comes.
    held = contextlib.nullcontext()
    if distributed.is_first() and not every_split:
        held = claim(target, '--workdir' if output is None else '--output')
    with held:
        _check_and_build(frozen, folder, target, mode, build)
        compile_cache.use(frozen.compile_cache, target)
        for remark in [*remarks(frozen, jax.devices()[0].platform), *without_effect(frozen, given)]:
            _log(f'Note: {remark}')

        def run_one(config: Config, folder: Folder) -> AnyResult:
            check_config(folder, config)
            check_folders(config, folder if output is None else target)
            stop.no_unsaved_steps = not stop.requested
            if mode == 'train':
                return train(prepare(config, planned_ends(folder)), folder, _log, stop)
            return evaluate(prepare(config), folder, _log, folder if output is None else target)

        if every_split:
            all_splits(frozen, folder, mode, run_one, _log)
        elif frozen.evaluation.dataset:
            evaluate_others(frozen, folder, _log, target)
        else:
            run_one(frozen, folder)


def _log(text: str) -> None:
    """Prints a line, in one of several processes."""
    if distributed.is_first():
        terminal.say(text)


def _check_and_build(
    config: Config, folder: Folder, target: Folder, mode: str, build: Callable[[Config], None]
) -> None:
    """Refuses a job that does not go with its folders, and builds a data set that is missing."""
    every_split = config.dataset.split == 'all'
    if not every_split:
        check_config(folder, config)
    if mode == 'train':
        refuse_itself(config, folder)
    check_folders(config, target)
    if not config.evaluation.dataset:
        build(config)
    # Before it becomes the folder of this configuration. (Of several processes some may find it there.)
    if every_split and not folder.exists() and not distributed.is_multiprocess():
        experiment = prepare(first_split(config))
        weights_of_new_run(experiment, folder, experiment.state_shapes())


def _from_files(config: Config, folder: Folder, mode: str, output: str | Path | None) -> None:
    if distributed.is_multiprocess():
        raise UserError(f'--mode={mode} is for one process: start it once, with --multiprocess=off.')
    if output is not None and not str(output):
        raise UserError(_EMPTY_OUTPUT)
    check_config(folder, config)
    FROM_FILES[mode](config, folder, None if output is None else user_path(output), terminal.say)


def _output_folder(output: str | Path, mode: str, config: Config, workdir: Folder) -> Folder:
    """UserError where --output does not go with the job, or holds the results of another training."""
    if mode != 'eval':
        raise UserError('--output is for --mode=eval, export and report: a training writes all it makes to --workdir.')
    if not str(output):
        raise UserError(_EMPTY_OUTPUT)
    if config.dataset.split == 'all':
        raise UserError("--output takes one split: config.dataset.split is 'all'. Set it to one of them, such as 0.")
    target = open_workdir(output)
    if (target / CONFIG).exists() and place_of(target) != place_of(workdir):
        raise UserError(
            f'--output={target} is the working directory of another training, whose results would be replaced. Name '
            'another folder.'
        )
    return target
