"""All splits of a data set under one working directory: WORKDIR/split_0, split_1, ... and their mean in
WORKDIR/eval/latest.json.

Any number of processes may be given the same command, on one machine or on several that share the disk: each takes the
next split that no other works on, and the one that ends the last split writes the mean. A split that is done is not
done again; one that was stopped resumes. (Object storage has no locks: there, one process.)
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable

import jax

from pvlad_jax.config import BackboneConfig, Config
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import write_text
from pvlad_jax.core.saved_files import json_object
from pvlad_jax.data.partition import split_names
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from pvlad_jax.evaluation.mean_of_data_sets import AnyResult
from pvlad_jax.evaluation.mean_of_splits import mean_of_splits, print_mean
from pvlad_jax.evaluation.result import with_defaults
from pvlad_jax.parallel.any_process import broadcast_choice
from pvlad_jax.runs.evaluator import EvaluationFailed
from pvlad_jax.runs.run_data import RunData
from pvlad_jax.runs.trained_model import UNTRAINED
from pvlad_jax.runs.workdir import Folder, InUse, check_config, claim, record_more_steps, write_config
from pvlad_jax.training.initialisation.pretrained import digest_in_metadata

DONE = 'split_done.json'  # in a split's folder: its result and what it was made by
# Do not change a result, so that a split is not scored again for them.
NOT_IN_RESULT = ('strips', 'clips_per_step', 'dataset', 'trained_people')
_CLAIM_TIMEOUT = 20.0  # seconds; the common folder is held for moments only

Log = Callable[[str], None]
RunOne = Callable[[Config, Folder], AnyResult]  # trains or evaluates one split in its (claimed) folder


def all_splits(config: Config, workdir: Folder, mode: str, run_one: RunOne, log: Log) -> dict | None:
    """Does (mode 'train' or 'eval') every split that is not done and that no other process holds.

    Args:
      run_one: given the configuration of the split and its folder.

    Returns:
      What WORKDIR/eval/latest.json says, or None where splits are still being worked on by others.
    """
    dataset = TrackletDataset.open(config.dataset.data_dir, config.dataset.name)
    names = _names(dataset, config)
    data = RunData(workdir, dataset, people=0)  # each split has its own number of them
    if jax.process_index() == 0:
        _claim_config(workdir, config, mode, data, log)
    left = names
    before = broadcast_choice([n for n in names if _done(workdir, config, n, mode, data)], names)
    if before:
        log(f'Done before, and not done again: split {", ".join(before)}.')
    failed: dict[str, str] = {}
    while left:
        name, held = _claim_next(workdir, config, left, mode, data)
        if name is None:
            break
        with held:
            log(f'Split {name} of {names[0]} to {names[-1]}, in {_folder(workdir, name)}.')
            try:
                result = run_one(_of_split(config, name), _folder(workdir, name))
            except EvaluationFailed as error:  # trained and saved; the other splits do not wait for it
                failed[name] = str(error)
                log(f'Split {name}: {error}')
            if name not in failed and jax.process_index() == 0:
                folder = _folder(workdir, name)
                done = _fingerprint(config, folder, data) | {'result': result.to_json()}
                write_text(folder / DONE, json.dumps(done, indent=1) + '\n')
        left = [n for n in left if n != name]
    if failed:
        raise EvaluationFailed(
            f'Of the splits, {", ".join(failed)} could not be scored, so there is no mean. The first reason: '
            f'{next(iter(failed.values()))}'
        )
    open_ones = broadcast_choice([n for n in names if not _done(workdir, config, n, mode, data)], names)
    if open_ones:
        log(
            f'Done here. Other processes work on split {", ".join(open_ones)}; the last of them writes the mean. If '
            'they were stopped, the same command resumes.'
        )
        return None
    report = mean_of_splits({n: _saved(_folder(workdir, n))['result'] for n in names})
    if jax.process_index() == 0:
        try:
            with _claim_with_retry(workdir):
                write_text(workdir / 'eval' / 'latest.json', json.dumps(report, indent=2) + '\n')
        finally:  # printed where it cannot be written, too
            print_mean(report)
    return report


def first_split(config: Config) -> Config:
    """The configuration of the first of the splits. UserError where the data set is not there, or has none."""
    dataset = TrackletDataset.open(config.dataset.data_dir, config.dataset.name)
    return _of_split(config, _names(dataset, config)[0])


def _names(dataset: TrackletDataset, config: Config) -> list[str]:
    names = split_names(dataset)
    if len(names) < 2:
        raise UserError(
            f"config.dataset.split = 'all': data set {config.dataset.name!r} has no splits to go through. Leave it at "
            "'0'."
        )
    return names


def _folder(workdir: Folder, name: str) -> Folder:
    return workdir / f'split_{name}'


def _of_split(config: Config, name: str) -> Config:
    return dataclasses.replace(config, dataset=dataclasses.replace(config.dataset, split=name))


def _fingerprint(config: Config, folder: Folder, data: RunData) -> dict:
    """What a result depends on in addition to the run's own configuration."""
    evaluation = {k: v for k, v in dataclasses.asdict(config.evaluation).items() if k not in NOT_IN_RESULT}
    saved = folder / 'checkpoints'
    steps = [int(p.name) for p in saved.iterdir() if p.name.isdecimal()] if saved.exists() else []
    last_step = max(steps, default=None)
    mark = {'evaluation': evaluation, 'last_step': last_step, 'data': [data.now.labels, data.now.content]}
    if config.evaluation.checkpoint == UNTRAINED:
        mark['imported'] = _imported(config.model.backbone)
    return mark


def _imported(backbone: BackboneConfig) -> list[str]:
    """What of an untrained network may differ between runs in one folder: its weights, and how they are inflated."""
    return [digest_in_metadata(backbone.weights), backbone.inflation] if backbone.weights else []


def _done(workdir: Folder, config: Config, name: str, mode: str, data: RunData) -> bool:
    """Whether the split was scored as asked, from its last checkpoint; in training, one of the last step."""
    folder = _folder(workdir, name)
    if (done := _saved(folder)) is None:
        return False
    check_config(folder, _of_split(config, name))
    mark = _fingerprint(config, folder, data)
    trained = mode == 'eval' or mark['last_step'] == config.training.steps
    return trained and all(done.get(key, value) == value for key, value in mark.items())


def _saved(folder: Folder) -> dict | None:
    """What DONE says, the result whole; None where there is none, or it is damaged: the split is then scored again."""
    try:
        done = json_object((folder / DONE).read_bytes())
        return {**done, 'result': with_defaults(done.get('result'))}
    except (OSError, ValueError):
        return None


def _claim_next(
    workdir: Folder, config: Config, names: list[str], mode: str, data: RunData
) -> tuple[str | None, contextlib.AbstractContextManager | None]:
    """(the first of the splits that is neither done nor held by another process, its lock), or (None, None).

    Of several processes of one run, the first decides.
    """
    taken, lock = None, None
    if jax.process_index() == 0:
        for name in names:
            try:
                lock = claim(_folder(workdir, name))
            except InUse:
                continue
            if not _done(workdir, config, name, mode, data):
                taken = name
                break
            with lock:  # let go
                lock = None
    chosen = broadcast_choice([taken] if taken else [], names)
    return (chosen[0], lock or contextlib.nullcontext()) if chosen else (None, None)


def _claim_config(workdir: Folder, config: Config, mode: str, data: RunData, log: Log) -> None:
    """The folder belongs to this configuration and to these data for good, as that of a single run does."""
    with _claim_with_retry(workdir):
        check_config(workdir, config)
        if (workdir / 'config.json').exists():
            data.check(None, config.dataset.on_change, log)
            data.write()
            if mode == 'train':
                record_more_steps(workdir, config, None)
        else:
            data.forget()
            data.write()
        if not (workdir / 'config.json').exists():
            write_config(workdir, config)


def _claim_with_retry(workdir: Folder) -> contextlib.AbstractContextManager:
    """The lock of the common folder, which other processes of the same command hold for moments only."""
    until = time.monotonic() + _CLAIM_TIMEOUT
    while True:
        try:
            return claim(workdir)
        except InUse:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
