"""Scores embedding files: python -m pvlad_jax.evaluation --query=q.npz --gallery=g.npz --protocol=mars_official --output=result.json"""

import argparse
import sys

from pvlad_jax.errors import EXIT_USER_ERROR, UserError
from pvlad_jax.evaluation.distances import DISTANCES
from pvlad_jax.evaluation.embedding_file import FIELDS, read_embeddings
from pvlad_jax.evaluation.protocols import PROTOCOLS, UNKNOWN_CAMERAS
from pvlad_jax.evaluation.report import print_table, write_result
from pvlad_jax.evaluation.scoring import score
from pvlad_jax.library_messages import quiet_libraries


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='python -m pvlad_jax.evaluation', allow_abbrev=False,
                                     description=f'Scores embeddings. Files are .npz with the fields {", ".join(FIELDS)}.')
    parser.add_argument('--query', required=True, help='embeddings of the queries')
    parser.add_argument('--gallery', required=True, help='embeddings of the gallery, with or without the queries (tracklet names tell)')
    parser.add_argument('--protocol', default='mars_official', choices=PROTOCOLS)
    parser.add_argument('--distance', default='cosine', choices=DISTANCES)
    parser.add_argument('--train', help='embeddings of the training set, for xqda and kissme')
    parser.add_argument('--rerank', action='store_true', help='k-reciprocal re-ranking')
    parser.add_argument('--unknown_cameras', default='refuse', choices=UNKNOWN_CAMERAS,
                        help='camera -1: an error where it matters, a camera of its own, or ignored')
    parser.add_argument('--output', help='JSON file for the result')
    said = parser.add_argument_group('said in the result', 'what the files do not tell')
    said.add_argument('--dataset', default='')
    said.add_argument('--split', default='')
    said.add_argument('--step', type=int)
    said.add_argument('--frames', default='', help='frame policy of the embeddings, such as all or even:8')
    said.add_argument('--convention', default='', help='such as which half of a split is test')
    said.add_argument('--partial', action='store_true', help='the data set lacks something')
    options = vars(parser.parse_args(arguments))
    output = options.pop('output')
    quiet_libraries()
    try:
        tables = {name: read_embeddings(path) if (path := options.pop(name)) else None for name in ('query', 'gallery', 'train')}
        result = score(**tables, **options)
        print_table(result)
        if output:
            write_result(output, result)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


if __name__ == '__main__':
    sys.exit(main())
