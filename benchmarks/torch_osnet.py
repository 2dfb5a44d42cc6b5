"""OSNet (Zhou, ICCV 2019) in PyTorch, as its users write it: frames one by one, names of torchreid.

Where our network has three frames in a block's last convolution, so has this one, as one convolution of three frames'
channels. Layers come from tests/helpers/torch_image_networks.py.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from tests.helpers.torch_image_networks import OmniScale, Unit


def three_frames(x, frames):
    """Channels of the frame before, the frame, the frame after; [N T, C, H, W] -> [N T, 3 C, H, W].

    At the ends the frame itself.
    """
    clips = x.unflatten(0, (-1, frames))
    before, after = torch.cat([clips[:, :1], clips[:, :-1]], 1), torch.cat([clips[:, 1:], clips[:, -1:]], 1)
    return torch.cat([before.flatten(0, 1), x, after.flatten(0, 1)], 1).contiguous(memory_format=torch.channels_last)


class OSBlock(OmniScale):
    def __init__(self, c_in, c_out, three):
        super().__init__(c_in, c_out, 'abcd')
        self.three = three
        if three:
            self.conv3 = Unit(3 * (c_out // 4), c_out, linear=True)

    def forward(self, x, frames):
        y = self.merged_streams(x)
        y = self.conv3(three_frames(y, frames) if self.three else y)
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class TorchOSNet(nn.Module):
    """Clips [N, 3, T, H, W] -> [N, C, T, h, w].

    channels: of conv1, conv2, conv3, conv4. temporal_blocks: 'conv3.0', ..., whose last convolution sees three frames.
    The second transition has no pooling, as in our network with last_stride 1.
    """

    def __init__(self, channels, temporal_blocks):
        super().__init__()
        self.temporal_blocks = temporal_blocks
        self.conv1 = Unit(3, channels[0], 7, 2)
        for stage, (c_in, c_out) in enumerate(pairwise(channels), start=2):
            blocks = [OSBlock(c, c_out, f'conv{stage}.{i}' in temporal_blocks) for i, c in enumerate((c_in, c_out))]
            if stage < 4:
                blocks.append(nn.Sequential(Unit(c_out, c_out), nn.AvgPool2d(2, 2) if stage == 2 else nn.Identity()))
            setattr(self, f'conv{stage}', nn.ModuleList(blocks))
        self.conv5 = Unit(channels[3], channels[3])

    def forward(self, clips):
        frames = clips.shape[2]
        x = clips.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(self.conv1(x), 3, 2, 1)
        for stage in (self.conv2, self.conv3, self.conv4):
            for part in stage:
                x = part(x, frames) if isinstance(part, OSBlock) else part(x)
        return self.conv5(x).unflatten(0, (-1, frames)).transpose(1, 2)
