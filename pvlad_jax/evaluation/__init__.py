"""Exact evaluation of embeddings: protocols, distances, CMC, mAP, re-ranking.

from pvlad_jax.evaluation import Embeddings, score
result = score(Embeddings(embedding=..., person_id=..., camera_id=..., tracklet=...), gallery, protocol='mars_official')
"""

from pvlad_jax.evaluation.embeddings import Embeddings, Labels, read_embeddings, write_embeddings
from pvlad_jax.evaluation.protocols import check_protocol, default_protocol
from pvlad_jax.evaluation.result import Result, print_table, write_result
from pvlad_jax.evaluation.scoring import score, score_matrix

__all__ = [
    'Embeddings',
    'Labels',
    'Result',
    'check_protocol',
    'default_protocol',
    'print_table',
    'read_embeddings',
    'score',
    'score_matrix',
    'write_embeddings',
    'write_result',
]
