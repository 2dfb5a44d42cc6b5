"""Runs of an ablation that have ended: their results as they were then, whatever is evaluated there later."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Required, TypedDict

import msgspec

from benchmarks.comparison import Results
from benchmarks.twins import twins
from pvlad_jax.core.files import atomic_write
from pvlad_jax.core.saved_files import Finite, Int64, json_object, reading

ENDED = 'ended.json'  # in a run's folder
# Fields of a result that say what it was measured by.
CONDITIONS = {
    'dataset': 'data set',
    'split': 'split',
    'protocol': 'protocol',
    'frames': 'frames',
    'distance': 'distance',
    'rerank': 're-ranking',
    'unknown_cameras': 'unknown cameras',
    'checkpoint': 'checkpoint',
    'step': 'step',
}


class _Result(TypedDict, total=False):
    rank_1: Required[Finite]
    mAP: Required[Finite]
    nearest_is_twin: Finite
    before_twin: Finite
    dataset: str
    split: str
    protocol: str
    frames: str
    distance: str
    rerank: bool
    unknown_cameras: str
    checkpoint: str
    step: Int64 | None


class _Ended(TypedDict):
    asked: list[str]
    result: _Result


def latest_result(workdir: Path) -> dict:
    """rank_1, mAP ... of the run's last evaluation, and what they were measured by. UserError where a file is missing
    or damaged.
    """
    config, latest = workdir / 'config.json', workdir / 'eval' / 'latest.json'
    with reading(config, 'Restore it from a copy.'):
        options = msgspec.convert(json_object(config.read_bytes()).get('dataset.build_options', {}), dict)
    with reading(latest, f'Evaluate the run again: python main.py --mode=eval --workdir={workdir}'):
        result = msgspec.convert(json_object(latest.read_bytes()), _Result)
    return result | (twins(workdir) if options.get('twins') else {})


def keep_result(workdir: Path, asked: Sequence[str]) -> dict:
    """The result of a run that has just ended, which is kept as that of these flags."""
    result = latest_result(workdir)
    with atomic_write(workdir / ENDED) as partial:
        partial.write_text(json.dumps({'asked': list(asked), 'result': result}) + '\n')
    return result


def kept_result(workdir: Path, asked: Sequence[str]) -> dict | None:
    """The result of a run that has ended with these flags; None where it has not, or where nothing readable says so."""
    try:
        ended = msgspec.json.decode((workdir / ENDED).read_bytes(), type=_Ended | list[str])
    except (OSError, ValueError):
        return None
    if isinstance(ended, list):  # former versions kept no result
        return latest_result(workdir) if ended == list(asked) else None
    return ended['result'] if ended['asked'] == list(asked) else None


def not_alike(results: Mapping[str, Results]) -> str:
    """What choices were measured by where that is not the same in all runs, such as 'frames all (3D), first:1 (2D seed
    0)'; '' where it is.

    Args:
      results: of each choice, as `latest_result` gives them.
    """
    found = []
    for field, said in CONDITIONS.items():
        of = {
            name: {seed: _condition(result, field) for seed, result in runs.items()} for name, runs in results.items()
        }
        values = dict.fromkeys(value for runs in of.values() for value in runs.values() if value)
        if len(values) > 1:
            found.append(f'{said} ' + ', '.join(f'{value} ({", ".join(_with(of, value))})' for value in values))
    return '; '.join(found)


def _condition(result: Mapping, field: str) -> str:
    """'' where the result does not say it. The best checkpoint is one of any step."""
    chosen, value = result.get('checkpoint', '').partition(' ')[0], result.get(field)
    if value is None or (field == 'step' and chosen == 'best'):
        return ''
    if field == 'checkpoint':  # 'best' is followed by its score
        return chosen
    return {True: 'on', False: 'off'}[value] if field == 'rerank' else str(value)


def _with(of: Mapping[str, Mapping[int, str]], value: str) -> list[str]:
    """The choices whose condition has this value, with the seeds where it is not all of them."""
    named = []
    for name, runs in of.items():
        if seeds := [str(seed) for seed, own in sorted(runs.items()) if own == value]:
            named.append(name if len(seeds) == len(runs) else f'{name} seed {", ".join(seeds)}')
    return named
