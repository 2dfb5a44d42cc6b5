"""The same network, losses and update in PyTorch, written and tuned as its users would: what `train_step.py` measures
against.

Backbones come from tests/helpers/torch_backbones.py (checked layer by layer in tests/test_backbone_parity.py),
torch_osnet.py and torch_resnet.py; I3D is here as a module that trains.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from flax.traverse_util import unflatten_dict
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torch_osnet import TorchOSNet
from torch_resnet import TorchResNet50

from data_prep.weights import image_networks, osnet_torchreid, resnet_torchvision, torchvision_r3d
from pvlad_jax.config import Config
from pvlad_jax.models.backbones import BACKBONES, osnet
from pvlad_jax.models.backbones.i3d import MIXED
from tests.helpers.torch_backbones import TorchC3D, TorchR3D, same, same_max_pool

CUBE, POINT = (3, 3, 3), (1, 1, 1)


class Unit3D(nn.Module):
    """Convolution with TensorFlow's 'SAME' padding, BatchNorm, ReLU."""

    def __init__(self, c_in, c_out, kernel, stride=POINT):
        super().__init__()
        self.conv = nn.Conv3d(c_in, c_out, kernel, stride, bias=False)
        self.norm = nn.BatchNorm3d(c_out, eps=1e-3)

    def forward(self, x):
        # Padding that is the same on both sides is the convolution's own business; F.pad would copy.
        kernel, weight, stride = self.conv.kernel_size, self.conv.weight, self.conv.stride
        total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(x.shape[2:], kernel, stride)]
        if all(t % 2 == 0 for t in total):
            y = F.conv3d(x, weight, None, stride, [t // 2 for t in total])
        else:
            y = F.conv3d(same(x, kernel, stride, 0.0), weight, None, stride)
        return F.relu(self.norm(y))


class Mixed(nn.Module):
    def __init__(self, c_in, f):
        super().__init__()
        self.Branch_0_Conv3d_0a_1x1 = Unit3D(c_in, f[0], POINT)
        self.Branch_1_Conv3d_0a_1x1 = Unit3D(c_in, f[1], POINT)
        self.Branch_1_Conv3d_0b_3x3 = Unit3D(f[1], f[2], CUBE)
        self.Branch_2_Conv3d_0a_1x1 = Unit3D(c_in, f[3], POINT)
        self.Branch_2_Conv3d_0b_3x3 = Unit3D(f[3], f[4], CUBE)
        self.Branch_3_Conv3d_0b_1x1 = Unit3D(c_in, f[5], POINT)

    def forward(self, x):
        branches = [
            self.Branch_0_Conv3d_0a_1x1(x),
            self.Branch_1_Conv3d_0b_3x3(self.Branch_1_Conv3d_0a_1x1(x)),
            self.Branch_2_Conv3d_0b_3x3(self.Branch_2_Conv3d_0a_1x1(x)),
            self.Branch_3_Conv3d_0b_1x1(F.max_pool3d(x, 3, 1, 1)),
        ]
        return torch.cat(branches, 1)


class TorchI3D(nn.Module):
    """I3D to Mixed_4f or Mixed_5c, last spatial stride 1; names as ours; clips [N, 3, T, H, W]."""

    def __init__(self, final='Mixed_5c'):
        super().__init__()
        self.Conv3d_1a_7x7 = Unit3D(3, 64, (7, 7, 7), (2, 2, 2))
        self.Conv3d_2b_1x1 = Unit3D(64, 64, POINT)
        self.Conv3d_2c_3x3 = Unit3D(64, 192, CUBE)
        c_in, self.names = 192, list(MIXED)[: list(MIXED).index(final) + 1]
        for name in self.names:
            setattr(self, name, Mixed(c_in, MIXED[name]))
            c_in = sum(MIXED[name][i] for i in (0, 2, 4, 5))

    def forward(self, x):
        x = same_max_pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
        x = same_max_pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        last_pool = 'Mixed_5b' if 'Mixed_5b' in self.names else 'Mixed_4b'
        for name in self.names:
            if name in ('Mixed_4b', 'Mixed_5b'):
                window = CUBE if name == 'Mixed_4b' else (2, 2, 2)
                x = same_max_pool(x, window, (2, 1, 1) if name == last_pool else (2, 2, 2))
            x = getattr(self, name)(x)
        return x


def torch_backbone(name: str) -> nn.Module:
    """A backbone of the registry with last_stride = 1; ValueError for those without a peer."""
    spec = BACKBONES[name]
    if name.startswith('i3d'):
        return TorchI3D(spec.layers[-1])
    if name.startswith('c3d'):
        return TorchC3D(normalise=name == 'c3d_bn', last_stride=1)
    if name.startswith('osnet'):
        return TorchOSNet(osnet.CHANNELS[name], spec.temporal_blocks)
    if name.startswith('resnet50'):
        return TorchResNet50(spec.build.keywords['ibn'], spec.temporal_blocks)
    if name.startswith('r'):
        options = {k: v for k, v in spec.build.keywords.items() if k not in ('label', 'stage_strides')}
        peer = TorchR3D(**options, last_stride=1)
        for i, strides in enumerate(spec.build.keywords.get('stage_strides', ())):
            # Other strides than the publication's (r3d_tiny) go into the first block of a stage.
            strides = (strides[0], 1, 1) if i == 3 else strides
            block = getattr(peer, f'layer{i + 1}')[0]
            for conv in (block.conv1[0], block.downsample and block.downsample[0]):
                if conv:
                    conv.stride = strides
        return peer
    raise ValueError(f'No PyTorch network for backbone {name}.')


class TorchNetwork(nn.Module):
    """Backbone, average over places, embedding, classifier, as `TrackletNetwork` with pooling 'average'; clips uint8
    [N, T, H, W, 3].
    """

    def __init__(self, config: Config, people: int):
        super().__init__()
        name = config.model.backbone.name
        self.backbone = torch_backbone(name)
        self.ceil = name.startswith('c3d')
        self.embedding = nn.Linear(BACKBONES[name].channels, config.model.embedding_dim)
        self.classifier = nn.Linear(config.model.embedding_dim, people)
        shape = (1, 3, 1, 1, 1)
        self.register_buffer('mean', torch.tensor(BACKBONES[name].pixel_mean).reshape(shape), persistent=False)
        self.register_buffer('std', torch.tensor(BACKBONES[name].pixel_std).reshape(shape), persistent=False)

    def forward(self, clips):
        """(unit embedding [N, E], logits [N, I])"""
        x = clips.permute(0, 4, 1, 2, 3)  # of the bytes as they lie: channels_last_3d already
        x = (x.float() / 255 - self.mean) / self.std
        features = self.backbone(x.contiguous(memory_format=torch.channels_last_3d))
        feature = self.embedding(features.float().mean((2, 3, 4)))
        return F.normalize(feature), self.classifier(feature)


def channels_last(network: nn.Module) -> nn.Module:
    """Its kernels laid out so, those of 2D and of 3D convolutions."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.ndim in layouts:
            parameter.data = parameter.data.contiguous(memory_format=layouts[parameter.ndim])
    return network


def total_loss(config: Config, embedding, logits, label):
    """Smoothed cross-entropy and batch-hard triplet."""
    same_person = label[:, None] == label
    distance = torch.cdist(embedding, embedding, compute_mode='donot_use_mm_for_euclid_dist')
    other = ~torch.eye(len(label), dtype=torch.bool, device=label.device)
    farthest = distance.masked_fill(~(same_person & other), -torch.inf).amax(1)
    nearest = distance.masked_fill(same_person, torch.inf).amin(1)
    triplet = F.relu(config.loss.triplet_margin + farthest - nearest).mean()
    identity = F.cross_entropy(logits.float(), label, label_smoothing=config.loss.label_smoothing)
    return config.loss.identity * identity + config.loss.triplet * triplet


def make_optimizer(config: Config, network: nn.Module, rate: float):
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {'params': decayed, 'weight_decay': config.optimizer.weight_decay},
        {'params': others, 'weight_decay': 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def to_our_variables(network: TorchNetwork) -> tuple[dict, dict]:
    """The parameters and batch statistics of a `TorchNetwork` in our names and layouts, as nested dicts of NumPy
    arrays.
    """
    name = network.backbone
    state = {k: v.detach().cpu().numpy().copy() for k, v in name.state_dict().items() if v.ndim}  # no counts of batches
    if isinstance(name, TorchR3D):
        flat = torchvision_r3d.to_our_names(state, 'the peer')
    elif isinstance(name, TorchOSNet):
        flat = image_networks.to_our_names(state, 'the peer', osnet_torchreid.place)
        _three_frame_kernels(flat, name.temporal_blocks, 'conv3')
    elif isinstance(name, TorchResNet50):
        flat = image_networks.to_our_names(state, 'the peer', resnet_torchvision.place)
        _three_frame_kernels(flat, name.temporal_blocks, 'conv2')
    else:
        flat = {}
        for key, array in state.items():
            *path, leaf = key.split('.')
            if isinstance(name, TorchC3D):
                layer = path[0][4:] if len(path[0]) == 6 else f'{path[0][4:]}a'
                path = [f'conv{layer}', path[0][:4]]
            if isinstance(name, TorchI3D) and path[-1] == 'norm' and leaf == 'weight':
                continue  # ours, as the original, has no scale: the peer's stays one
            group = 'batch_stats' if leaf.startswith('running') else 'params'
            weight = 'kernel' if array.ndim == 5 else 'scale'
            ours = {'weight': weight, 'bias': 'bias', 'running_mean': 'mean', 'running_var': 'var'}[leaf]
            flat['/'.join([group, *path, ours])] = array.transpose(2, 3, 4, 1, 0) if array.ndim == 5 else array
    tree = unflatten_dict({k: np.ascontiguousarray(v) for k, v in flat.items()}, sep='/')
    params = {'backbone': tree['params']}
    for ours, layer in (('to_embedding', network.embedding), ('classifier', network.classifier)):
        weight, bias = (x.detach().cpu().numpy() for x in (layer.weight, layer.bias))
        params[ours] = {'kernel': weight.T.copy(), 'bias': bias.copy()}
    stats = {'backbone': tree['batch_stats']} if 'batch_stats' in tree else {}
    return params, stats


def _three_frame_kernels(flat: dict[str, np.ndarray], blocks: tuple[str, ...], layer: str) -> None:
    """Kernels [1, kh, kw, 3 C, D] over three frames' channels side by side -> [3, kh, kw, C, D], in `flat`."""
    for block in blocks:
        key = f'params/{block.replace(".", "/block")}/{layer}/conv/kernel'
        _, kh, kw, stacked, features = flat[key].shape
        flat[key] = flat[key].reshape(kh, kw, 3, stacked // 3, features).transpose(2, 0, 1, 3, 4)


def randomise(network: nn.Module, seed: int = 0) -> None:
    """He's initial values and plausible norms, so that no activation vanishes (He 2015: PyTorch's own shrink through
    many layers).
    """
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(module.weight)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.uniform_(module.bias, -0.2, 0.2)
