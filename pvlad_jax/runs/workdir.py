"""The working directory of a run: one run at a time, one configuration for good.

On a local disk or in object storage (gs://...).
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import msgspec
from etils import epath
from ml_collections import ConfigDict

from pvlad_jax.config import Config, changes, differences, flatten, freeze
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import write_text
from pvlad_jax.core.folder_lock import Locked
from pvlad_jax.core.paths import is_remote, user_path
from pvlad_jax.core.saved_files import Int64, json_object, reading
from pvlad_jax.core.settings import with_present_names
from pvlad_jax.runs.claimed_folder import ClaimedFolder

CONFIG = 'config.json'
EVALUATED_CONFIG = 'eval/config.json'  # of an evaluation without a run
HISTORY = 'history'  # in config.json of a run that was given more steps: what was before, oldest first
Folder = Path | epath.Path  # pathlib.Path, or epath.Path in object storage: they read alike

_Fields = TypedDict('_Fields', {'training.steps': Int64}, total=False)  # the others are checked where they are used


class _Before(TypedDict, total=False):
    step: Int64 | None  # updates made so far
    before: _Fields


_Saved = TypedDict('_Saved', {'training.steps': Int64, HISTORY: list[_Before]}, total=False)


def open_workdir(workdir: str | Path) -> Folder:
    """The path of a working directory, which need not exist yet.

    UserError for object storage of a kind that is unknown, or without the library that reads it.
    """
    if not is_remote(workdir):
        return user_path(workdir)
    try:
        path = epath.Path(str(workdir))
    except KeyError as error:  # a word before :// that etils does not know
        raise UserError(
            f'The working directory {workdir} cannot be reached: {str(workdir).partition("://")[0]}:// is no object '
            'storage that can be used here. Give a folder on a disk, or gs://BUCKET/FOLDER.'
        ) from error
    try:
        path.exists()
    except (ImportError, NotImplementedError, ValueError) as error:
        raise UserError(
            f'The working directory {workdir} cannot be reached: {error}. gs:// needs `pip install gcsfs`.'
        ) from error
    return path


def place_of(folder: Folder | str) -> str:
    """The same text for one folder, however its path is written."""
    return str(folder).rstrip('/') if is_remote(folder) else str(user_path(folder).resolve())


class InUse(UserError):
    """Another run holds the working directory."""


def claim(workdir: Folder, flag: str = '--workdir') -> contextlib.AbstractContextManager:
    """Makes the folder and locks it; keep what is returned open. The system releases the lock when the process ends,
    however it ends. Left by a refusal, a folder that it made and that holds nothing of a run yet is removed.

    `flag`: which one named the folder, for messages. Object storage has no such locks: there nothing is locked.
    InUse where another run holds it, UserError where it cannot be written.
    """
    try:
        if isinstance(workdir, epath.Path) and is_remote(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
            return contextlib.nullcontext()
        return ClaimedFolder(Path(workdir))
    except OSError as error:
        reason = (
            'a part of this path is a file'
            if isinstance(error, FileExistsError | NotADirectoryError)
            else error.strerror
        )
        raise UserError(f'The folder {workdir} cannot be written: {reason}. Give another {flag}.') from error
    except Locked as error:
        raise InUse(
            f'Another run (process {error.holder}) is using {workdir}. Wait for it, stop it, or give another {flag}.'
        ) from None


def check_config(workdir: Folder, config: Config) -> None:
    """UserError where the folder belongs to a run of another configuration, with the fields that differ, or to one
    whose configuration is gone.

    Which may differ is said where they are defined: the fields of `pvlad_jax.config.fields` that are `resumable`, and,
    as long as they only grow, those that are marked `grows`.
    """
    if not (workdir / CONFIG).exists():
        if _saved_steps(workdir):
            raise UserError(
                f'{workdir} holds checkpoints, but no {CONFIG}, which says what they are of. Restore that file from a '
                'copy, or give another --workdir.'
            )
        return
    changed = differences(read_config(workdir / CONFIG)[0], config)
    if changed:
        raise UserError(
            f'{workdir} holds a run of another configuration:\n  '
            + '\n  '.join(changed)
            + '\nGive another --workdir, or set these fields back. '
            + (
                f'A new run in another --workdir can begin with the weights of this one: --config.init_from={workdir}'
                if _saved_steps(workdir)
                else 'It has no checkpoint yet, so nothing is lost if the folder is removed.'
            )
        )


def check_checkpoint_config(workdir: Folder, step: int, saved: Mapping[str, Any] | None, config: Config) -> None:
    """UserError where the folder's configuration is not the one that a checkpoint was saved with: the file was edited,
    or is of another run.

    saved: what the checkpoint says (`Checkpoints.about`); None = nothing.
    """
    changed = differences(with_present_names(Config, saved), config) if saved else []
    if changed:
        raise UserError(
            f'{workdir / CONFIG} is not what the checkpoint of step {step} was trained with:\n  '
            + '\n  '.join(changed)
            + '\nSet these fields back in that file, or restore it from a copy.'
        )


def write_config(workdir: Folder, config: Config, history: Sequence[Mapping[str, Any]] = ()) -> None:
    """Writes config.json. history: what `record_more_steps` has added to it so far."""
    content = flatten(config) | ({HISTORY: list(history)} if history else {})
    write_text(workdir / CONFIG, json.dumps(content, indent=1, sort_keys=True) + '\n')


def record_more_steps(workdir: Folder, config: Config, step: int | None) -> None:
    """Where a run is given more steps than config.json says, it gets the new configuration; its history keeps the
    values of before.

    step: updates made so far; None = unknown.
    """
    saved, history = read_config(workdir / CONFIG)
    changed = changes(saved, config)
    steps = changed.get('training.steps', (0, 0))
    if steps[0] < steps[1]:
        before = {path: value for path, (value, _) in changed.items()}
        write_config(workdir, config, [*history, {'step': step, 'before': before}])


def _saved_steps(workdir: Folder) -> list[int]:
    """Steps of the checkpoints; one gets its number as its name when it is whole."""
    checkpoints = workdir / 'checkpoints'
    return [int(path.name) for path in checkpoints.iterdir() if path.name.isdecimal()] if checkpoints.is_dir() else []


def what_follows(workdir: Folder) -> str:
    """What the command of a training that is stopped now will do when it is given again, a sentence."""
    if is_remote(workdir):  # not asked: it may be stopped since the network is gone
        return 'The same command resumes from the last checkpoint, if there is one.'
    try:
        steps = _saved_steps(workdir)
    except OSError:
        return 'Give the same command again.'
    return f'The same command resumes after step {max(steps)}.' if steps else 'The same command starts again.'


def planned_ends(workdir: Folder) -> list[int]:
    """The numbers of steps that a run was given, from the first to the present one; [] where nothing has been saved
    yet.
    """
    if not ((workdir / CONFIG).exists() and _saved_steps(workdir)):
        return []
    saved, history = read_config(workdir / CONFIG)
    steps = [entry['before']['training.steps'] for entry in history if 'training.steps' in entry.get('before', {})]
    return [*steps, saved.get('training.steps', Config().training.steps)]


def config_file(workdir: Folder) -> str:
    """Which file holds the configuration of a working directory: that of the run, or of an evaluation without one."""
    trained = (workdir / 'checkpoints').exists() and (workdir / CONFIG).exists()
    return CONFIG if trained or not (workdir / EVALUATED_CONFIG).exists() else EVALUATED_CONFIG


def saved_config(workdir: Folder, name: str = CONFIG) -> Config:
    """The configuration that a run has left. UserError where there is none, or it is damaged or of another version."""
    path = workdir / name
    if not path.exists():
        raise UserError(
            f'{workdir} is no working directory of a training: it holds no {name}. Give the folder that --workdir of '
            'the training named.'
        )
    flat, _ = read_config(path)
    try:
        return config_of(flat)
    # The others: a field where a section is, or the other way round, or a number beyond the range of float.
    except (UserError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise UserError(f'{path} does not fit this version of the program: {error}') from error


def read_config(path: Folder) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(fields by their present paths, history) of a config.json. UserError where it is damaged."""
    with reading(path, 'Restore it from a copy.'):
        saved = json_object(path.read_bytes())
        msgspec.convert(saved, _Saved)
    history = saved.pop(HISTORY, [])
    return with_present_names(Config, saved), history


def fields_at_start(workdir: Folder) -> dict[str, Any]:
    """The fields by path as they were when the run began: one that goes on with more steps need not be given again what
    it began with.
    """
    saved, history = read_config(workdir / config_file(workdir))
    for entry in reversed(history):
        saved |= with_present_names(Config, entry.get('before', {}))
    return {**flatten(Config()), **saved}


def config_of(flat: Mapping[str, Any]) -> Config:
    """The configuration with these values of fields by path, and defaults for the rest, such as fields that came later.

    UserError for fields that this version does not know; TypeError or AttributeError for a field where a section is.
    """
    return freeze(ConfigDict(_nested({**flatten(Config()), **flat}), convert_dict=True))


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{'model.parts': 8} -> {'model': {'parts': 8}}."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, leaf = path.split('.')
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return nested
