"""Sections of a configuration in which the former name of a field still sets it."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

from ml_collections import ConfigDict


class _RenamingConfigDict(ConfigDict):
    """A ConfigDict that takes former names for present ones. Only present ones are stored, so that copies agree."""

    KIND: ClassVar[type]
    PRESENT: ClassVar[Mapping[str, str]] = {}

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(self.PRESENT.get(key, key))

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(self.PRESENT.get(key, key), value)

    def get_type(self, key: str) -> type:
        return super().get_type(self.PRESENT.get(key, key))

    def __reduce_ex__(self, protocol: int) -> tuple:
        _, _, *state = super().__reduce_ex__(protocol)
        return _empty, (self.KIND,), *state  # the class has no name by which pickle would find it


@functools.lru_cache
def config_dict_type(kind: type) -> type[ConfigDict]:
    """The class for a dataclass of settings (core/settings.py) with its former names that still work.

    A class, and not an attribute, holds the names: copies of a ConfigDict keep the class.
    """
    present = {
        field.metadata['renamed_from'].rpartition('.')[2]: field.name
        for field in dataclasses.fields(kind)
        if field.metadata.get('former_works')
    }
    if not present:
        return ConfigDict
    return type(_RenamingConfigDict.__name__, (_RenamingConfigDict,), {'KIND': kind, 'PRESENT': present})


def _empty(kind: type) -> ConfigDict:
    section = config_dict_type(kind)
    return section.__new__(section)
