"""The names of JAX that are not public exist in this version of it: a newer one that lacks them is to fail here, not in
a run.
"""

import jax

from pvlad_jax.launch import jax_private


def test_names_exist_and_a_single_process_is_the_first_of_one():
    assert jax_private.coordination_client() is None and not jax.distributed.is_initialized()
    assert jax_private.process_number() == 0 == jax.process_index()
    assert jax_private.process_count() == 1 == jax.process_count()
    assert jax_private.on_tpu_machine() is False


def test_the_store_of_keys_has_the_methods_that_are_called():
    from jaxlib import _jax

    client = _jax.DistributedRuntimeClient
    assert all(hasattr(client, name) for name in ('key_value_set', 'blocking_key_value_get', 'key_value_dir_get'))
