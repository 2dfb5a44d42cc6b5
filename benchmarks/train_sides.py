"""The two sides that `train_step.py` times: our training step and embedding, and those of the same network in
PyTorch.
"""

import argparse
import os

import jax
import numpy as np
import torch
import torch_peer
from random_batch import PEOPLE, random_batch
from timed_network import TimedNetwork

from configs import mars
from pvlad_jax.config import Config, freeze
from pvlad_jax.parallel.mesh import global_batch, make_mesh

os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'  # a GPU is shared with the peer
ON_GPU = jax.default_backend() == 'gpu'
DEVICE = 'cuda' if ON_GPU else 'cpu'


def configuration(options: argparse.Namespace, backbone: str) -> Config:
    """configs/mars.py from a random start, one clip a tracklet, pooled by the mean."""
    c = mars.get_config(f'backbone={backbone},weights=,pooling=average,last_stride=1,dtype={options.dtype}')
    c.model.bnneck = False
    c.model.backbone.batch_norm = 'sync'
    c.optimizer.warmup_steps = 0
    c.optimizer.schedule = 'constant'
    c.clips.segments = 1
    people, tracklets, c.clips.frames, c.clips.height, c.clips.width = map(int, options.batch.split('x'))
    c.batch.identities, c.batch.tracklets = people, tracklets
    return freeze(c)


class Peer:
    def __init__(self, config: Config, compiled: bool):
        if ON_GPU:
            torch.backends.cudnn.benchmark = True
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        self.config = config
        self.network = torch_peer.TorchNetwork(config, PEOPLE)
        torch_peer.randomise(self.network)
        self.variables = torch_peer.to_our_variables(self.network)
        self.network = torch_peer.channels_last(self.network.to(DEVICE))
        self.optimizer = torch_peer.make_optimizer(config, self.network, config.optimizer.learning_rate)
        self.forward = torch.compile(self.network) if compiled else self.network
        batch = random_batch(config)
        self.clips = torch.from_numpy(batch['clips'][:, 0]).to(DEVICE)
        self.label = torch.from_numpy(batch['label']).long().to(DEVICE)

    def _run(self):
        half = self.config.model.dtype == 'bfloat16'
        with torch.autocast(DEVICE, torch.bfloat16, enabled=half):
            return self.forward(self.clips)

    def step(self) -> tuple[float, float]:
        """(loss, gradient norm)"""
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch_peer.total_loss(self.config, *self._run(), self.label)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimizer.clip_norm)
        self.optimizer.step()
        return loss.item(), norm.item()

    def embed(self) -> np.ndarray:
        self.network.eval()
        with torch.inference_mode():
            return self._run()[0].float().cpu().numpy()


def our_side(config: Config, start: tuple[dict, dict]) -> TimedNetwork:
    """start: the peer's variables."""
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, jax.devices()[:1] if ON_GPU else jax.devices())
    return TimedNetwork(config, global_batch(random_batch(config), mesh), mesh, start)
