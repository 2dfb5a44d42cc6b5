"""ResNet-50 (He 2016) in PyTorch, as users of video re-identification write it: frames one by one, names of
torchvision.

Where our network has 3x3x3 kernels, this one has one convolution of three frames' channels. Layers come from
tests/helpers/torch_image_networks.py.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch_osnet import three_frames

from pvlad_jax.models.backbones.resnet import LAYERS
from tests.helpers.torch_image_networks import Bottleneck


class ThreeFrameBottleneck(Bottleneck):
    """A bottleneck whose 3x3 sees three frames where `three` is true."""

    def __init__(self, c_in, width, stride, ibn, three):
        super().__init__(c_in, width, stride, ibn)
        self.three = three
        if three:
            self.conv2 = nn.Conv2d(3 * width, width, 3, stride, 1, bias=False)

    def forward(self, x, frames):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(three_frames(y, frames) if self.three else y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class TorchResNet50(nn.Module):
    """Clips [N, 3, T, H, W] -> [N, C, T, h, w], last spatial stride 1.

    temporal_blocks: 'layer2.0', ..., whose 3x3 sees three frames.
    """

    def __init__(self, ibn, temporal_blocks):
        super().__init__()
        self.temporal_blocks = temporal_blocks
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        c_in = 64
        for i, (name, count) in enumerate(LAYERS.items()):
            width, stride, blocks = 64 * 2**i, (1, 2, 2, 1)[i], nn.ModuleList()
            for block in range(count):
                three = f'{name}.{block}' in temporal_blocks
                blocks.append(ThreeFrameBottleneck(c_in, width, stride if block == 0 else 1, ibn and i < 3, three))
                c_in = 4 * width
            setattr(self, name, blocks)

    def forward(self, clips):
        frames = clips.shape[2]
        x = clips.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, 2, 1)
        for name in LAYERS:
            for block in getattr(self, name):
                x = block(x, frames)
        return x.unflatten(0, (-1, frames)).transpose(1, 2)
