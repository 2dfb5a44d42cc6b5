r"""A trained network on a video of people who leave and come back: who is found again, how fast, where the time goes.

    python benchmarks/video_reid.py --model=runs/mars --video=vtest.avi --tracks=vtest_tracks_mot.txt \
        --identities=vtest_identities_by_eye.csv --output=vtest.json

--identities is a CSV of two columns, the person and the track. Every track of a person with several is searched for
among all other tracks of the video, those of nobody in the list too; a person counts as found where the first track (in
the order of the video) has another one of the same person nearest. Stages are timed alone after a first pass that
compiles; processor seconds are of all threads, which on a shared machine tell more than the clock.
"""

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import numpy as np
from jaxtyping import Float32

import pvlad_jax
from benchmarks.rows import new_file, own_path
from pvlad_jax.commands.embed_journal import Row
from pvlad_jax.commands.embed_output import write_output
from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.library_messages import quiet_libraries
from pvlad_jax.core.terminal import say
from pvlad_jax.embedding.interleaved import Embedded, TrackletEnd, TrackletFrame
from pvlad_jax.video import Crop, CropRules, Ended, Tracks, open_video, read_tracks, stream_crops

_SAMPLED_STEPS = 9  # of the network alone; its time is the median times the number of steps


def read_identities(path: Path, names: list[str]) -> dict[str, str]:
    """{track: person}. UserError for a track that is not there."""
    with open(path, newline='') as file:
        rows = list(csv.reader(file))[1:]
    unknown = [track for _, track, *_ in rows if track not in names]
    if unknown:
        raise UserError(f'{path}: there is no track {unknown[0]!r}.')
    return {track: person for person, track, *_ in rows}


def found_again(embedding: Float32[np.ndarray, 'M E'], names: list[str], person: dict[str, str]) -> dict[str, dict]:
    """Of each person with several tracks, for each of them as the query: the rank of the nearest one of that person."""
    distance = 1 - embedding @ embedding.T
    np.fill_diagonal(distance, np.inf)
    result: dict[str, dict] = {}
    for who in sorted(set(person.values())):
        own = [i for i, name in enumerate(names) if person.get(name) == who]
        if len(own) > 1:
            ranks = {names[i]: 1 + min(int((distance[i] < distance[i, j]).sum()) for j in own if j != i) for i in own}
            result[who] = {'found': ranks[names[own[0]]] == 1, 'ranks': ranks}
    return result


class Job:
    """The video, in the stages that `embed` has."""

    def __init__(self, model: pvlad_jax.Embedder, video: Path, tracks: Tracks, rules: CropRules):
        self.model, self.video, self.tracks, self.rules = model, video, tracks, rules
        self.last = int(tracks.frame[-1])

    def decode(self, rgb: bool) -> int:
        """Frames up to the last one with a box; with `rgb` also converted."""
        with open_video(self.video) as video:
            for frame in video.frames():
                if rgb:
                    frame.image()
                if frame.number == self.last:
                    break
        return frame.number + 1

    def events(self) -> Iterator[TrackletFrame | TrackletEnd]:
        with open_video(self.video) as video:
            for event in stream_crops(video.frames(), self.tracks, self.rules):
                if isinstance(event, Crop):
                    yield TrackletFrame(event.track, event.image)
                elif isinstance(event, Ended):
                    yield TrackletEnd(event.track)

    def crops(self) -> int:
        return sum(isinstance(event, TrackletFrame) for event in self.events())

    def step(self) -> None:
        """One full step of the network, of what has the network's size already."""
        embedder = self.model.interleaved
        shape = (embedder.clips_per_step, *embedder.clip, 3)
        jax.block_until_ready(embedder.statistics(np.zeros(shape, np.uint8), np.ones(shape[:2], bool)))

    def whole(self) -> list[Embedded]:
        """From the video to a Parquet file."""
        done = sorted(self.model.stream(self.events()), key=lambda d: d.key)
        with tempfile.TemporaryDirectory() as folder:
            rows = [Row(d.key, self.tracks.names[d.key], 0, 0, 0.0, 0.0, d.frames, '', d.embedding) for d in done]
            write_output(Path(folder) / 'x.parquet', rows, self.video.name, '', self.model.fingerprint)
        return done


def timed(work: Callable) -> tuple[dict[str, float], object]:
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return {'seconds': time.perf_counter() - wall, 'processor_seconds': time.process_time() - processor}, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', required=True, type=own_path, help='working directory')
    parser.add_argument('--video', required=True, type=own_path)
    parser.add_argument('--tracks', required=True, type=own_path)
    parser.add_argument('--identities', required=True, type=own_path)
    parser.add_argument('--margin', type=float, default=0.0)
    parser.add_argument('--clips_per_step', type=int)
    parser.add_argument('--output', type=new_file, help='JSON file')
    options = parser.parse_args()
    quiet_libraries()
    tracks = read_tracks(options.tracks, video_name=options.video.name)
    names = list(tracks.names)
    person = read_identities(options.identities, names)
    model = pvlad_jax.load(options.model, clips_per_step=options.clips_per_step)
    say(f'{model!r}')
    job = Job(model, options.video, tracks, CropRules(options.margin))
    compiling, _ = timed(lambda: model.embed(np.zeros((1, *model.clip[1:], 3), np.uint8)))
    whole, done = timed(job.whole)
    clips = sum(-(-d.frames // model.clip[0]) for d in done)
    decode, frames = timed(lambda: job.decode(rgb=False))
    steps = -(-clips // model.interleaved.clips_per_step)
    sampled = [timed(job.step)[0] for _ in range(_SAMPLED_STEPS)]
    stages = {
        'decoding': decode,
        'decoding and RGB': timed(lambda: job.decode(rgb=True))[0],
        'decoding, RGB and crops': timed(job.crops)[0],
        'network alone': {unit: steps * statistics.median(spent[unit] for spent in sampled) for unit in sampled[0]},
        'whole, to Parquet': whole,
        'first call (compiles)': compiling,
    }
    for name, spent in stages.items():
        say(f'{name:24} {spent["seconds"]:8.2f} s {spent["processor_seconds"]:8.2f} processor s')
    crops = sum(d.frames for d in done)
    say(
        f'{frames} frames, {len(done)} tracks, {crops} crops, {clips} clips: {frames / whole["seconds"]:.1f} frames '
        f'and {crops / whole["seconds"]:.1f} crops a second'
    )
    again = found_again(np.stack([d.embedding for d in done]), [names[d.key] for d in done], person)
    ranks = [rank for result in again.values() for rank in result['ranks'].values()]
    for who, result in again.items():
        say(f'{who:28} {"found first" if result["found"] else "not first":12} ranks {result["ranks"]}')
    people = sum(result['found'] for result in again.values())
    say(
        f'{people} of {len(again)} people are found first among {len(done) - 1} tracks; as queries, '
        f'{ranks.count(1)} of {len(ranks)} tracks'
    )
    if options.output:
        about = {
            'model': model.model.checkpoint,
            'fingerprint': model.fingerprint,
            'people_found_first': people,
            'people': len(again),
            'queries_found_first': ranks.count(1),
            'queries': len(ranks),
            'identities': again,
            'frames': frames,
            'crops': crops,
            'clips': clips,
            'frames_per_second': frames / whole['seconds'],
            'stages': stages,
        }
        options.output.write_text(json.dumps(about, indent=1) + '\n')


if __name__ == '__main__':
    with one_sentence():
        main()
