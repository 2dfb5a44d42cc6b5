"""What every reader of published weights returns, and what the import command knows of a reader."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ImportedWeights:
    """Tensors named `params/...`, `batch_stats/...` and, where the source has it, `classifier/kernel` and
    `classifier/bias`."""

    tensors: dict[str, np.ndarray]  # float32
    backbones: tuple[str, ...]  # names of the registry that they fit
    origin: str
    licence: str
    source_sha256: str  # of the file that was read
    pixel_mean: tuple[float, float, float]  # input = (uint8 / 255 - mean) / std, RGB
    pixel_std: tuple[float, float, float]


@dataclass(frozen=True)
class WeightSource:
    """An entry of WEIGHT_SOURCES.

    Attributes:
      read: (--file or None, and `options` by name) -> the weights under our names. Raises UserError.
      options: The flags that it takes in addition to --file: 'channels', 'backbone', 'dataset', 'data_dir'.
    """

    read: Callable[..., ImportedWeights]
    options: tuple[str, ...] = ()
