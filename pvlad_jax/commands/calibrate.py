"""python -m pvlad_jax calibrate"""

import argparse

from pvlad_jax.commands.arguments import Parser, disk_path, natural, output_file, positive
from pvlad_jax.core import terminal
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.files import check_output_file
from pvlad_jax.core.paths import is_remote, user_path
from pvlad_jax.core.progress import progress

DESCRIPTION = """Finds the distance up to which two tracklets count as the same person, for a rate of false accepts.

example:
  python -m pvlad_jax calibrate --query=q.npz --gallery=g.npz --false_accept_rate=0.01 --output=threshold.json
  python -m pvlad_jax gallery search --gallery=street --input=query.parquet --threshold=threshold.json

The files are labelled embeddings (as of an evaluation) of people whom the model was not trained on. Intervals are 95 %
bootstraps over people. docs/search.md says what the rates are shares of."""


def add_arguments(parser: Parser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument('--query', required=True, type=disk_path, help='.npz with labels')
    parser.add_argument('--gallery', required=True, type=disk_path, help='.npz with labels; may be the same file')
    parser.add_argument('--false_accept_rate', type=float, default=0.01, help='default 0.01')
    parser.add_argument(
        '--per',
        default='pair',
        choices=('pair', 'search'),
        help='what the rate is a share of: pairs of two people (default), or searches for somebody who '
        'is not in the gallery',
    )
    parser.add_argument(
        '--nobody_miss_rate',
        type=float,
        default=0.05,
        help='share of the searches for people in the gallery that may end in "nobody here" (default 0.05)',
    )
    parser.add_argument('--model', default='', help='working directory or export of the model, or its fingerprint')
    parser.add_argument(
        '--output', type=output_file(), help='default: threshold.json in the working directory that --model names'
    )
    parser.add_argument('--curves', type=output_file('.png'), help='.png for ROC and DET')
    parser.add_argument(
        '--unknown_cameras',
        default='refuse',
        choices=('refuse', 'other', 'ignore'),
        help='camera -1: an error where it matters, a camera of its own, or ignored',
    )
    parser.add_argument('--resamples', type=positive, default=1000, help='of the bootstrap (default 1000)')
    parser.add_argument('--seed', type=natural, default=0, help='of the bootstrap')


def run(options: argparse.Namespace) -> None:
    from pvlad_jax.commands.model_fingerprint import fingerprint_of

    output = options.output
    if output is None:
        if not options.model or is_remote(options.model) or not user_path(options.model).is_dir():
            raise UserError(
                'Say where to write it: --output=threshold.json, or --model=WORKDIR for WORKDIR/threshold.json.'
            )
        output = user_path(options.model) / 'threshold.json'
    check_output_file(output, {'--query': options.query, '--gallery': options.gallery})
    model = fingerprint_of(options.model)
    from pvlad_jax.evaluation.calibration import calibrate
    from pvlad_jax.evaluation.embeddings import read_embeddings
    from pvlad_jax.evaluation.threshold import write_calibration

    if options.curves:
        from pvlad_jax.report.error_curves import draw_curves  # which says now what to install
    query, gallery = read_embeddings(options.query), read_embeddings(options.gallery)
    with progress('queries and resamples', len(query) + options.resamples) as done:
        calibration = calibrate(
            query,
            gallery,
            options.false_accept_rate,
            per=options.per,
            nobody_miss_rate=options.nobody_miss_rate,
            model=model,
            unknown_cameras=options.unknown_cameras,
            resamples=options.resamples,
            seed=options.seed,
            done=done,
        )
    write_calibration(output, calibration)
    for line in summary(calibration):
        terminal.say(line)
    for warning in calibration.warnings:
        terminal.complain(f'Note: {warning}')
    if options.curves:
        draw_curves(options.curves, calibration)
        terminal.say(f'ROC and DET: {options.curves}')
    terminal.say(f'Written to {output}.')


def summary(calibration) -> list[str]:
    """What a person wants to know of a `threshold.Calibration`, a line each."""

    def rate(estimate) -> str:
        return f'{100 * estimate.value:.2f} % ({100 * estimate.low:.2f} to {100 * estimate.high:.2f})'

    c, found = calibration, calibration.open_set
    what = 'pairs of two people' if c.per == 'pair' else 'searches for somebody who is not there'
    return [
        f'{c.queries:,} queries of {c.people:,} people, gallery of {c.gallery:,}; {c.pairs_of_one_person:,} pairs of '
        f'one person, {c.pairs_of_two_people:,} of two.',
        f'same: distance up to {c.same.value:.4f} ({c.same.low:.4f} to {c.same.high:.4f}), for {c.false_accept_rate:g} '
        f'of {what}',
        f'  false accepts {rate(c.false_accepts)} of {what}; misses {rate(c.misses)} of pairs of one person',
        f'nobody here: nearest distance above {c.nobody:.4f}; in between: not sure',
        f'  searches for people who are not there: nobody {rate(found["absent_nobody"])}, wrongly same '
        f'{rate(found["absent_same"])}',
        f'  searches for people who are there: same {rate(found["present_same"])}, same but somebody else '
        f'{rate(found["present_wrong_person"])}, wrongly nobody {rate(found["present_nobody"])}',
    ]
