"""Functions on arrays, without parameters."""

from pvlad_jax.ops.cpu.threads import set_planned_threads

__all__ = ['set_planned_threads']
