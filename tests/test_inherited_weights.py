"""A new run that begins with the weights of another (config.init_from): what is loaded, made anew, ignored and
refused.
"""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import main
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.fingerprint import labels_hash
from pvlad_jax.launch.preemption import StopRequest
from pvlad_jax.parallel.mesh import gather_to_host
from pvlad_jax.runs.experiment import prepare
from pvlad_jax.runs.inherited_weights import inherit, refuse_itself, source_of
from pvlad_jax.runs.trained_model import load_trained
from pvlad_jax.runs.trained_people import check_test_people, entries_of, people_of
from pvlad_jax.runs.training_run import TrainingRun
from tests.helpers.forked_run import start_micro
from tests.helpers.killed_runs import lines, wait_for
from tests.helpers.micro import micro_config, micro_config_dict
from tests.helpers.small_models import IDENTITIES, copied, write_workdir

FIELDS = {'model.bnneck': True}


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """The working directory of a run of 5 people, of random weights."""
    return write_workdir(tmp_path_factory.mktemp('source') / 'run', **FIELDS)


def taken(data_dir, source, workdir=Path('another_run'), **fields):
    """What a new run of these fields takes of the source."""
    experiment = prepare(micro_config(data_dir, **{**FIELDS, 'init_from': str(source), **fields}))
    return inherit(experiment.config, experiment.state_shapes(), workdir)


def equal(tree, other) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: np.array_equal(a, b), tree, other)))


def test_a_run_of_the_same_network_takes_all_but_the_classifier(micro_data, source):
    inherited, old = taken(micro_data, source), load_trained(str(source)).variables
    modules = ('backbone', 'aggregator', 'to_embedding', 'neck')
    assert set(inherited.params) == set(modules) and equal(
        inherited.params, {name: old['params'][name] for name in modules}
    )
    assert equal(inherited.batch_stats, old['batch_stats'])
    assert f'for 6 people; that of {IDENTITIES} people is ignored' in inherited.table
    assert [line.split()[:2] for line in inherited.table.splitlines()[1:]] == [
        ['backbone', 'loaded'],
        ['pooling', 'loaded'],
        ['embedding', 'loaded'],
        ['bnneck', 'loaded'],
        ['classifier', 'made'],
    ]


def test_codewords_and_centring_come_from_the_new_data_where_asked(micro_data, source):
    fields = {**FIELDS, 'init_from': str(source), 'vlad_init.from_data': True, 'optimizer.ema': 0.5}
    experiment = prepare(micro_config(micro_data, **fields))
    inherited, lines = inherit(experiment.config, experiment.state_shapes(), Path('another_run')), []
    state = gather_to_host(experiment.initial_state(lines.append, inherited))
    old = load_trained(str(source)).variables
    for tree in (state.variables(), {'params': state.params, 'batch_stats': state.batch_stats}):
        assert all(equal(tree['params'][name], old['params'][name]) for name in ('backbone', 'to_embedding', 'neck'))
        assert equal(tree['batch_stats'], old['batch_stats'])
    new, before = state.params['aggregator'], old['params']['aggregator']
    assert not equal(new['vlad'], before['vlad']) and 'codewords  made anew' in lines[0] and 'k-means' in lines[1]
    for layer, leaf, kept in (
        ('part_mask', 'kernel', True),
        ('part_descriptor', 'kernel', True),
        ('part_descriptor', 'bias', False),
    ):
        assert np.array_equal(new['part_alignment'][layer][leaf], before['part_alignment'][layer][leaf]) == kept


@pytest.mark.parametrize(
    'fields',
    [
        {'model.pooling': 'average'},
        {'model.parts': 3},
        {'model.clusters': 2},
        {'model.descriptor_dim': 5},
        {'model.position_term': True},
    ],
)
def test_another_pooling_or_size_takes_the_backbone_alone(micro_data, source, fields):
    inherited = taken(micro_data, source, **fields)
    assert set(inherited.params) == set(inherited.batch_stats) == {'backbone'}
    assert 'pooling    made anew  that run has another (person_vlad, or of another size)' in inherited.table
    assert 'bnneck     made anew  what comes before it is another' in inherited.table


def test_what_comes_after_another_embedding_is_made_anew(micro_data, source):
    for fields in ({'model.embedding_dim': 4}, {'model.embedding_by_part': True}):
        assert set(taken(micro_data, source, **fields).params) == {'backbone', 'aggregator'}
    without = taken(micro_data, source, **{'model.bnneck': False})
    assert set(without.params) == {'backbone', 'aggregator', 'to_embedding'}
    assert 'bnneck     ignored    this run has none' in without.table
    larger = taken(micro_data, source, **{'clips.height': 32, 'clips.frames': 6})
    assert (
        'neck' in larger.params
        and '(different, and allowed: clips.frames 4 there, 6 here; clips.height 16 there, 32' in larger.table
    )


def test_what_temporal_kernels_see_beyond_a_clip_may_differ_and_is_named(micro_data, tmp_path):
    r3d = {'model.backbone.name': 'r3d_tiny', 'clips.height': 32, 'clips.width': 16}
    source = write_workdir(tmp_path / 'source', **FIELDS, **r3d)
    table = taken(micro_data, source, **r3d, **{'model.backbone.time_padding': 'continued'}).table
    assert '(different, and allowed: model.backbone.time_padding zero there, continued here)' in table


def test_a_network_that_does_not_fit_is_told(micro_data, source, tmp_path):
    with pytest.raises(UserError, match=r'has the backbone micro, and this run r3d_tiny: .* normalisation of colours'):
        taken(micro_data, source, **{'model.backbone.name': 'r3d_tiny', 'clips.height': 32, 'clips.width': 16})
    with pytest.raises(
        UserError, match=r"backbone of other arrays \(model.backbone.temporal = '3d' there and '2d' here\)"
    ):
        taken(micro_data, source, **{'model.backbone.temporal': '2d'})
    placed = write_workdir(tmp_path / 'placed', **{'model.position_term': True})
    with pytest.raises(UserError, match=r'trained on another input size.*position_term.* there'):
        taken(micro_data, placed, **{'model.bnneck': False, 'model.position_term': True, 'clips.height': 32})
    with pytest.raises(UserError, match=r'both say what the backbone begins with'):
        taken(micro_data, source, **{'model.backbone.weights': 'file.safetensors'})


def test_a_run_that_cannot_be_read_is_told(micro_data, source, tmp_path):
    def refused(folder, says):
        with pytest.raises(UserError, match=says) as error:
            taken(micro_data, folder)
        assert str(error.value).startswith('config.init_from = ')

    refused(tmp_path / 'none', 'There is no working directory')
    refused('https://a/b', 'https:// is no object storage that can be used here')
    (tmp_path / 'empty').mkdir()
    refused(tmp_path / 'empty', r'holds no config\.json')
    half = copied(source, tmp_path / 'half')
    (half / 'checkpoints' / '2').rename(half / 'checkpoints' / '2.orbax-checkpoint-tmp-7')
    refused(half, 'holds no checkpoint')
    damaged = copied(source, tmp_path / 'damaged')
    for path in (damaged / 'checkpoints' / '2' / 'state').rglob('*'):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    refused(damaged, 'damaged')
    refused(f'{source}@3', r'no checkpoint of step 3; there are those of step 2\.')
    refused(f'{source}@best', 'no best one')
    (tmp_path / 'splits' / 'split_0').mkdir(parents=True)
    refused(tmp_path / 'splits', r'a run of all splits\. Name one of them, such as')
    (tmp_path / 'link').symlink_to(source)
    with pytest.raises(UserError, match='is the working directory of this very run'):
        taken(micro_data, tmp_path / 'link', workdir=source)


def test_a_step_may_follow_the_working_directory(source, tmp_path):
    assert source_of(f'{source}@2') == (str(source), '2') and source_of('gs://a/b@best') == ('gs://a/b', 'best')
    named = tmp_path / 'run@2'
    named.mkdir()
    assert source_of(str(named)) == (str(named), None) and source_of(f'{named}@2') == (str(named), '2')
    refuse_itself(micro_config('none', init_from=str(named)), tmp_path / 'run')
    with pytest.raises(UserError, match='of this very run'):
        refuse_itself(micro_config('none', init_from='gs://a/b/@3'), 'gs://a/b')


def test_the_other_run_is_needed_for_a_new_run_only(micro_data, source, tmp_path, monkeypatch):
    """Begun and saved without a step, it resumes without the source."""
    monkeypatch.setattr('pvlad_jax.runs.training_run.compile_ahead', lambda *_: None)
    folder = copied(source, tmp_path / 'source')
    experiment, lines = prepare(micro_config(micro_data, **FIELDS, init_from=f'{folder}@2')), []
    with TrainingRun(experiment, tmp_path / 'run', lines.append, StopRequest()) as run:
        run.save(1, run.state.replace(step=run.state.step + 1))
        begun = gather_to_host(run.state.params)
    old = load_trained(str(source)).variables['params']
    assert all(equal(begun[name], old[name]) for name in old if name != 'classifier')
    said = '\n'.join(lines)
    assert f'Weights of {folder}, step 2:' in said and 'k-means' not in said  # codewords and centring are kept
    people = json.loads((tmp_path / 'run' / 'data.json').read_text())['trained_on']
    assert [(one['data_set'], one['people'], one['inherited']) for one in people] == [
        ('micro', ['1', '2', '3', '4', '5', '6'], False)
    ]
    shutil.rmtree(folder)
    with TrainingRun(experiment, tmp_path / 'run', lines.append, StopRequest()) as run:
        assert run.step == 1 and equal(gather_to_host(run.state.params), begun)
    with pytest.raises(UserError, match='There is no working directory'):
        TrainingRun(experiment, tmp_path / 'new', lines.append, StopRequest())
    assert not (tmp_path / 'new' / 'config.json').exists()


def test_killed_on_eight_devices_it_goes_on_on_one_as_if_uninterrupted(micro_data, tmp_path):
    """Also without the source, which is gone by then."""
    small = {**FIELDS, 'model.pooling': 'average'}  # traced in a third of the time
    folder = write_workdir(tmp_path / 'source', **small)
    fields = {
        **small,
        'init_from': str(folder),
        'training.steps': 4,
        'training.checkpoint_every': 1,
        'training.log_every': 1,
        'training.eval_untrained': False,
        'optimizer.name': 'sgd',  # Adam's first steps make any rounding of a zero visible
    }
    assert main.run(micro_config_dict(micro_data, **fields), tmp_path / 'whole', 'train') == 0  # eight devices
    killed = start_micro(micro_data, tmp_path / 'run', '--step_seconds', '1', fields=fields, devices=8)
    wait_for(lambda: [*(tmp_path / 'run' / 'checkpoints').glob('[0-9]')], killed, seconds=300)
    killed.kill()
    killed.wait()
    shutil.rmtree(folder)
    resumed = start_micro(micro_data, tmp_path / 'run', fields=fields, devices=1)
    said, wrong = resumed.communicate(timeout=300)
    assert resumed.returncode == 0 and 'Resuming' in said, (said, wrong)
    whole, again = (lines(tmp_path / name) for name in ('whole', 'run'))
    assert [line['step'] for line in again] == [1, 2, 3, 4]
    np.testing.assert_allclose([x['loss'] for x in again], [x['loss'] for x in whole], rtol=1e-4)


def test_test_people_of_whom_the_other_run_was_trained_on_are_counted(micro_data, source, tmp_path, capfd):
    """A former version's run, which names nobody, on the data set that is asked about; and one that names people of its
    own.
    """
    dataset = prepare(micro_config(micro_data)).dataset
    former = {'fingerprint': {'labels': labels_hash(dataset.tables, dataset.metadata)}}
    assert [one['people'] for one in entries_of(former, micro_config(micro_data), dataset)] == [
        ['1', '2', '3', '4', '5', '6']
    ]
    assert entries_of({'fingerprint': {'labels': 'of another'}}, micro_config(micro_data), dataset) == []
    folder = copied(source, tmp_path / 'source')
    people = {'data_set': 'micro', 'labels': 'of a smaller one', 'people': ['1', '8', '9'], 'inherited': False}
    (folder / 'data.json').write_text(json.dumps({'trained_on': [people]}))
    config = micro_config_dict(micro_data, **FIELDS, init_from=str(folder))
    assert main.run(config, tmp_path / 'run', 'train') == 2
    said = capfd.readouterr().err
    assert "2 of the 4 people of the test set of 'micro' (test) are trained on" in said and '8, 9.' in said
    assert '--config.evaluation.trained_people=accept' in said and not (tmp_path / 'run' / 'data.json').exists()
    roles = prepare(micro_config(micro_data)).partition
    accepting = micro_config(micro_data, **{'evaluation.trained_people': 'accept'})
    assert check_test_people(accepting, dataset, roles, [people]).trained_people == 2
    renamed = {**people, 'data_set': 'mini', 'labels': labels_hash(dataset.tables, dataset.metadata)}
    assert check_test_people(accepting, dataset, roles, [renamed]).trained_people == 2
    elsewhere = {**people, 'data_set': 'mini'}
    assert check_test_people(micro_config(micro_data), dataset, roles, [elsewhere]).trained_people == 0


def test_distractors_and_junk_are_nobody(micro_data):
    train = prepare(micro_config(micro_data)).partition.train
    ids = np.select([train.person_id == 1, train.person_id == 2], [0, -1], train.person_id)
    assert people_of(dataclasses.replace(train, person_id=ids)) == ['3', '4', '5', '6']
