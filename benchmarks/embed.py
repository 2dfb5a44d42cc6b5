"""Embedding of whole videos: speed, and memory against the video's length.

    python benchmarks/embed.py --output=embed.json

Each length runs in a process of its own, whose peak memory is read at its end; frames are made as they are asked for,
so that memory is the embedding's. Beside it, where it is short enough, the network over the whole video in one pass,
whose memory grows.
"""

import json
import resource
import runpy
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pvlad_jax.core.environment_errors import one_sentence
from pvlad_jax.core.paths import user_path
from pvlad_jax.core.terminal import say
from pvlad_jax.launch.command_flags import parse_command_flags

LENGTHS = flags.DEFINE_list('lengths', ['3', '100', '1000', '10000'], 'Frames of the videos')
ONE_PASS_UP_TO = flags.DEFINE_integer('one_pass_up_to', 1000, 'Longest video that is also embedded in one pass')
CONFIG = flags.DEFINE_string('network', 'configs/synthetic.py', 'Configuration whose network and clips are used')
REPEATS = flags.DEFINE_integer('repeats', 3, 'Timed runs of each')
OUTPUT = flags.DEFINE_string('output', '', 'JSON file')
ONE = flags.DEFINE_string('one', '', 'Internal: MODE:LENGTH of the one measurement that this process makes')


def frames(length: int, height: int, width: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    block = rng.integers(0, 256, (64, height, width, 3), dtype=np.uint8)
    for i in range(length):
        yield block[i % 64]


def measure(mode: str, length: int) -> dict:
    import jax

    from pvlad_jax.config import freeze
    from pvlad_jax.embedding.video import embed_video
    from pvlad_jax.models.tracklet_network import build_network, init_variables
    from pvlad_jax.ops import vector_options

    config = freeze(runpy.run_path(CONFIG.value)['get_config']())
    clips = config.clips
    network = build_network(config.model, num_identities=2)
    variables = jax.jit(init_variables, static_argnums=(0, 1))(
        network, (clips.frames, clips.height, clips.width), jax.random.key(0)
    )

    def one_pass():
        n = -(-length // clips.frames)
        video = np.zeros((1, n * clips.frames, clips.height, clips.width, 3), np.uint8)
        valid = np.zeros((1, n * clips.frames), bool)
        for i, frame in enumerate(frames(length, clips.height, clips.width)):
            video[0, i], valid[0, i] = frame, True
        shape = (1, n, clips.frames)
        return np.asarray(whole(variables, video.reshape(*shape, *video.shape[2:]), valid.reshape(shape)).embedding)[0]

    def carried():
        return embed_video(network, variables, frames(length, clips.height, clips.width), clips.frames, 16)

    whole = jax.jit(network.apply, compiler_options=vector_options(jax.default_backend()))
    run = carried if mode == 'carried' else one_pass
    embedding = run()  # compiles
    seconds = []
    for _ in range(REPEATS.value):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    device = jax.devices()[0].memory_stats() or {}
    return {
        'mode': mode,
        'frames': length,
        'frames_per_second': length / statistics.median(seconds),
        'spread': (max(seconds) - min(seconds)) / statistics.median(seconds),
        'host_peak_mib': peak,
        'device_peak_mib': device.get('peak_bytes_in_use', 0) / 2**20,
        'embedding': embedding.tolist(),
    }


def main(_) -> None:
    if ONE.value:
        mode, length = ONE.value.split(':')
        print(json.dumps(measure(mode, int(length))))
        return
    from benchmarks.rows import child_output, row, write  # not in the processes whose memory is measured

    results = []
    for length in map(int, LENGTHS.value):
        for mode in ('carried', 'one pass'):
            if mode == 'one pass' and length > ONE_PASS_UP_TO.value:
                continue
            command = [sys.executable, __file__, f'--one={mode}:{length}']
            command += [f'--network={CONFIG.value}', f'--repeats={REPEATS.value}']
            told = child_output(command, f'The process of {mode!r} with {length} frames')
            results.append(json.loads(told.splitlines()[-1]))
    say(f'{"frames":>8} {"mode":>9} {"frames/s":>9} {"spread":>7} {"host peak MiB":>14} {"device peak MiB":>16}')
    for r in results:
        say(
            f'{r["frames"]:>8} {r["mode"]:>9} {r["frames_per_second"]:>9.0f} {r["spread"]:>7.0%} '
            f'{r["host_peak_mib"]:>14.0f} {r["device_peak_mib"]:>16.0f}'
        )
    rows = []
    for r in results:
        peer = next((p for p in results if p['frames'] == r['frames'] and p['mode'] == 'one pass'), None)
        if r['mode'] == 'carried' and peer:
            difference = float(np.abs(np.subtract(r['embedding'], peer['embedding'])).max())
            say(f'{r["frames"]} frames: carried and one pass differ by at most {difference:.1e}')
            ours, theirs = r['frames_per_second'], peer['frames_per_second']
            name, unit = f'embed {r["frames"]} frames', 'frames/s, carried against one pass'
            rows.append(row(name, ours, theirs, unit, ours / theirs))
    if OUTPUT.value:
        measured = [{k: v for k, v in r.items() if k != 'embedding'} for r in results]
        write(user_path(OUTPUT.value), rows, measured=measured)


if __name__ == '__main__':
    with one_sentence():
        app.run(main, flags_parser=parse_command_flags())
