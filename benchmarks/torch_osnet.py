"""OSNet (Zhou, ICCV 2019) in PyTorch, as its users write it: frames one by one, names of torchreid.

Where our network has three frames in a block's last convolution, so has this one, as one convolution of three frames'
channels.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn


class ConvLayer(nn.Module):
    """Convolution, BatchNorm, ReLU; torchreid's ConvLayer, Conv1x1 and, without ReLU, Conv1x1Linear."""

    def __init__(self, c_in, c_out, size=1, stride=1, relu=True):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.relu = relu

    def forward(self, x):
        x = self.bn(self.conv(x))
        return F.relu(x, inplace=True) if self.relu else x


class LightConv3x3(nn.Module):
    """1x1 without ReLU, depthwise 3x3, BatchNorm, ReLU."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False, groups=c_out)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x):
        return F.relu(self.bn(self.conv2(self.conv1(x))), inplace=True)


class ChannelGate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))


def three_frames(x, frames):
    """Channels of the frame before, the frame, the frame after; [N T, C, H, W] -> [N T, 3 C, H, W].

    At the ends the frame itself.
    """
    clips = x.unflatten(0, (-1, frames))
    before, after = torch.cat([clips[:, :1], clips[:, :-1]], 1), torch.cat([clips[:, 1:], clips[:, -1:]], 1)
    return torch.cat([before.flatten(0, 1), x, after.flatten(0, 1)], 1).contiguous(memory_format=torch.channels_last)


class OSBlock(nn.Module):
    def __init__(self, c_in, c_out, three):
        super().__init__()
        mid = c_out // 4
        self.three = three
        self.conv1 = ConvLayer(c_in, mid)
        self.conv2a = LightConv3x3(mid, mid)
        self.conv2b = nn.Sequential(*(LightConv3x3(mid, mid) for _ in range(2)))
        self.conv2c = nn.Sequential(*(LightConv3x3(mid, mid) for _ in range(3)))
        self.conv2d = nn.Sequential(*(LightConv3x3(mid, mid) for _ in range(4)))
        self.gate = ChannelGate(mid)
        self.conv3 = ConvLayer(3 * mid if three else mid, c_out, relu=False)
        self.downsample = ConvLayer(c_in, c_out, relu=False) if c_in != c_out else None

    def forward(self, x, frames):
        y = self.conv1(x)
        y = (
            self.gate(self.conv2a(y))
            + self.gate(self.conv2b(y))
            + self.gate(self.conv2c(y))
            + self.gate(self.conv2d(y))
        )
        y = self.conv3(three_frames(y, frames) if self.three else y)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class TorchOSNet(nn.Module):
    """Clips [N, 3, T, H, W] -> [N, C, T, h, w].

    channels: of conv1, conv2, conv3, conv4. temporal_blocks: 'conv3.0', ..., whose last convolution sees three frames.
    last_stride 1 leaves out the second transition's pooling, as our network does.
    """

    def __init__(self, channels, temporal_blocks, last_stride=1):
        super().__init__()
        self.temporal_blocks = temporal_blocks
        self.conv1 = ConvLayer(3, channels[0], 7, 2)
        for stage, (c_in, c_out) in enumerate(pairwise(channels), start=2):
            blocks = [OSBlock(c, c_out, f'conv{stage}.{i}' in temporal_blocks) for i, c in enumerate((c_in, c_out))]
            if stage < 4:
                pool = nn.AvgPool2d(2, 2) if stage == 2 or last_stride == 2 else nn.Identity()
                blocks.append(nn.Sequential(ConvLayer(c_out, c_out), pool))
            setattr(self, f'conv{stage}', nn.ModuleList(blocks))
        self.conv5 = ConvLayer(channels[3], channels[3])

    def forward(self, clips):
        frames = clips.shape[2]
        x = clips.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(self.conv1(x), 3, 2, 1)
        for stage in (self.conv2, self.conv3, self.conv4):
            for part in stage:
                x = part(x, frames) if isinstance(part, OSBlock) else part(x)
        return self.conv5(x).unflatten(0, (-1, frames)).transpose(1, 2)
