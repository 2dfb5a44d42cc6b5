"""The device mesh, and arrays that many processes make up together.

Axes: `data`, over which the batch alone is split, and `fsdp`, over which the batch is split and parameters, optimiser
state and their moving average are sharded as well. BatchNorm statistics and triplets are those of the whole batch,
because the step is one program over global arrays (jit + NamedSharding), whatever the mesh.
"""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pvlad_jax.core.errors import UserError

BATCH_AXES = ('data', 'fsdp')


def make_mesh(data: int = -1, fsdp: int = 1, devices=None) -> Mesh:
    """A mesh of data x fsdp devices: all of all processes, or those given. -1 = what the other axis leaves.

    UserError where the sizes do not fit.
    """
    # By process, so that each process's devices hold neighbouring rows of a batch, and in the order that its share is
    # read.
    devices = np.array(sorted(jax.devices() if devices is None else devices, key=lambda d: (d.process_index, d.id)))
    sizes = [data, fsdp]
    if sizes.count(-1) == 1:
        known = sizes[1 - sizes.index(-1)]
        if known >= 1 and devices.size % known == 0:
            sizes[sizes.index(-1)] = devices.size // known
    if min(sizes) < 1 or sizes[0] * sizes[1] != devices.size:
        raise UserError(
            f'config.mesh (data={data}, fsdp={fsdp}) does not fit {devices.size} device(s): the product must be '
            'their number; one of the two may be -1 for the rest.'
        )
    return Mesh(devices.reshape(sizes), BATCH_AXES, axis_types=(jax.sharding.AxisType.Auto,) * 2)


def local_mesh(devices=None) -> Mesh:
    """A mesh of the devices of this process (or those given), for what it does by itself."""
    devices = np.array(jax.local_devices() if devices is None else devices)
    return Mesh(devices.reshape(-1, 1), BATCH_AXES, axis_types=(jax.sharding.AxisType.Auto,) * 2)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def check_divides(what: str, size: int, mesh: Mesh) -> None:
    """UserError, which begins with `what`, where the devices cannot have equal shares of `size`."""
    if size % mesh.size:
        raise UserError(
            f'{what} = {size} cannot be split evenly over {mesh.size} devices. Make it a multiple of {mesh.size}, '
            'or use fewer devices.'
        )


def global_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Each process's share of a batch -> arrays over the whole mesh."""
    sharding = batch_sharding(mesh)
    return {key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()}


def gather_to_host(tree: Any) -> Any:
    """Arrays that may be sharded over many processes -> whole NumPy arrays, on every process.

    All processes must call it.
    """

    def whole(x):
        if isinstance(x, jax.Array) and not x.is_fully_addressable and not x.is_fully_replicated:
            return multihost_utils.process_allgather(x, tiled=True)
        return np.asarray(x)

    return jax.tree.map(whole, tree)
