"""Functions on arrays, without parameters."""

from pvlad_jax.ops.cpu.threads import set_planned_threads
from pvlad_jax.ops.cpu.vectors import vector_options

__all__ = ['set_planned_threads', 'vector_options']
