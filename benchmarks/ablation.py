r"""Choices against each other over several seeds and data sets: one run of main.py each, one table a data set.

    python benchmarks/ablation.py --config=configs/synthetic.py:twins --workdir=runs/twins --output=twins.json \
        '3D PersonVLAD=' '2D PersonVLAD=temporal=2d' '3D average=pooling=average'

A choice is NAME=ARGUMENTS: what follows a configuration's name (README, Configuration), flags of main.py, or both:
'long=steps=900 --config.optimizer.ema=0.99'. `@FILE` reads choices from a file, one a line. Flags of main.py that all
runs share follow `--`. A run that has ended is not made again, and one that was stopped resumes. A run that fails is
named; the others go on, and the table leaves it out. Differences are to the first choice, or --baseline=NAME, within
each seed. A result is that of the run's end, whatever is evaluated in its folder later; runs that were measured
differently (protocol, frames, distance ...) are named above the table. Compiled programs are shared
(WORKDIR/.compile_cache): a choice is compiled for its first seed alone, unless --at_once starts another one beside it.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.comparison import compare, markdown, show
from benchmarks.ended_runs import keep_result, kept_result, not_alike
from benchmarks.rows import new_file, own_path, write
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.program_errors import run_program
from pvlad_jax.core.terminal import complain

MAIN = Path(__file__).resolve().parents[1] / 'main.py'


def parse_choices(given: Sequence[str]) -> dict[str, tuple[str, list[str]]]:
    """'NAME=ARGUMENTS' each -> {name: (arguments of the configuration, flags)}. UserError for one that is none, or two
    of one folder."""
    choices: dict[str, tuple[str, list[str]]] = {}
    for text in filter(str.strip, given):
        name, is_choice, arguments = text.partition('=')
        try:
            words = shlex.split(arguments)
        except ValueError as error:
            raise UserError(f'The choice {text!r}: {error}.') from error
        short = [word for word in words if not word.startswith('--')]
        if not is_choice or not folder_name(name).strip('_') or len(short) > 1:
            raise UserError(
                f'The choice {text!r} is not NAME=ARGUMENTS, with arguments joined by commas and flags that begin '
                'with --.'
            )
        if folder_name(name) in map(folder_name, choices):
            raise UserError(f'The choice {name!r} has the folder of another one: {folder_name(name)}. Rename it.')
        choices[name] = (','.join(short), [word for word in words if word.startswith('--')])
    if not choices:
        raise UserError('There is no choice. Give NAME=ARGUMENTS, such as average=pooling=average.')
    return choices


def names_of(listed: str) -> list[str]:
    """The names in 'a, b'; none in ''."""
    return [name.strip() for name in listed.split(',')] if listed else []


def folder_name(name: str) -> str:
    return re.sub(r'\W+', '_', name).lower()


def result(config: str, arguments: str, seed: int, workdir: Path, flags: Sequence[str], programs: Path) -> dict:
    """Makes the run where it has not ended, and returns its result. UserError with the reason of a run that fails.

    programs: the folder of compiled programs, unless flags name another one.
    """
    file, _, given = config.partition(':')
    together = ','.join(filter(None, (given, arguments, f'seed={seed}')))
    asked = [f'--config={file}:{together}', '--config.evaluation.strips=0', *flags]
    # With these flags; with others, main.py compares the configurations and says what differs.
    kept = kept_result(workdir, asked)
    if kept is not None:
        return kept
    shared = f'--config.compile_cache={programs}'
    command = [sys.executable, str(MAIN), f'--workdir={workdir}', asked[0], shared, *asked[1:]]
    run_program(command, f'The run in {workdir}')
    return keep_result(workdir, asked)


def run_all(
    options: argparse.Namespace, choices: dict[str, tuple[str, list[str]]], seeds: Sequence[int], flags: Sequence[str]
) -> tuple[dict[str, dict[str, dict[int, dict]]], int]:
    """({data set: {choice: {seed: result}}}, how many runs failed). The data set '' is the configuration's own."""
    datasets = names_of(options.datasets) or ['']
    programs = options.workdir / '.compile_cache'  # no name of a choice or data set begins so
    results: dict = {dataset: {name: {} for name in choices} for dataset in datasets}
    failed = 0
    with ThreadPoolExecutor(options.at_once) as pool:
        made = {}
        for seed in seeds:  # each seed is complete before the next begins
            for dataset in datasets:
                of_dataset = [f'--config.dataset.name={dataset}'] if dataset else []
                for name, (arguments, own) in choices.items():
                    workdir = options.workdir / dataset / folder_name(name) / f'seed{seed}'
                    made[dataset, name, seed] = pool.submit(
                        result, options.config, arguments, seed, workdir, [*of_dataset, *own, *flags], programs
                    )
        for (dataset, name, seed), future in made.items():
            try:
                results[dataset][name][seed] = future.result()
            except UserError as error:
                complain(str(error))
                failed += 1
    return results, failed


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, fromfile_prefix_chars='@'
    )
    parser.add_argument('--config', required=True, help='FILE or FILE:ARGUMENTS, what all choices share')
    parser.add_argument(
        '--workdir', required=True, type=own_path, help='the runs go into WORKDIR/[DATASET/]CHOICE/seedN'
    )
    parser.add_argument('--seeds', default='0,1,2')
    parser.add_argument(
        '--datasets', default='', help="names by commas, each its own table; empty = the configuration's"
    )
    parser.add_argument('--baseline', default='', help='the choice that others are compared with; the first')
    parser.add_argument('--at_once', type=int, default=1, help='runs side by side')
    parser.add_argument('--output', type=new_file, help='JSON file for the rows')
    parser.add_argument('--markdown', type=new_file, help='file for the tables, for a document')
    parser.add_argument('choices', nargs='+', metavar='NAME=ARGUMENTS')
    options = parser.parse_args(arguments)
    if not re.fullmatch(r'\d+(,\d+)*', options.seeds):
        parser.error(f'--seeds={options.seeds}: whole numbers by commas, such as 0,1,2.')
    datasets = names_of(options.datasets)
    if not all(map(re.compile(r'[^/\\.,][^/\\,]*').fullmatch, datasets)) or len(set(datasets)) < len(datasets):
        parser.error(f'--datasets={options.datasets}: names of data sets by commas, each once.')
    if options.at_once < 1:
        parser.error(f'--at_once={options.at_once}: at least 1.')
    return options


def main() -> int:
    end = sys.argv.index('--') if '--' in sys.argv else len(sys.argv)
    options, flags = parse_options(sys.argv[1:end]), sys.argv[end + 1 :]
    try:
        choices = parse_choices(options.choices)
        baseline = options.baseline or next(iter(choices))
        if baseline not in choices:
            raise UserError(f'--baseline={baseline} is none of the choices: {", ".join(choices)}.')
    except UserError as error:
        complain(str(error))
        return 2
    seeds = sorted({int(s) for s in options.seeds.split(',')})
    results, failed = run_all(options, choices, seeds, flags)
    rows, tables = [], []
    for dataset, of_choices in results.items():
        compared = compare(of_choices, baseline)
        rows += [{'dataset': dataset, **row} if dataset else row for row in compared]
        if not any(row['seeds'] for row in compared):  # every run has failed, as was said
            continue
        title = (
            f'{options.config}{", " if dataset else ""}{dataset}, {len(seeds)} seeds: mean ± standard deviation (each)'
        )
        title += f'; - {baseline}: difference [95 % interval] seeds above 0' if len(choices) > 1 else ''
        differing = not_alike(of_choices)
        title += f'; NOT MEASURED ALIKE: {differing}' if differing else ''
        tables.append(markdown(compared, baseline, title))
        show(compared, baseline, title)
    if options.output:
        write(options.output, rows)
    if options.markdown:
        options.markdown.write_text('\n'.join(tables))
    return 1 if failed else 0


if __name__ == '__main__':
    with one_sentence():
        sys.exit(main())
