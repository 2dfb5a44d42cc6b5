"""Which array is sharded how, as data: patterns of paths -> partitions, apart from the network."""

import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# Smaller arrays cost more to gather than they save.
MIN_SHARDED_SIZE = 2**14

# (pattern searched in 'params/backbone/stage1/.../kernel', partition or 'largest'). The first that matches holds.
# Optimiser moments and the moving average have their parameter's path inside their own, so they follow it.
Rules = Sequence[tuple[str, PartitionSpec | str]]
FSDP_RULES: Rules = ((r'.*', 'largest'),)


def state_shardings(state: Any, mesh: Mesh, rules: Rules = FSDP_RULES) -> Any:
    """A tree of shardings for a tree of arrays or of their shapes.

    'largest': the largest axis that `fsdp` divides, of arrays worth it.
    """

    def of(path, leaf) -> NamedSharding:
        name = '/'.join(str(getattr(k, 'key', getattr(k, 'name', getattr(k, 'idx', k)))) for k in path)
        rule = next((rule for pattern, rule in rules if re.search(pattern, name)), PartitionSpec())
        return NamedSharding(mesh, _largest(leaf.shape, mesh.shape['fsdp']) if rule == 'largest' else rule)

    return jax.tree_util.tree_map_with_path(of, state)


def _largest(shape: tuple[int, ...], fsdp: int) -> PartitionSpec:
    size = 1
    for n in shape:
        size *= n
    axes = [a for a, n in enumerate(shape) if n % fsdp == 0]
    if fsdp == 1 or size < MIN_SHARDED_SIZE or not axes:
        return PartitionSpec()
    largest = max(axes, key=lambda a: (shape[a], a))
    return PartitionSpec(*('fsdp' if a == largest else None for a in range(len(shape))))
