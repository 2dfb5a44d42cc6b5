"""Embeddings of different models are never compared: which model a table and a gallery are of."""

from typing import Any

from pvlad_jax.core.errors import UserError
from pvlad_jax.gallery.manifest import State


def model_of(table: Any, state: State, given: str, what: str = '') -> str:
    """The model that a table is of; UserError where that is not the gallery's."""
    what = what or str(table.path)
    own = table.fingerprint or given
    if not own and state.fingerprint:
        raise UserError(
            f'{what}: nothing says which model made these embeddings; those of the gallery are of '
            f'{state.fingerprint}. Say it with --model={state.fingerprint} if it is the same.'
        )
    if given and table.fingerprint and given != table.fingerprint:
        raise UserError(f'{what}: the embeddings are of the model {table.fingerprint}, not of {given}.')
    if own != state.fingerprint and (state.fingerprint or state.size):
        raise UserError(
            f'{what}: the embeddings are of the model {own}, those of the gallery of '
            f'{state.fingerprint or "(unknown)"}. Distances between models mean nothing: embed with that '
            'model, or make another gallery for this one (gallery create).'
        )
    return own
