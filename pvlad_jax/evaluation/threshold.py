"""The file of a calibrated threshold, and what is decided with it: the same person, not sure, or nobody here."""

import dataclasses
import json
import math
from os import PathLike
from pathlib import Path
from typing import Any

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import atomic_write

FORMAT_VERSION = 1
SAME, NOT_SURE, NOBODY, OTHER = 'same', 'not sure', 'nobody here', 'other'


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with its 95 % bootstrap interval over people."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """Distances are 1 - cosine; rates are fractions.

    A distance up to `same` is accepted as the same person. A search whose nearest distance is above `nobody` has found
    nobody; in between it is not sure.
    """

    model: str  # fingerprint, '' = unknown
    false_accept_rate: float  # asked for
    per: str  # 'pair' or 'search': what the rate is a share of
    same: Estimate
    nobody: float
    nobody_miss_rate: float  # asked for: share of people in the gallery whose nearest picture is beyond `nobody`
    false_accepts: Estimate  # measured at `same`
    misses: Estimate  # share of pairs of one person that lie beyond `same`
    # Searches for people who are in the gallery, and for the same people after they were taken out.
    open_set: dict[str, Estimate]
    people: int  # of the queries
    identities: int  # of queries and gallery; each distractor counts as one
    queries: int
    gallery: int
    pairs_of_one_person: int
    pairs_of_two_people: int
    warnings: list[str]
    curve: dict[str, list[float]]  # 'threshold', 'false_accepts', 'misses', over pairs
    format: int = FORMAT_VERSION

    def decide(self, distances: list[float]) -> tuple[str, list[str]]:
        """(of the search, of each result): from the distances of a query's results, nearest first."""
        each = [SAME if d <= self.same.value else NOT_SURE if d <= self.nobody else OTHER for d in distances]
        return (each[0] if each and each[0] != OTHER else NOBODY), each


def write_calibration(path: str | PathLike, calibration: Calibration) -> None:
    """Writes JSON; a reader sees the old file or the whole new one."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(dataclasses.asdict(calibration), indent=1, allow_nan=False) + '\n')


def read_calibration(path: str | PathLike, model: str = '') -> Calibration:
    """UserError where there is none, or a damaged one, or one of a later version or another model than `model`."""
    try:
        fields = json.loads(Path(path).read_text())
        if fields['format'] > FORMAT_VERSION:
            raise UserError(
                f'{path} has the format version {fields["format"]}, this program reads up to '
                f'{FORMAT_VERSION}. Install a newer one.'
            )
        for name in (field.name for field in dataclasses.fields(Calibration) if field.type is int):
            if not isinstance(fields[name], int):
                raise ValueError(f'{name} is {fields[name]!r}')
        estimates = {name: _estimate(fields[name]) for name in ('same', 'false_accepts', 'misses')}
        open_set = {name: _estimate(value) for name, value in fields['open_set'].items()}
        calibration = Calibration(**{**fields, **estimates, 'open_set': open_set, 'nobody': float(fields['nobody'])})
        if not math.isfinite(calibration.same.value) or not math.isfinite(calibration.nobody):
            raise ValueError('a distance is not finite')
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f'There is no file {path}. Make it with: python -m pvlad_jax calibrate') from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(
            f'{path} is not a threshold that `calibrate` has written ({" ".join(str(error).split())}).'
        ) from error
    if model and calibration.model and calibration.model != model:
        raise UserError(
            f'The threshold {path} is of the model {calibration.model}, the gallery of {model}. Distances '
            'of two models cannot be compared: calibrate for this one.'
        )
    return calibration


def _estimate(fields: dict[str, Any]) -> Estimate:
    return Estimate(**{name: float(fields[name]) for name in ('value', 'low', 'high')})
