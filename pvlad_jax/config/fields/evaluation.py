"""Fields of evaluation."""

from dataclasses import dataclass

from pvlad_jax.core.settings import setting


@dataclass(frozen=True)
class EvaluationConfig:
    dataset: str = setting(
        '',
        'for --mode=eval: other data sets of data_dir to score the same network on, NAME or NAME@SPLIT, several by '
        'commas (docs/transfer.md); empty = its own',
    )
    protocol: str = setting('', "a name of evaluation.protocols.PROTOCOLS; empty = the data set's own")
    unknown_cameras: str = setting(
        'refuse',
        'tracklets whose camera is not known, where a protocol compares cameras: refuse; other = each has a camera of '
        'its own; ignore = what they leave undecided is ignored',
        choices=('refuse', 'other', 'ignore'),
    )
    frames: str = setting(
        'all',
        "frames of a test tracklet that are embedded: 'all', 'even:N' = N evenly spread, 'every:N' = the first and "
        "every N-th after it, 'first:N'",
    )
    checkpoint: str = setting(
        'last',
        'last, or best by the mAP of the validation identities; for --mode=eval also untrained',
        choices=('last', 'best', 'untrained'),
    )
    flip: bool = setting(False, 'average the embeddings of a video and of its mirror image')
    distance: str = setting('cosine', 'a name of evaluation.distances.DISTANCES; some are learned on the training set')
    rerank: bool = setting(False, 'k-reciprocal re-ranking (Zhong 2017)')
    trained_people: str = setting(
        'refuse',
        'where people of a test set were trained on, as far as that is known: refuse, or accept and '
        'say so in the result',
        choices=('refuse', 'accept'),
    )
    clips_per_step: int = setting(32, 'clips on all devices together in a step of embedding', at_least=1)
    strips: int = setting(
        8,
        'queries in the picture of ranked strips (and up to 4 in that of part masks); 0 = no pictures, and no count of '
        'codewords',
        at_least=0,
    )
