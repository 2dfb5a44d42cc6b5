"""What no network can use, wherever it was read: numbers that are not finite, variances below 0, a head that does not
fit itself."""

from collections.abc import Iterator

import numpy as np

from data_prep.weights.imported_weights import ImportedWeights
from pvlad_jax.core.errors import UserError
from pvlad_jax.models.backbones import BACKBONES
from pvlad_jax.training.initialisation.pretrained import HEAD

_NAMED = 8  # in one message
_EPSILON = 1e-5  # that BatchNorm adds to a variance; running means of variances may end up below 0 by rounding


def check_numbers(weights: ImportedWeights) -> None:
    """UserError that names the tensors which are damaged."""
    wrong = [*_damaged(weights.tensors), *_uneven_head(weights)]
    if wrong:
        more = f' and {len(wrong) - _NAMED} more' if len(wrong) > _NAMED else ''
        raise UserError(
            f'These weights of {" or ".join(weights.backbones)} cannot be used: {"; ".join(wrong[:_NAMED])}{more}. Get '
            'the source file again, or save it from a network that is intact.'
        )


def _damaged(tensors: dict[str, np.ndarray]) -> Iterator[str]:
    for name, array in sorted(tensors.items()):
        if bad := int(np.count_nonzero(~np.isfinite(array))):
            yield f'{name} has {bad:,} numbers that are not finite'
        elif name.endswith('/var') and (array <= -_EPSILON).any():
            yield f'{name} has variances below 0, down to {array.min():g}'


def _uneven_head(weights: ImportedWeights) -> Iterator[str]:
    """The head's tensors that do not fit its kernel, whose size is the network's own choice."""
    shapes = {name: weights.tensors[f'head/{name}'].shape for name in HEAD if f'head/{name}' in weights.tensors}
    channels, features = BACKBONES[weights.backbones[0]].channels, shapes.get('kernel', (0,))[-1]
    for name, shape in shapes.items():
        wanted = (channels, features) if name == 'kernel' else (features,)
        if shape != wanted:
            yield f'head/{name} is {shape}, not {wanted}'
