"""Every field of a configuration, once: default, meaning with unit and source, and what it may be.

`configs/default.py`, --help, docs/configuration.md and the checks of `freeze` are derived from these files. Names of
backbones, poolings, protocols and distances are those of their registries, which refuse an unknown one.
"""
