"""What can be known before a job begins is checked before it begins: devices, folders, space, labels, frames, weights.

Everything here raises UserError; nothing is built, compiled or trained before it has passed.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from pvlad_jax.config import Config
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import is_remote, user_path
from pvlad_jax.data.joined_dataset import AnyDataset
from pvlad_jax.data.partition import Partition, held_out_clause
from pvlad_jax.data.pk_sampler import check_identities
from pvlad_jax.data.record_check import damaged_tracklets
from pvlad_jax.data.tracklet_dataset import TrackletTable
from pvlad_jax.evaluation.distances import DISTANCES
from pvlad_jax.evaluation.metric_learning import LEARNED, views
from pvlad_jax.evaluation.protocols import PROTOCOLS, check_protocol
from pvlad_jax.models.backbones import BACKBONES
from pvlad_jax.models.pooling import POOLINGS
from pvlad_jax.parallel.mesh import check_divides, make_mesh
from pvlad_jax.runs.open_data import said_of
from pvlad_jax.runs.run_data import RunData
from pvlad_jax.runs.workdir import Folder

_FOLDERS = ('checkpoints', 'eval', 'embeddings', 'tensorboard', 'profile', 'compile_cache')  # of a working directory
_FILES = ('metrics.jsonl', 'config.json', 'data.json')
_MAX_NAMED = 5  # tracklets in a message


def check_names(config: Config) -> None:
    """Names that registries know: UserError for an unknown one, with those that there are."""
    model, evaluation = config.model, config.evaluation
    _ = BACKBONES[model.backbone.name], POOLINGS[model.pooling], DISTANCES[evaluation.distance]
    if evaluation.protocol:
        _ = PROTOCOLS[evaluation.protocol]


def check_devices(config: Config) -> None:
    """The devices that were asked for are there, and the batch and the clips of an evaluation can be split over
    them."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter, without a word, for a GPU without its plugin
        asked = os.environ.get('JAX_PLATFORMS') or getattr(jax.config, 'jax_platforms', None)
        reason = next(iter(str(error).split(' (set JAX_PLATFORMS')[0].strip().splitlines()), '')
        reason = reason.rstrip('.') or 'its plugin for JAX is not installed'
        raise UserError(
            f'JAX_PLATFORMS={asked} asks for a device that JAX cannot use here: {reason}. Install JAX for it '
            '(docs/cloud.md), or use the CPU with JAX_PLATFORMS=cpu.'
        ) from error
    check_batch(config, make_mesh(config.mesh.data, config.mesh.fsdp))
    local = len(jax.local_devices())
    if config.evaluation.clips_per_step % local:
        raise UserError(
            f'config.evaluation.clips_per_step = {config.evaluation.clips_per_step} cannot be split evenly over '
            f'{local} devices. Make it a multiple of {local}, or use fewer devices.'
        )


def check_batch(config: Config, mesh: Mesh) -> None:
    """A batch, or each part of one whose gradients are accumulated, can be split over the mesh."""
    parts = config.optimizer.accumulate
    what = 'config.batch.identities x config.batch.tracklets' + (' / config.optimizer.accumulate' if parts > 1 else '')
    check_divides(what, config.batch.size // parts, mesh)


def check_memory(config: Config, training: bool) -> None:
    """The clips that this process puts together for a step, as bytes of pixels, are not more than the machine's memory;
    whatever is computed of them needs several times as much."""
    clips, batch, memory = config.clips, config.batch, _memory()
    steps = {'config.evaluation.clips_per_step': config.evaluation.clips_per_step}
    if training:
        what = 'config.batch.identities x config.batch.tracklets x config.clips.segments'
        steps[what] = batch.size * clips.segments // jax.process_count()
    for what, count in steps.items():
        needed = count * clips.frames * clips.height * clips.width * 3
        if memory and needed > memory:
            raise UserError(
                f'{count} clips ({what}) of {clips.frames} frames of {clips.height} x {clips.width} pixels are '
                f'{needed / 1e9:,.0f} GB, and this machine has {memory / 1e9:,.0f} GB of memory. Lower '
                f'config.clips.height, clips.width or clips.frames, or the number of clips.'
            )


def _memory() -> int:
    """Bytes of the machine; 0 = unknown."""
    try:
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    except (ValueError, OSError):
        return 0


def check_folders(config: Config, workdir: Folder) -> None:
    """What a run writes can be written. (The working directory itself was when it was locked.)"""
    if not is_remote(workdir):
        for name in (*_FOLDERS, *_FILES):
            if reason := _why_not(Path(workdir) / name, folder=name in _FOLDERS):
                raise UserError(
                    f'{Path(workdir) / name} cannot be written: {reason}. Change that, or give another --workdir.'
                )
    if config.compile_cache not in ('', 'workdir') and not is_remote(config.compile_cache):
        folder = user_path(config.compile_cache)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            reason = None if os.access(folder, os.W_OK | os.X_OK) else 'permission denied'
        except OSError as error:
            reason = error.strerror
        if reason:
            raise UserError(
                f'config.compile_cache: the folder {folder} cannot be written: {reason}. Give another one, '
                "'workdir', or '' for none."
            )


def _why_not(path: Path, folder: bool) -> str | None:
    """Why a run cannot write there; None where it can, or where there is nothing yet."""
    if not path.exists():
        return None
    if path.is_dir() != folder:
        return 'it is a file where a folder belongs' if folder else 'it is a folder where a file belongs'
    if not os.access(path, os.W_OK | (os.X_OK if folder else 0)):
        return 'permission denied, or a read-only file system'
    return None


def check_space(config: Config, workdir: Folder, shapes: PyTree, saved: int, step: int) -> None:
    """The disk holds the checkpoints that a run will keep and the one that is being written; `saved` of them are there
    at `step`."""
    if is_remote(workdir):
        return
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes))
    every = [config.training.checkpoint_every, *([config.training.eval_every] if config.training.eval_every else [])]
    to_come = sum(-(-(config.training.steps - step) // e) for e in every) + 1 if step < config.training.steps else 0
    kept = min(to_come, config.checkpoint.keep_latest + config.checkpoint.keep_best + 1 - saved)
    needed = size * max(kept, min(to_come, 1))
    usage = shutil.disk_usage(next(path for path in (workdir, *workdir.parents) if path.exists()))
    if usage.total and usage.free < needed:  # some file systems in user space say 0 of everything
        raise UserError(
            f'No space left for checkpoints: {workdir} has {usage.free / 1e6:,.0f} MB free, and {needed / size:.0f} '
            f'checkpoint(s) of {size / 1e6:,.0f} MB will be written before old ones go. Make room, give another '
            '--workdir, or keep fewer (config.checkpoint.keep_latest, keep_best).'
        )


def check_labels_of(config: Config, roles: Partition, parts: Mapping[str, Partition] | None = None) -> None:
    """People to train on as the batches need them; queries that the protocol can score; pairs for a learned
    distance.

    parts: the roles of each data set of a join, by name, where `roles` are those of all together.
    """
    given = config.dataset
    why = [held_out_clause(given.validation_share, roles.validation_query, roles.validation_gallery)]
    if given.train_people:
        why.append(f'config.dataset.train_people = {given.train_people} keeps no more')
    check_identities(roles.train, config.batch.identities, ', '.join(filter(None, why)))
    for name, own in (parts or {'': roles}).items():
        with said_of(name):
            _check_scored(config, own)


def _check_scored(config: Config, roles: Partition) -> None:
    check_test_labels(config, roles)
    if config.dataset.validation_share:
        _check_scorable(
            config,
            config.evaluation.protocol or roles.protocol,
            roles.validation_query,
            roles.validation_gallery,
            'validation (config.dataset.validation_share)',
        )


def check_test_labels(config: Config, roles: Partition) -> None:
    """Queries that the protocol can score; pairs for a learned distance."""
    _check_scorable(config, config.evaluation.protocol or roles.protocol, roles.query, roles.gallery, 'test')
    if config.evaluation.distance in LEARNED:
        people = roles.train.select(roles.train.person_id > 0)
        pairs = np.unique(np.stack([people.person_id, views(people.camera_id)]), axis=1)
        if len(np.unique(pairs[0])) < 2 or len(np.unique(pairs[0])) == pairs.shape[1]:
            raise UserError(
                f'config.evaluation.distance = {config.evaluation.distance!r} is learned from pairs of tracklets of '
                'one person in two cameras, and of two people; the training set has none. Use cosine or euclidean.'
            )


def _check_scorable(config: Config, protocol: str, query: TrackletTable, gallery: TrackletTable, what: str) -> None:
    """UserError where the labels do not fit the protocol, or where no query could be scored."""
    try:
        check_protocol(protocol, query, gallery, config.evaluation.unknown_cameras)
    except UserError as error:
        raise UserError(
            f'The {what} tracklets cannot be evaluated: {error} Check the labels of the data set, or choose '
            'another config.evaluation.protocol.'
        ) from error


def check_frames(config: Config, dataset: AnyDataset, roles: Partition, data: RunData) -> None:
    """Every frame that will be tested begins as a picture does. Once for a run: data.json says that it was done.

    Several processes share the tracklets out. Nothing is looked at with config.input.on_error = 'skip', which needs no
    promise.
    """
    dataset_config = config.dataset
    what = (
        f'{config.evaluation.frames}, split {dataset_config.split} {dataset_config.halves}, '
        f'validation {dataset_config.validation_share:g}'
    )
    if config.input.on_error == 'skip' or data.checked(what):
        return
    table = TrackletTable.concatenate([roles.query, roles.gallery, roles.validation_query, roles.validation_gallery])
    mine = table.select(slice(jax.process_index(), None, jax.process_count()))
    damaged = damaged_tracklets(dataset, mine, config.evaluation.frames, config.input.threads)
    if damaged:
        name, wrong = next(iter(damaged.items()))
        others = [other for other in damaged if other != name]
        rest = f' and {len(others) - _MAX_NAMED} more' if len(others) > _MAX_NAMED else ''
        more = f' So are {", ".join(others[:_MAX_NAMED])}{rest}.'
        raise UserError(
            f'A tracklet to be tested is damaged: {name}: {wrong}.{more if others else ""} Build the data set again '
            'from intact frames, or leave such tracklets out with --config.input.on_error=skip.'
        )
    data.mark_checked(what)
