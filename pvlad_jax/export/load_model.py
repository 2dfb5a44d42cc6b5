"""The exported network, with JAX and NumPy alone: pip install jax flatbuffers.

embed = load_model('.')     # the folder of model.json
embed(frames)               # uint8 RGB [n, H, W, 3], all frames of a tracklet in the network's size -> unit vector;
                            # or a list of n frames [H, W, 3]
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.export
import numpy as np


def load_model(folder: str | Path, clips_per_step: int = 4) -> Callable[..., np.ndarray]:
    """The function from all frames of a tracklet to its embedding [E]; `clips_per_step` clips are computed at a
    time. OSError where a file cannot be read, ValueError where one is damaged or is not the one that model.json has the
    hash of; of the function ValueError for frames of another type, shape or size.
    """
    folder = Path(folder)
    about = (folder / 'model.json').read_bytes()
    program, raw = (folder / 'model.jax').read_bytes(), (folder / 'weights.safetensors').read_bytes()
    again = 'Copy the folder again, or export it.'
    try:
        about = json.loads(about)
        written = {name: about['files'][name]['sha256'] for name in ('model.jax', 'weights.safetensors')}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f'{folder / "model.json"} is damaged ({error!r}). {again}') from error
    for (name, digest), content in zip(written.items(), (program, raw)):
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError(f'{folder / name} is damaged: its SHA-256 is not the one in model.json. {again}')
    try:
        data = 8 + int.from_bytes(raw[:8], 'little')
        body = memoryview(raw)[data:]  # of which slices are no copies
        (t, height, width), statistics = about['input']['clip'], about['statistics']
        tensors = {name: value for name, value in json.loads(raw[8:data]).items() if name != '__metadata__'}
        weights = {
            k: np.frombuffer(body[slice(*v['data_offsets'])], '<f4').reshape(v['shape']) for k, v in tensors.items()
        }
        empty = {'add': 0.0, 'max': -np.inf}[statistics['merge']]
        empties = {name: np.full((1, *shape), empty, np.float32) for name, shape in statistics['shapes'].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f'{folder / "model.json"} or weights.safetensors is damaged ({error!r}). {again}') from error
    weights, step = jax.device_put(weights), t * clips_per_step
    call = jax.jit(jax.export.deserialize(program).call)

    def embed(frames: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
        wanted = f'Give uint8 RGB [n, {height}, {width}, 3] with n >= 1, or a list of such frames'
        try:
            frames = np.asarray(frames)
        except Exception as error:  # frames of different sizes, tensors on a device
            raise ValueError(f'{wanted}, not a {type(frames).__name__} that is no array ({error}).') from error
        if frames.dtype != np.uint8 or frames.shape[1:] != (height, width, 3) or not len(frames):
            raise ValueError(f'{wanted}, not {frames.dtype} {frames.shape}.')
        state = empties
        for start in range(0, len(frames), step):
            some = frames[start : start + step]
            clips = np.concatenate([some, np.zeros((step - len(some), height, width, 3), np.uint8)])
            valid = (np.arange(step) < len(some)).reshape(1, clips_per_step, t)
            embedding, state = call(weights, clips.reshape(*valid.shape, height, width, 3), valid, state)
        return np.asarray(embedding[0])

    return embed
