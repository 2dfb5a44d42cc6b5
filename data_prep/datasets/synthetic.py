"""The synthetic walkers as a data set; main.py builds it on first use."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from data_prep.builder.build import build
from data_prep.raw_dataset import RawDataset
from data_prep.synthetic_walkers import synthetic_raw_dataset


def scan_synthetic(name: str = 'synthetic', **options: Any) -> RawDataset:
    """Returns the walkers' data set under this name. `options` are those of synthetic_raw_dataset (train_people, twins, seed ...)."""
    return replace(synthetic_raw_dataset(**options), name=name)


def build_synthetic(
    data_dir: str | Path, name: str = 'synthetic', *, workers: int = 0, progress: bool = True, **options: Any
) -> Path:
    """Builds the walkers where they are missing and returns their folder. Rendering takes all cores, or so many `workers`.

    Processes that start together may all call it: one builds, the others wait.

    Raises UserError where a data set of this name stands that was made with other options.
    """
    return build(scan_synthetic(name, **options), data_dir, workers=workers, progress=progress, wait=True)
