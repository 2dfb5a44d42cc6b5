"""Fields of the data: data set, clips, batches, augmentation, reading."""

from collections.abc import Mapping
from dataclasses import dataclass

from pvlad_jax.core.settings import setting


@dataclass(frozen=True)
class DatasetConfig:
    name: str = setting(
        'synthetic',
        'a folder of data_dir, made by data_prep/build_tfds.py; several, joined by +, train one network, each '
        'NAME or NAME@SPLIT: mars+prid2011@3 (docs/transfer.md)',
    )
    data_dir: str = setting('data', 'folder of the data sets', resumable=True)
    split: str = setting(
        '0',
        "which of the ten splits (iLIDS-VID, PRID 2011), or 'all' for all in turn; others have '0' only",
        short='split',
    )
    halves: str = setting(
        'wang2014',
        "of iLIDS-VID's splits: 'wang2014' (the first 150 of a row are test) or 'swapped'",
        choices=('wang2014', 'swapped'),
    )
    validation_share: float = setting(
        0.0,
        'share of the training identities held out to choose checkpoints by, but at least two, of each data set of a '
        'join; 0 = none',
        at_least=0,
        below=1,
    )
    train_people: int = setting(
        0,
        'training identities that are kept, of those who are not held out, drawn by the seed so that more hold fewer, '
        'of each data set of a join; 0 = all',
        at_least=0,
        short='train_people',
    )
    on_change: str = setting(
        'stop',
        'when a run is resumed and its data set was rebuilt from other data: stop, or accept them',
        choices=('stop', 'accept'),
        resumable=True,
    )
    build_options: Mapping = setting(
        {}, 'how main.py builds a synthetic data set that is missing; empty = never', resumable=True
    )


@dataclass(frozen=True)
class ClipsConfig:
    segments: int = setting(1, 'S: clips of a training tracklet, one from each of S equal stretches', at_least=1)
    frames: int = setting(8, 'T: frames of a clip', at_least=1)
    stride: int = setting(
        1, 'step between the frames of a training clip, in frames; test clips use every frame', at_least=1
    )
    height: int = setting(128, "height of the network's input, in pixels", at_least=1)
    width: int = setting(64, "width of the network's input, in pixels", at_least=1)


@dataclass(frozen=True)
class BatchConfig:
    identities: int = setting(
        8,
        'identities in a training batch (the P of P x K sampling, Hermans 2017; not the parts)',
        at_least=1,
        renamed_from='batch.people',
        former_works=True,
    )
    tracklets: int = setting(4, 'tracklets of each of them (the K of P x K sampling; not the codewords)', at_least=1)
    group_size: int = setting(
        1,
        'identities of consecutive numbers drawn together (2 for twins: they meet in a batch), and held out together; '
        'divides identities',
        at_least=1,
        renamed_from='batch.together',
    )
    sampling: str = setting(
        'proportional',
        'of joined data sets: proportional = people are drawn from all of them alike, so that a data set has the share '
        'of its number of people; balanced = each gives equally many people to every batch',
        choices=('proportional', 'balanced'),
    )

    @property
    def size(self) -> int:
        """Tracklets in a batch, P·K."""
        return self.identities * self.tracklets


@dataclass(frozen=True)
class AugmentConfig:
    flip: float = setting(
        0.5,
        'probability of a horizontal flip; as all of these, the same for all frames of a clip',
        at_least=0,
        at_most=1,
    )
    pad: int = setting(4, 'pixels added on each side before a random crop back to size', at_least=0)
    erase: float = setting(0.3, 'probability that a rectangle is erased (Zhong 2020)', at_least=0, at_most=1)
    erase_area: tuple = setting((0.02, 0.25), 'share of the picture that an erased rectangle covers, least and most')
    occlusion: float = setting(
        0.0,
        "probability that a rectangle of another training person's picture covers the person in some frames of a clip",
        at_least=0,
        at_most=1,
    )
    occlusion_area: tuple = setting((0.1, 0.4), 'share of the picture that such a rectangle covers, least and most')
    brightness: float = setting(
        0.2, 'colour jitter: the factor of the brightness is drawn from 1 - value .. 1 + value', at_least=0
    )
    contrast: float = setting(0.2, "likewise for the contrast about the clip's mean grey", at_least=0)
    saturation: float = setting(0.2, 'likewise for the saturation', at_least=0)
    channel: float = setting(
        0.0, "likewise for each colour channel by itself, as another camera's white balance would", at_least=0
    )


@dataclass(frozen=True)
class InputConfig:
    threads: int = setting(4, 'threads that read and decode; batches are the same for any number', at_least=1)
    prefetch: int = setting(4, 'batches prepared ahead', at_least=0)
    on_error: str = setting(
        'stop',
        'a tracklet that cannot be decoded: stop with its name, or skip it (docs/cloud.md) and count',
        choices=('stop', 'skip'),
    )
