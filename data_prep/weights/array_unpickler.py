"""Reads a pickle that may hold dicts, lists, strings, numbers and NumPy arrays, and nothing else.

A pickle is a program. Here every name it could call is refused except those that rebuild an array.
"""

import io
import pickle
from typing import Any

import numpy as np
from numpy._core.multiarray import _reconstruct
from numpy._core.numeric import _frombuffer

from pvlad_jax.core.errors import UserError

_ADMITTED = {
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
    # Both spellings: NumPy 1 wrote the first, NumPy 2 the second. Pickles of protocol 5 hold buffers.
    ('numpy.core.multiarray', '_reconstruct'): _reconstruct,
    ('numpy._core.multiarray', '_reconstruct'): _reconstruct,
    ('numpy.core.numeric', '_frombuffer'): _frombuffer,
    ('numpy._core.numeric', '_frombuffer'): _frombuffer,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f'it refers to {module}.{name}') from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError('it refers to an object outside the file')


def load_arrays(data: bytes, what: str) -> Any:
    """The pickled value. `what` names the source in messages. Raises UserError for anything but arrays, and for object
    arrays."""
    try:
        value = _ArrayUnpickler(io.BytesIO(data)).load()
    except Exception as error:  # a hostile or damaged pickle can raise anything
        raise UserError(f'{what} is not a pickle of NumPy arrays alone and was not read further: {error}.') from error
    _refuse_objects(value, what)
    return value


def _refuse_objects(value: Any, what: str) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _refuse_objects(item, what)
    elif isinstance(value, np.ndarray) and value.dtype.hasobject:
        raise UserError(f'{what} holds an array of objects, not of numbers.')
