"""The file of a calibrated threshold, and what is decided with it: the same person, not sure, or nobody here."""

import dataclasses
import json
from os import PathLike
from pathlib import Path

import msgspec

from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import atomic_write
from pvlad_jax.core.saved_files import Finite, Int64, Versioned, json_object, reading

FORMAT_VERSION = 1
LARGEST_DISTANCE = 2.0  # of 1 - cosine
_ROUNDING = 1e-5  # by which distances of float32 may lie beyond their ends
SAME, NOT_SURE, NOBODY, OTHER = 'same', 'not sure', 'nobody here', 'other'


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with its 95 % bootstrap interval over people."""

    value: Finite
    low: Finite
    high: Finite


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """Distances are 1 - cosine; rates are fractions.

    A distance up to `same` is accepted as the same person. A search whose nearest distance is above `nobody`, which is
    not below `same`, has found nobody; in between it is not sure.
    """

    model: str  # fingerprint, '' = unknown
    false_accept_rate: Finite  # asked for
    per: str  # 'pair' or 'search': what the rate is a share of
    same: Estimate
    nobody: Finite
    nobody_miss_rate: Finite  # asked for: share of people in the gallery whose nearest picture is beyond `nobody`
    false_accepts: Estimate  # measured at `same`
    misses: Estimate  # share of pairs of one person that lie beyond `same`
    # Searches for people who are in the gallery, and for the same people after they were taken out.
    open_set: dict[str, Estimate]
    people: Int64  # of the queries
    identities: Int64  # of queries and gallery; each distractor counts as one
    queries: Int64
    gallery: Int64
    pairs_of_one_person: Int64
    pairs_of_two_people: Int64
    warnings: list[str]
    curve: dict[str, list[Finite]]  # 'threshold', 'false_accepts', 'misses', over pairs
    format: Int64 = FORMAT_VERSION

    def decide(self, distances: list[float]) -> tuple[str, list[str]]:
        """(of the search, of each result): from the distances of a query's results, nearest first."""
        each = [SAME if d <= self.same.value else NOT_SURE if d <= self.nobody else OTHER for d in distances]
        return (each[0] if each and each[0] != OTHER else NOBODY), each


def write_calibration(path: str | PathLike, calibration: Calibration) -> None:
    """Writes JSON; a reader sees the old file or the whole new one."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(dataclasses.asdict(calibration), indent=1, allow_nan=False) + '\n')


def read_calibration(path: str | PathLike, model: str = '') -> Calibration:
    """UserError where there is none, or a damaged one, or one of a later version or another model than `model`, or one
    whose distances cannot be."""
    remedy = 'Make it with: python -m pvlad_jax calibrate'
    if Path(path).is_dir() or not Path(path).exists():
        raise UserError(f'There is no file {path}. {remedy}')
    with reading(path, remedy, 'is not a threshold that `calibrate` has written'):
        fields = json_object(Path(path).read_bytes())
        if (version := msgspec.convert(fields, Versioned)['format']) > FORMAT_VERSION:
            raise UserError(
                f'{path} has the format version {version}, this program reads up to {FORMAT_VERSION}. Install a newer '
                'one.'
            )
        calibration = msgspec.convert(fields, Calibration)
        _check_distances(calibration.same.value, calibration.nobody)
    if model and calibration.model and calibration.model != model:
        raise UserError(
            f'The threshold {path} is of the model {calibration.model}, the gallery of {model}. Distances '
            'of two models cannot be compared: calibrate for this one.'
        )
    return calibration


def _check_distances(same: float, nobody: float) -> None:
    """ValueError for thresholds of a file that was changed by hand, or is of another distance."""
    if not all(-_ROUNDING <= distance <= LARGEST_DISTANCE + _ROUNDING for distance in (same, nobody)):
        raise ValueError(
            f'same.value = {same:g} and nobody = {nobody:g} must lie between 0 and {LARGEST_DISTANCE:g}, as distances '
            'are 1 - cosine'
        )
    if same > nobody:
        raise ValueError(f'same.value = {same:g} is above nobody = {nobody:g}: no distance is both')
