"""What a scanner hands to the builder: which tracklets there are, and how to read their frames.

A scanner (one file a data set) knows a raw layout; the builder knows the format on disk; this file is all that they
share.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TrackletSource:
    """One tracklet and the keys of its frames.

    Attributes:
      name: Unique within the data set.
      person: The person's name in the source.
      person_id: -1 junk, 0 distractor, persons from 1.
      camera_id: -1 = unknown.
      frame_numbers: The numbers in the source, rising.
      frames: One key a frame, opaque to the builder, which shows them in messages.
    """

    name: str
    person: str
    person_id: int
    camera_id: int
    frame_numbers: tuple[int, ...]
    frames: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """One count that a benchmark's documentation states, and what was found."""

    name: str
    expected: int | str
    found: int | str

    @property
    def holds(self) -> bool:
        return self.expected == self.found


@dataclass(frozen=True)
class RawDataset:
    """A scanned data set, ready to be built.

    Attributes:
      name: The data set's folder under data_dir.
      splits: TFDS split -> its tracklets in the order of their records.
      read_frames: Encoded images of a tracklet in order; picklable, since it runs in other threads or processes.
      encoding: 'jpeg', 'png' or 'mixed', of the frames as far as their names tell; the build writes what they are
        stored as.
      layout: One of pvlad_jax.data.dataset_format.LAYOUTS (docs/design.md).
      metadata: JSON-able; joins format_version, layout, encoding and partial in metadata.json. What it says of the
        source or of options tells one build from another of the same name.
      workers: 'threads' where read_frames waits for files, 'processes' where it computes.
      checks: Counts expected and found, printed as a table.
      notes: Sentences printed under the table of findings.
      issues: What is absent or too much, one sentence a kind; such a data set is built as a partial one or not at all.
      inconsistencies: Tables that do not describe the files; such a data set is never built.
      frame_size: Width and height in pixels that every frame must have; None = any.
      jpeg_quality: 1-100: frames that are not JPEG in the source are stored as JPEG; 0 = without loss.
      bit_depth: Bits in use of frames of 16 bits a sample, 8-16; 0 = unknown, such frames are refused.
    """

    name: str
    splits: Mapping[str, Sequence[TrackletSource]]
    read_frames: Callable[[TrackletSource], list[bytes]]
    encoding: str
    layout: str
    metadata: dict = field(default_factory=dict)
    workers: str = 'threads'
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    issues: tuple[str, ...] = ()
    inconsistencies: tuple[str, ...] = ()
    frame_size: tuple[int, int] | None = None
    jpeg_quality: int = 0
    bit_depth: int = 0
