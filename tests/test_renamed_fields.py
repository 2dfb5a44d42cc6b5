"""A renamed field is refused with its new name, and read in the working directories of earlier versions."""

import json
import pickle

import pytest

from configs.default import get_config
from pvlad_jax.config import Config, flatten, freeze
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.settings import describe, renamed_fields, with_first_names, working_former_names
from pvlad_jax.launch.flags import _unknown_field, given_fields
from pvlad_jax.runs import workdir

FIELDS = {
    'batch.together': ('batch.group_size', 2),
    'vlad_init.centred': ('vlad_init.centre_descriptors', False),
    'training.head_steps': ('training.frozen_backbone_steps', 7),
}
WORKING = {  # former names that still set the field
    'batch.people': ('batch.identities', 12),
    'model.words': ('model.clusters', 5),
    'model.descriptor': ('model.descriptor_dim', 24),
    'model.embedding': ('model.embedding_dim', 40),
    'vlad_init.descriptors': ('vlad_init.max_descriptors', 300),
}
BATCH_NORM = 'model.backbone.batch_norm'


def test_present_names_are_fields():
    paths = {d.path for d in describe(Config)}
    assert renamed_fields(Config) == {former: present for former, (present, _) in (FIELDS | WORKING).items()}
    assert working_former_names(Config) == {former: present for former, (present, _) in WORKING.items()}
    assert set(renamed_fields(Config).values()) <= paths and not set(renamed_fields(Config)) & paths


@pytest.mark.parametrize('former', FIELDS)
def test_former_names_are_refused_with_the_new_one(former):
    present, value = FIELDS[former]
    section, _, name = former.partition('.')
    config = get_config()
    with config.unlocked():
        config[section][name] = value
    with pytest.raises(UserError, match=f'config.{former} is now called config.{present}'):
        freeze(config)
    for field in (former, name):  # from the command line, and from a locked configuration
        assert f"'{former}' is now called '{present}'" in _unknown_field(name, [f'--config.{field}={value}'], Config)


@pytest.mark.parametrize(('former', 'present'), [('live', 'sync'), ('device', 'local')])
def test_former_values_are_refused_with_the_new_one(former, present):
    config = get_config()
    config.model.backbone.batch_norm = former
    with pytest.raises(UserError, match=f"{BATCH_NORM} = '{former}' is now called '{present}'"):
        freeze(config)


def test_a_run_of_an_earlier_version_is_read_and_resumed(tmp_path):
    config = get_config()
    config.batch.identities = 8
    for present, value in (FIELDS | WORKING).values():
        section, _, name = present.partition('.')
        config[section][name] = value
    config.model.backbone.batch_norm = 'local'
    config = freeze(config)
    former = {present: path for path, (present, _) in (FIELDS | WORKING).items()}
    saved = {former.get(path, path): value for path, value in flatten(config).items()} | {BATCH_NORM: 'device'}
    assert set(FIELDS) < set(saved)
    (tmp_path / workdir.CONFIG).write_text(json.dumps(saved))
    workdir.check_config(tmp_path, config)
    assert workdir.saved_config(tmp_path) == config
    with pytest.raises(UserError, match=r'training\.frozen_backbone_steps: 7 before, 0 now'):
        workdir.check_config(tmp_path, freeze(get_config()))


@pytest.mark.parametrize('former', WORKING)
def test_a_former_name_that_works_sets_the_field(former):
    present, value = WORKING[former]
    section, _, name = former.partition('.')
    present_name = present.partition('.')[2]
    for set_by, read_by in ((name, present_name), (present_name, name)):
        config = pickle.loads(pickle.dumps(get_config().copy_and_resolve_references()))
        setattr(config[section], set_by, value)  # as a configuration file does; the fields are locked
        assert config[section][read_by] == value
        assert config[section].get_type(set_by) is int and name not in dict(config[section])
        assert flatten(freeze(config))[present] == value and former not in flatten(freeze(config))
    assert given_fields([f'--config.{former}={value}'], Config) == [present]


def test_a_former_short_name_is_refused_with_the_new_one():
    with pytest.raises(ValueError, match='words is now called clusters'):
        get_config('words=8')


def test_a_renamed_field_leaves_the_fingerprint_of_a_model_as_it_was():
    present = flatten(freeze(get_config()))
    assert with_first_names(Config, present).keys() - present.keys() == FIELDS.keys() | WORKING.keys()
