"""The defaults of every field (their meaning: docs/configuration.md). The other files of this folder change some of
them.

Arguments may follow the file's name: `--config=configs/mars.py:pooling=average,backbone=c3d`, and any field can be set
by its path: `--config.optimizer.learning_rate=1e-3`. `python main.py --help` lists them all.
"""

from ml_collections import ConfigDict

from pvlad_jax.config import Config, apply_arguments
from pvlad_jax.core.settings import to_config_dict


def get_config(arguments: str = '') -> ConfigDict:
    return apply_arguments(to_config_dict(Config()), arguments)
