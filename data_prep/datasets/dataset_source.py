"""What the build command knows of a kind of raw data: how it is scanned, its flags, and its documented counts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from data_prep.raw_dataset import Check, RawDataset
from pvlad_jax.data.dataset_format import Tables

# Flag -> its value; 'source' is the folder or archive. Where a data set is verified, flags that are not given have the
# value of its build, camera_numbers as a mapping from every folder to its number.
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Flag:
    """A flag of the build command. Data sets that share a flag name the same object.

    Attributes:
      name: Without the dashes.
      kind: Type of its value: str, int or bool.
      default: Its value where it is not given.
      meaning: For --help, which puts the names of the data sets before it.
      lower, upper: Bounds of an int; None = none.
    """

    name: str
    kind: type
    default: str | int | None
    meaning: str
    lower: int | None = None
    upper: int | None = None


@dataclass(frozen=True)
class DatasetSource:
    """An entry of DATASETS.

    Attributes:
      scan: (name of the data set, values of `flags` and --source) -> what was found. Raises UserError.
      flags: The flags of its own.
      needs_source: Whether --source must be given.
      recount: (tables, metadata) of a built data set -> its documented counts, expected and found; None = it has none.
    """

    scan: Callable[[str, Options], RawDataset]
    flags: tuple[Flag, ...] = ()
    needs_source: bool = True
    recount: Callable[[Tables, dict], list[Check]] | None = None


INFO_DIR = Flag('info_dir', str, None, 'folder with their tables, where the source has none.')
JPEG_QUALITY = Flag(
    'jpeg_quality', int, 0, 'store JPEG of this quality; 0 = the lossless PNG frames as they are.', lower=0, upper=100
)
