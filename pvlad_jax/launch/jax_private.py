"""The names of JAX that are not public and that nothing public replaces, in one place; tests/test_jax_private.py looks
for them.

Process number and count must be known before devices are asked for, and the coordination service's store of keys
carries messages between processes that no longer run in step. JAX's own checkpoint library takes both from here too.
"""

from typing import Any


def coordination_client() -> Any:
    """The client of the coordination service (`key_value_set`, `blocking_key_value_get`, `key_value_dir_get`); None in
    a single process.
    """
    return _global_state().client


def process_number() -> int:
    return _global_state().process_id or 0


def process_count() -> int:
    """1 where processes were not joined."""
    return _global_state().num_processes or 1


def on_tpu_machine() -> bool:
    """As JAX itself finds out, on virtual machines and in GKE: TPU chips on the PCI bus, and libtpu installed."""
    from jax._src import cloud_tpu_init

    return cloud_tpu_init.running_in_cloud_tpu_vm


def _global_state() -> Any:
    from jax._src import distributed

    return distributed.global_state
