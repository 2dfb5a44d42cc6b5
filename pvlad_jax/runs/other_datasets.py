"""A trained network scored on data sets that it was not trained on (config.evaluation.dataset). Of the run only its
working directory is needed; the data set that it was trained on need not be there."""

import time

import jax
import msgspec

from pvlad_jax.config import Config
from pvlad_jax.config.data_set_names import is_folder_name, is_join, names_run_result, without_blanks
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.saved_files import json_object
from pvlad_jax.data.partition import partition, split_names
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from pvlad_jax.evaluation import Result
from pvlad_jax.evaluation.result import PartialResult
from pvlad_jax.evaluation.side_by_side import print_side_by_side
from pvlad_jax.runs.evaluator import EvaluationFailed, Evaluator
from pvlad_jax.runs.experiment import NetworkOnData
from pvlad_jax.runs.outputs import Log, report
from pvlad_jax.runs.preflight import check_test_labels
from pvlad_jax.runs.run_data import saved_data
from pvlad_jax.runs.trained_model import TrainedModel, load_trained
from pvlad_jax.runs.trained_people import check_test_people, entries_of
from pvlad_jax.runs.workdir import Folder


def evaluate_others(config: Config, workdir: Folder, log: Log, output: Folder) -> dict[str, Result]:
    """Scores the network that config.evaluation.checkpoint says on each data set of config.evaluation.dataset, in turn.

    OUTPUT/eval/NAME.json, embeddings/NAME/ and pictures in eval/NAME/; eval/latest.json stays that of the run's own
    data set. Then a table of all of them.

    Raises:
      UserError: before anything is embedded: a name twice, no such data set or split, labels that the protocol cannot
        score, test people who were trained on.
      EvaluationFailed: a tracklet that cannot be decoded; results of the data sets before are written.
    """
    names = _names(config.evaluation.dataset)
    model = load_trained(workdir, config.evaluation.checkpoint)
    tests = {name: _opened(config, workdir, model, name) for name in names}
    log(f'{model.checkpoint}, on {", ".join(names)}.')
    results = {}
    for name, test in tests.items():
        began = time.monotonic()
        try:
            scored = Evaluator(test, log)(model.variables, model.step).of(model.chosen)
        except UserError as error:
            raise EvaluationFailed(f'The evaluation on {name!r} failed: {error}') from error
        log(
            f'{name}: embedded {len(scored.query) + len(scored.gallery)} tracklets in {time.monotonic() - began:.1f} s.'
        )
        report(test, output, model.variables, scored, log, name)
        results[name] = scored.result
    if jax.process_index() == 0:
        print_side_by_side({**_own(workdir), **{name: result.to_json() for name, result in results.items()}})
    return results


def _names(given: str) -> list[str]:
    names = [without_blanks(name) for name in given.split(',')]
    said = f'config.evaluation.dataset = {given!r}'
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f'{said}: names of data sets by commas, each once, such as mars,prid2011@3.')
    if joins := [name for name in names if is_join(name)]:
        raise UserError(f'{said}: {joins[0]!r} joins data sets, which is for training. Separate them by commas here.')
    if paths := [name for name in names if not is_folder_name(name.partition('@')[0]) or '/' in name]:
        raise UserError(f'{said}: {paths[0]!r} is no name of a folder in config.dataset.data_dir.')
    if taken := [name for name in names if names_run_result(name)]:
        raise UserError(
            f'{said}: results would overwrite eval/{taken[0]}.json of the run itself. Build the data set under another '
            'name.'
        )
    return names


def _opened(config: Config, workdir: Folder, model: TrainedModel, name: str) -> NetworkOnData:
    """The data set NAME[@SPLIT], checked."""
    data_set, at, split = name.partition('@')
    dataset = TrackletDataset.open(config.dataset.data_dir, data_set)
    if at and split not in split_names(dataset):
        raise UserError(
            f'config.evaluation.dataset names {name!r}: data set {data_set!r} has the splits '
            f'{", ".join(split_names(dataset))}.'
        )
    roles = partition(dataset, split if at else '0')
    check_test_labels(config, roles)
    roles = check_test_people(config, dataset, roles, entries_of(saved_data(workdir), model.config, dataset))
    return NetworkOnData(config, dataset, roles, model.network)


def _own(workdir: Folder) -> dict[str, dict]:
    """The results that the run has on its own data set, or on those that it joins, for the table; {} where there are
    none.
    """
    try:
        result = json_object((workdir / 'eval' / 'latest.json').read_bytes())
        each = result.get('data_sets') or {msgspec.convert(result.get('dataset'), str): result}
        return {f'{name} (its own)': one for name, one in msgspec.convert(each, dict[str, PartialResult]).items()}
    except (OSError, ValueError):
        return {}
