"""What processes of one run agree on through arrays of the mesh."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from pvlad_jax.parallel.mesh import batch_sharding, replicated


class AnyProcess:
    """Whether any process said yes at a step: the same answer everywhere, without waiting for it when it is asked
    for.
    """

    def __init__(self, mesh: Mesh):
        self._alone = jax.process_count() == 1
        self._sharding, self._devices = batch_sharding(mesh), len(mesh.local_devices)
        self._any = jax.jit(jnp.any, out_shardings=replicated(mesh))

    def __call__(self, yes: bool) -> bool | jax.Array:
        """bool(...) of what is returned is the answer; until it is read nothing waits."""
        if self._alone:
            return yes
        return self._any(jax.make_array_from_process_local_data(self._sharding, np.full(self._devices, yes)))


def broadcast_choice(chosen: list[str], names: list[str]) -> list[str]:
    """Which of the names process 0 has chosen, on every process. All processes must call it."""
    if jax.process_count() == 1:
        return chosen
    flags = multihost_utils.broadcast_one_to_all(np.array([n in chosen for n in names]))
    return [n for n, yes in zip(names, np.asarray(flags)) if yes]
