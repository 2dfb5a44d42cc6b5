"""Which codewords of each part are in use: their shares of the soft assignment over many clips."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any, TypedDict

import msgspec
import numpy as np
from jaxtyping import Float, Int

from pvlad_jax.core.files import write_text
from pvlad_jax.core.saved_files import Finite, Int64, json_object

_EPSILON = 1e-12
_LEAST = 0.1  # of an even share: below, a codeword counts as out of use


@dataclasses.dataclass(frozen=True)
class CodewordUse:
    """shares: of each codeword in its part's soft assignment, each location weighted with the part's mask; rows sum to
    1. clips: over which.
    """

    shares: Float[np.ndarray, 'P K']
    clips: int

    @property
    def in_use(self) -> Int[np.ndarray, 'P']:
        """Codewords of each part with at least a tenth of an even share."""
        return (self.shares >= _LEAST / self.shares.shape[1]).sum(1)

    @property
    def effective(self) -> Float[np.ndarray, 'P']:
        """exp(entropy) of each part's shares: K where all have the same, 1 where one has everything."""
        return np.exp(-(self.shares * np.log(self.shares + _EPSILON)).sum(1))


def codeword_use(total: Float[np.ndarray, 'P K'], clips: int) -> CodewordUse:
    """From the sums of the weighted soft assignments of `clips` clips. A part without any weight has even shares."""
    total = total.astype(np.float64) + _EPSILON
    return CodewordUse(total / total.sum(1, keepdims=True), clips)


def write_codeword_use(path: Any, use: CodewordUse, step: int) -> None:
    """Replaces a file on a disk or in object storage. step: of the state that was evaluated."""
    content = {'step': step, 'clips': use.clips, 'shares': use.shares.round(6).tolist()}
    write_text(path, json.dumps(content, allow_nan=False) + '\n')


class _Saved(TypedDict):
    step: Int64 | None
    clips: Int64
    shares: list[list[Finite]]


def read_codeword_use(path: Any, step: int, note: Callable[[str], None]) -> CodewordUse | None:
    """None, and why as a sentence to `note`, where there is none, a damaged one, or one of another step than `step`."""
    try:
        content = msgspec.convert(json_object(path.read_bytes()), _Saved)
        shares = np.asarray(content['shares'], np.float64)
        if shares.ndim != 2 or not shares.size or (shares < 0).any() or (shares.sum(1) == 0).any():
            raise ValueError
        use = CodewordUse(shares / shares.sum(1, keepdims=True), content['clips'])
    except FileNotFoundError:
        note('Use of the codewords is missing: this evaluation has not written it.')
    except (OSError, ValueError):
        note('Use of the codewords is missing: its file is damaged. Evaluate again.')
    else:
        if content['step'] == step:
            return use
        note(f'Use of the codewords is missing: its file is of another step than {step}. Evaluate again.')
    return None
