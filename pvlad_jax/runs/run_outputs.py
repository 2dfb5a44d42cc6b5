"""What an evaluation of a run leaves, of one data set or of several that were joined."""

import json

import jax

from pvlad_jax.core.files import write_text
from pvlad_jax.evaluation.side_by_side import print_side_by_side
from pvlad_jax.parallel.mesh import gather_to_host
from pvlad_jax.runs.experiment import Experiment
from pvlad_jax.runs.joined_evaluator import AnyScored, JoinedScored
from pvlad_jax.runs.outputs import Log, draw, report, write_scored
from pvlad_jax.runs.workdir import Folder


def report_run(experiment: Experiment, workdir: Folder, variables: dict, scored: AnyScored, log: Log) -> None:
    """As `outputs.report`. Of joined data sets: of each eval/NAME.json, embeddings/NAME/ and pictures in eval/NAME/;
    the mean in eval/latest.json and step_N.json, with the results themselves; then one table of all.
    """
    if not isinstance(scored, JoinedScored):
        report(experiment, workdir, variables, scored, log)
        return
    variables = gather_to_host(variables)  # all processes must take part in gathering
    if jax.process_index() != 0:
        return
    mean = scored.result.to_json()
    try:
        for name, one in scored.each.items():
            write_scored(workdir, one, [name], name)
        for file in (f'step_{mean["step"]}', 'latest'):
            write_text(workdir / 'eval' / f'{file}.json', json.dumps(mean, indent=2, allow_nan=False) + '\n')
    finally:  # printed where it cannot be written, too
        print_side_by_side(mean['data_sets'], mean=mean)
    for name, one in scored.each.items():
        draw(experiment.parts[name], workdir, variables, one, log, name)
