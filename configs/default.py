"""The defaults of every field (their meaning: docs/configuration.md). The other files of this folder change some of
them.

Arguments may follow the file's name: `--config=configs/mars.py:pooling=average,backbone=c3d`, and any field can be set
by its path: `--config.optimizer.learning_rate=1e-3`. `python main.py --help` lists them all.
"""

from ml_collections import ConfigDict

from pvlad_jax import config as project
from pvlad_jax.config.combinations import has_part_masks
from pvlad_jax.core.settings import to_config_dict


def get_config(arguments: str = '') -> ConfigDict:
    return apply_arguments(to_config_dict(project.Config()), arguments)


def apply_arguments(config: ConfigDict, arguments: str) -> ConfigDict:
    """As `pvlad_jax.config.apply_arguments`. An argument without which there are no part masks (pooling=average,
    parts=0) takes a recipe's position term or colour masks with it, and one without several codewords its vlad_norm,
    unless they are an argument too.
    """
    recipe = config.model.to_dict()
    config = project.apply_arguments(config, arguments)
    masks = has_part_masks(config.model.pooling, config.model.parts)
    for field, argument in (('position_term', 'position='), ('colour_masks', 'colour_masks=')):
        if recipe[field] and not masks and argument not in arguments:
            config.model[field] = False
    codewords = config.model.pooling == 'person_vlad' and config.model.clusters > 1
    if recipe['vlad_norm'] != 'codeword' and not codewords and 'vlad_norm=' not in arguments:
        config.model.vlad_norm = 'codeword'
    return config
