"""Which data sets config.dataset.name stands for: one, or several that are joined, NAME+NAME@SPLIT."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from pvlad_jax.config.fields.config import Config
from pvlad_jax.core.errors import UserError

JOIN = '+'
# Folders of data_dir. Other names would be read as two names or a split, or lead out of the folder.
_NAME = re.compile(r'[^.+@,:/\\][^+@,:/\\]*')
# A run's own files in WORKDIR/eval, next to NAME.json of a data set.
_RUN_RESULTS = re.compile(r'latest|config|step_\d+')


class NamedDataSet(NamedTuple):
    """A data set of a join.

    Attributes:
      name: of its folder in config.dataset.data_dir.
      split: '0' where none is written.
      written: as the user wrote it, NAME or NAME@SPLIT, without blanks around either; results go by it.
    """

    name: str
    split: str
    written: str


def is_folder_name(name: str) -> bool:
    """Whether a data set can have this name: that of a folder in data_dir, without the marks of a list, a join or a
    split.
    """
    return _NAME.fullmatch(name) is not None


def without_blanks(written: str) -> str:
    """'mars' of ' mars ', 'prid2011@3' of 'prid2011 @ 3': as one of a list may be written."""
    return '@'.join(part.strip() for part in written.split('@'))


def names_run_result(name: str) -> bool:
    """Whether the result of a data set of this name would overwrite one of the run itself."""
    return _RUN_RESULTS.fullmatch(name) is not None


def is_join(name: str) -> bool:
    """Whether a config.dataset.name stands for several data sets."""
    return JOIN in name


def joined_data_sets(name: str) -> tuple[NamedDataSet, ...]:
    """The data sets of a join, in the order in which they are written.

    Args:
      name: config.dataset.name, such as 'mars+prid2011@3'.

    Raises:
      UserError: something that is no name, or a data set twice, or one called as a result of the run itself.
    """
    found = []
    for written in map(without_blanks, name.split(JOIN)):
        folder, at, split = written.partition('@')
        if not is_folder_name(folder) or (at and not split.isdecimal()):
            raise UserError(
                f'config.dataset.name = {name!r}: {written!r} names no data set. To join data sets of '
                'config.dataset.data_dir, write their names with + between them, those with several splits as '
                'NAME@SPLIT, such as mars+prid2011@3.'
            )
        found.append(NamedDataSet(folder, split or '0', written))
    if taken := [one.written for one in found if names_run_result(one.written)]:
        raise UserError(
            f'config.dataset.name = {name!r}: results on {taken[0]!r} would overwrite eval/{taken[0]}.json of the run '
            'itself. Build the data set under another name.'
        )
    folders = [one.name for one in found]
    if twice := sorted({folder for folder in folders if folders.count(folder) > 1}):
        raise UserError(
            f'config.dataset.name = {name!r} joins {twice[0]!r} with itself: each of its people would count as '
            'two. Name each data set once.'
        )
    return tuple(found)


def join_problems(c: Config) -> Iterator[str]:
    """What does not go with a join of data sets: a line each. UserError as in `joined_data_sets`."""
    data, batch = c.dataset, c.batch
    if not is_join(data.name):
        return
    count = len(joined_data_sets(data.name))
    if data.split != '0':
        yield (
            f'config.dataset.split = {data.split!r} is for one data set, and config.dataset.name = {data.name!r} joins '
            f"{count}. Leave it at '0', and write the split of each behind its name, such as prid2011@3."
        )
    if batch.sampling == 'balanced' and batch.identities % (count * batch.group_size):
        groups = f' in groups of config.batch.group_size = {batch.group_size}' if batch.group_size > 1 else ''
        step = count * batch.group_size
        yield (
            f"config.batch.sampling = 'balanced' draws equally many people{groups} from each of {count} data sets, but "
            f'config.batch.identities = {batch.identities} cannot be shared out so. Set it to a multiple of {step}, '
            f'such as {-(-batch.identities // step) * step}.'
        )
