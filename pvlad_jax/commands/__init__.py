"""Subcommands of `python -m pvlad_jax`, a file each: arguments in, library called."""
