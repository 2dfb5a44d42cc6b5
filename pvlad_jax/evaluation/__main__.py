"""Scores embedding files: python -m pvlad_jax.evaluation --query=q.npz --gallery=g.npz --protocol=mars_official
--output=result.json
"""

import argparse
import sys

from pvlad_jax.core import terminal
from pvlad_jax.core.environment_errors import environment_error
from pvlad_jax.core.errors import EXIT_USER_ERROR, UserError
from pvlad_jax.core.files import check_output_file
from pvlad_jax.core.library_messages import quiet_libraries
from pvlad_jax.core.paths import remote_or_user_path
from pvlad_jax.evaluation.distances import DISTANCES
from pvlad_jax.evaluation.embeddings import FIELDS, read_embeddings
from pvlad_jax.evaluation.metric_learning import LEARNED
from pvlad_jax.evaluation.protocols import PROTOCOLS, UNKNOWN_CAMERAS, default_protocol
from pvlad_jax.evaluation.result import print_table, write_result
from pvlad_jax.evaluation.scoring import score


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m pvlad_jax.evaluation',
        allow_abbrev=False,
        description=f'Scores embeddings. Files are .npz with the fields {", ".join(FIELDS)}.',
    )
    parser.add_argument('--query', required=True, help='embeddings of the queries')
    parser.add_argument(
        '--gallery', required=True, help='embeddings of the gallery, with or without the queries (tracklet names tell)'
    )
    parser.add_argument(
        '--protocol',
        default='',
        choices=PROTOCOLS,
        help='default: mars_official, or all_but_query where no camera is known',
    )
    parser.add_argument('--distance', default='cosine', choices=DISTANCES)
    parser.add_argument(
        '--train', help='embeddings of the training set, for the learned distances xqda, kissme and xqda_shrunk'
    )
    parser.add_argument('--rerank', action='store_true', help='k-reciprocal re-ranking')
    parser.add_argument(
        '--unknown_cameras',
        default='refuse',
        choices=UNKNOWN_CAMERAS,
        help='camera -1: an error where it matters, a camera of its own, or ignored',
    )
    parser.add_argument('--output', help='JSON file for the result')
    stated = parser.add_argument_group('said in the result', 'what the files do not tell')
    stated.add_argument('--dataset', default='')
    stated.add_argument('--split', default='')
    stated.add_argument('--step', type=int)
    stated.add_argument('--frames', default='', help='which frames were embedded, such as all or even:8')
    stated.add_argument('--convention', default='', help='such as which half of a split is test')
    stated.add_argument('--partial', action='store_true', help='the data set lacks something')
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Scores the files that the arguments name (those of the process by default), and returns the exit code."""
    options = vars(_parser().parse_args(arguments))
    output = options.pop('output')
    quiet_libraries()
    try:
        paths = {name: options.pop(name) for name in ('query', 'gallery', 'train')}
        if paths['train'] and options['distance'] not in LEARNED:
            raise UserError(
                f'--train is for distances that are learned ({", ".join(LEARNED)}), and --distance is '
                f'{options["distance"]}. Leave --train out, or give one of those.'
            )
        paths = {name: path and remote_or_user_path(path) for name, path in paths.items()}
        if output:
            output = remote_or_user_path(output)
            check_output_file(output, {f'--{name}': path for name, path in paths.items()})
        tables = {name: read_embeddings(path) if path else None for name, path in paths.items()}
        options['protocol'] = options['protocol'] or default_protocol(
            tables['query'], tables['gallery'], options['unknown_cameras']
        )
        result = score(**tables, **options)
        try:
            if output:
                write_result(output, result)
        finally:  # printed where it cannot be written, too
            console = terminal.console()
            print_table(result, console)
        if not (output or console.file.written):
            raise UserError(
                'The result could not be printed, and no --output was given: it is lost. Give --output=result.json.'
            )
    except UserError as error:
        terminal.complain(f'error: {error}')
        return EXIT_USER_ERROR
    except Exception as error:
        if not (reason := environment_error(error)):
            raise
        terminal.complain(f'error: {reason}')
        return EXIT_USER_ERROR
    return 0


if __name__ == '__main__':
    sys.exit(main())
