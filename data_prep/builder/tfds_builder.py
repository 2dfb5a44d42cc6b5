"""The TFDS builder of docs/design.md: one record a tracklet in ArrayRecord files, in the order of the scan.

It derives from TFDS's FileReaderBuilder instead of GeneratorBasedBuilder because the latter shuffles through temporary
files that need TensorFlow once a split passes 1 GiB. The files, their names and their metadata are TFDS's, so that
`tfds.builder_from_directory` reads them.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core import example_serializer
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder

from data_prep.builder.stored_frame import FrameCounts
from data_prep.raw_dataset import RawDataset, TrackletSource
from pvlad_jax.data.dataset_format import COLUMNS, FOLDER_VERSION, FORMAT_VERSION, TEXT_COLUMNS, table_file

FRAMES_PER_SHARD = 16_384  # some tens of MB to 100 MB of crops
Record = tuple[TrackletSource, list[bytes]]


@dataclass(frozen=True)
class Shard:
    """A stretch of a split's tracklets and the file it goes to."""

    path: str
    sources: tuple[TrackletSource, ...]


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self):
        """Does nothing: these data sets are published nowhere, and the parent's look-up leaves a temporary folder."""


class TrackletBuilder(FileReaderBuilder):
    """Writes a RawDataset.

    Arguments:
      raw: What to write.
      read_all: (tracklets) -> (tracklet, frames) in the same order; not needed where write_shards is given.
      write_shards: Writes shards elsewhere (Beam): (split, shards) -> bytes a shard.
      counts: What the frames were stored as; filled by the reader, and read when all are written.
      decoded: Whether every frame is decoded on the way; the metadata says so.
      data_dir: Where data sets lie.
    """

    VERSION = tfds.core.Version(FOLDER_VERSION)

    def __init__(
        self,
        *,
        raw: RawDataset,
        read_all: Callable[[Iterable[TrackletSource]], Iterator[Record]] | None = None,
        write_shards: Callable[[str, Sequence[Shard]], list[int]] | None = None,
        counts: FrameCounts | None = None,
        decoded: bool = False,
        data_dir: str,
    ):
        self.name = raw.name
        self._raw = raw
        self._read_all = read_all
        self._write_shards = write_shards
        self._counts = counts or FrameCounts()
        self._decoded = decoded
        super().__init__(data_dir=data_dir, file_format='array_record')

    def _info(self) -> tfds.core.DatasetInfo:
        return _Info(
            builder=self,
            description=f'Tracklets of people ({self._raw.layout}), one a record.',
            features=record_features(self._raw.encoding),
            metadata=tfds.core.MetadataDict(record_metadata(self._raw)),
            disable_shuffling=True,
        )

    def _download_and_prepare(self, dl_manager, download_config=None) -> None:
        splits, features = self._raw.splits, self.info.features
        # One reader for all splits, so that its workers start once and its complaints come together.
        records = self._read_all(chain.from_iterable(splits.values())) if self._write_shards is None else iter(())
        infos = []
        for split, sources in splits.items():
            template = self._get_filename_template(split_name=split)
            parts = shard_parts(sources)
            shards = [
                Shard(os.fspath(template.sharded_filepath(shard_index=i, num_shards=len(parts))), part)
                for i, part in enumerate(parts)
            ]
            if self._write_shards is not None:
                sizes = self._write_shards(split, shards)
            else:
                sizes = [write_shard(s.path, islice(records, len(s.sources)), features) for s in shards]
            about = {'shard_lengths': [len(s.sources) for s in shards], 'num_bytes': sum(sizes)}
            infos.append(tfds.core.SplitInfo(name=split, filename_template=template, **about))
            write_table(os.path.join(self.data_dir, table_file(split)), sources)
        for source, _ in records:  # the reader's end, where it raises what it has found
            raise AssertionError(f'tracklet {source.name} was read, but belongs to no shard')
        self.info.set_splits(tfds.core.splits.SplitDict(infos))
        self.info.metadata['encoding'] = self._counts.encoding or self._raw.encoding
        self.info.metadata['frames_decoded'] = self._decoded


def record_features(encoding: str) -> tfds.features.FeaturesDict:
    """The features of a record; frames stay encoded ('jpeg', 'png' or 'mixed'). TFDS stores bytes of either as they
    are."""
    image = tfds.features.Image(shape=(None, None, 3), encoding_format=None if encoding == 'mixed' else encoding)
    return tfds.features.FeaturesDict(
        {
            'frames': tfds.features.Dataset({'image': image}),
            'frame_numbers': tfds.features.Tensor(shape=(None,), dtype=np.int32),
            'person': tfds.features.Text(),
            'person_id': np.int32,
            'camera_id': np.int32,
            'tracklet': tfds.features.Text(),
        }
    )


def record_metadata(raw: RawDataset) -> dict:
    """What metadata.json says before the frames are read; the build adds what they are stored as."""
    common = {'format_version': FORMAT_VERSION, 'layout': raw.layout, 'encoding': raw.encoding, 'partial': False}
    return common | dict(raw.metadata)


def tracklet_table(sources: Sequence[TrackletSource]) -> dict[str, np.ndarray]:
    """The columns of tracklets_SPLIT.npz: fixed-width UTF-8 bytes and int32, one row a record."""
    columns = (
        [s.name.encode() for s in sources],
        [s.person.encode() for s in sources],
        [s.person_id for s in sources],
        [s.camera_id for s in sources],
        [len(s.frames) for s in sources],
    )
    return {
        name: np.array(values, dtype=np.bytes_ if name in TEXT_COLUMNS else np.int32)
        for name, values in zip(COLUMNS, columns, strict=True)
    }


def write_table(path: str, sources: Sequence[TrackletSource]) -> None:
    """Writes tracklets_SPLIT.npz."""
    with open(path, 'wb') as f:
        np.savez(f, **tracklet_table(sources))
        f.flush()
        os.fsync(f.fileno())


def shard_parts(sources: Sequence[TrackletSource]) -> list[tuple[TrackletSource, ...]]:
    """Cuts a split into stretches of about FRAMES_PER_SHARD frames each."""
    parts: list[list[TrackletSource]] = [[]]
    frames = 0
    for source in sources:
        if frames >= FRAMES_PER_SHARD:
            parts.append([])
            frames = 0
        parts[-1].append(source)
        frames += len(source.frames)
    return [tuple(p) for p in parts]


def write_shard(path: str, records: Iterable[Record], features: tfds.features.FeaturesDict) -> int:
    """Writes one ArrayRecord file and returns its size in bytes. Raises OSError where the disk does not take it."""
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    # One record a group: a random read then touches this record alone. Images do not compress any further.
    writer = ArrayRecordWriter(path, 'group_size:1,uncompressed')
    written = 0
    try:
        for source, frames in records:
            example = serializer.get_tf_example(features.encode_example(_example(source, frames)))
            # else the order of features changes from process to process
            data = example.SerializeToString(deterministic=True)
            writer.write(data)
            written += len(data)
    finally:
        writer.close()
    with open(path, 'rb') as f:
        os.fsync(f.fileno())
        size = os.fstat(f.fileno()).st_size
    if size < written:  # the writer does not report every full disk
        raise OSError(f'{path} holds {size} of {written} bytes')
    return size


def _example(source: TrackletSource, frames: list[bytes]) -> Mapping[str, Any]:
    return {
        'frames': [{'image': frame} for frame in frames],
        'frame_numbers': np.array(source.frame_numbers, dtype=np.int32),
        'person': source.person,
        'person_id': source.person_id,
        'camera_id': source.camera_id,
        'tracklet': source.name,
    }
