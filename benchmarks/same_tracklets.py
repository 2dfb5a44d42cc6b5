"""Runs of which one table or picture says that they were shown the same tracklets: it is checked that they were."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pvlad_jax.config import Config
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import user_path
from pvlad_jax.data.tracklet_dataset import TrackletTable
from pvlad_jax.runs.workdir import config_file, open_workdir, saved_config


def config_of_run(workdir: Path) -> Config:
    """UserError where there is no such run."""
    where = open_workdir(workdir)
    return saved_config(where, config_file(where))


def data_set_of(config: Config, data_dir: str) -> str:
    """Which data set, and where it lies. data_dir: in place of the configuration's own, if not empty."""
    return f'{config.dataset.name} in {user_path(data_dir or config.dataset.data_dir).resolve()}'


def check_same(shown: Mapping[Path, Mapping[str, Any]], remedy: str) -> None:
    """UserError where two runs differ in anything that they are shown.

    Args:
      shown: what each run is shown, by what it is called: tables of tracklets, and values that can be compared.
      remedy: what to do about it, a sentence.
    """
    first, *others = shown
    for other in others:
        if differing := list(_differing(shown[first], shown[other])):
            raise UserError(f'{first} and {other} cannot be compared: they differ in {", ".join(differing)}. {remedy}')


def check_same_data_set(workdirs: Sequence[Path], data_dir: str) -> None:
    """UserError where the runs are not of one data set. data_dir: as in `data_set_of`."""
    shown = {workdir: {'data set': data_set_of(config_of_run(workdir), data_dir)} for workdir in workdirs}
    check_same(shown, 'Compare runs of one data set; where it lies in two folders, name one with --data_dir.')


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for name, mine in ours.items():
        other = theirs[name]
        if isinstance(mine, TrackletTable):
            a, b = _rows(mine), _rows(other)
            if a != b:
                yield f'the {name} ({len(a)} and {len(b)} tracklets, {len(a & b)} of them the same)'
        elif mine != other:
            yield f'the {name} ({mine} and {other})'


def _rows(table: TrackletTable) -> set[tuple]:
    columns = table.tracklet, table.person_id, table.camera_id, table.n_frames
    return set(zip(*(column.tolist() for column in columns)))
