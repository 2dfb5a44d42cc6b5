"""The results of one network on several data sets, each by its own protocol, and their mean: one number to follow a
training and to choose a checkpoint by."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypedDict

import msgspec
import numpy as np

from pvlad_jax.core.saved_files import json_object
from pvlad_jax.evaluation.result import COUNTS, METRICS, Result

_SAME = ('step', 'frames', 'distance', 'rerank', 'unknown_cameras', 'checkpoint')  # in all of them


@dataclasses.dataclass(frozen=True)
class MeanResult:
    """The results of one network on joined data sets.

    Attributes:
      dataset: their names, joined.
      data_sets: at least one result, by the name of its data set.
    """

    dataset: str
    data_sets: Mapping[str, Result]

    def mean(self, metric: str) -> float:
        """Of a field of `Result` that is a metric: a data set counts once, however many queries it has. Its value does
        not depend on the order of the data sets.
        """
        return float(np.mean(sorted(getattr(result, metric) for result in self.data_sets.values())))

    def total(self, count: str) -> int:
        """Of a field of `Result` that counts."""
        return sum(getattr(result, count) for result in self.data_sets.values())

    def to_json(self) -> dict[str, Any]:
        """The means under the names that a `Result` has, and under `data_sets` the results themselves."""
        results = list(self.data_sets.values())
        protocols = sorted({result.protocol for result in results})
        return {
            'dataset': self.dataset,
            'split': f'mean of {len(results)} data sets',
            'protocol': protocols[0] if len(protocols) == 1 else "each data set's own",
            **{name: getattr(results[0], name) for name in _SAME},
            **{metric: self.mean(metric) for metric in METRICS.values()},
            **{count: self.total(count) for count in COUNTS},
            'cmc': np.mean([result.cmc for result in results], axis=0).tolist(),
            'partial': any(result.partial for result in results),
            'data_sets': {name: result.to_json() for name, result in self.data_sets.items()},
        }


AnyResult = Result | MeanResult  # of one data set, or of several


class _Saved(TypedDict):
    data_sets: dict[str, Result]


def read_data_sets(path: Any) -> dict[str, dict[str, Any]]:
    """The results that a file of `MeanResult.to_json` holds, by data set, as `read_result` gives one; {} where there is
    no such file, or it holds another kind of result.
    """
    try:
        saved = msgspec.convert(json_object(path.read_bytes()), _Saved)
        return {name: result.to_json() for name, result in saved['data_sets'].items()}
    except (OSError, ValueError):
        return {}
