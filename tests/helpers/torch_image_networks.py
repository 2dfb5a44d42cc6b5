"""OSNet and ResNet-50 for single images once more, in PyTorch, from their publications' layer tables, under torchreid's
names.
"""

import torch
import torch.nn.functional as F
from torch import nn


class Unit(nn.Module):
    """Convolution `conv`, BatchNorm `bn`, and ReLU unless it is linear."""

    def __init__(self, c_in, c_out, size=1, stride=1, linear=False):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, size, stride, size // 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.linear = linear

    def forward(self, x):
        x = self.bn(self.conv(x))
        return x if self.linear else F.relu(x, inplace=True)


class Light(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False, groups=width)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(self.bn(self.conv2(self.conv1(x))), inplace=True)


class Gate(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, width // 16, 1), nn.Conv2d(width // 16, width, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))


class OmniScale(nn.Module):
    def __init__(self, c_in, c_out, streams):
        super().__init__()
        width = c_out // 4
        self.conv1, self.conv3 = Unit(c_in, width), Unit(width, c_out, linear=True)
        self.streams = [f'conv2{stream}' for stream in streams]
        for length, name in enumerate(self.streams, start=1):
            setattr(self, name, Light(width) if length == 1 else nn.Sequential(*(Light(width) for _ in range(length))))
        self.gate = Gate(width)
        self.downsample = Unit(c_in, c_out, linear=True) if c_in != c_out else None

    def merged_streams(self, x):
        y = self.conv1(x)
        first, *others = (self.gate(getattr(self, name)(y)) for name in self.streams)
        return sum(others, first)

    def forward(self, x):
        y = self.conv3(self.merged_streams(x))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def head(c_in, features):
    return nn.Sequential(nn.Linear(c_in, features), nn.BatchNorm1d(features), nn.ReLU())


class TorchOSNet(nn.Module):
    """Frames [N, 3, H, W] -> features [N, C, h, w]."""

    def __init__(self, channels, streams='abcd', last_stride=2, classes=None):
        super().__init__()
        self.conv1 = Unit(3, channels[0], 7, 2)
        for n in (2, 3, 4):
            c_in, c_out = channels[n - 2 : n]
            layers = [OmniScale(c_in, c_out, streams), OmniScale(c_out, c_out, streams)]
            if n < 4:
                pool = nn.AvgPool2d(2, 2) if n == 2 or last_stride == 2 else nn.Identity()
                layers.append(nn.Sequential(Unit(c_out, c_out), pool))
            setattr(self, f'conv{n}', nn.Sequential(*layers))
        self.conv5 = Unit(channels[3], channels[3])
        if classes:
            self.fc, self.classifier = head(channels[3], 512), nn.Linear(512, classes)

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x), 3, 2, 1)
        return self.conv5(self.conv4(self.conv3(self.conv2(x))))


class IBN(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.IN = nn.InstanceNorm2d(width // 2, affine=True)
        self.BN = nn.BatchNorm2d(width - width // 2)

    def forward(self, x):
        first, rest = x.split([x.shape[1] // 2, x.shape[1] - x.shape[1] // 2], 1)
        return torch.cat([self.IN(first), self.BN(rest)], 1)


class Bottleneck(nn.Module):
    def __init__(self, c_in, width, stride, ibn):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c_in, width, 1, bias=False), IBN(width) if ibn else nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride != 1 or c_in != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(c_in, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class TorchResNet(nn.Module):
    """Bottleneck ResNet; frames [N, 3, H, W] -> features [N, C, h, w].

    `fc`: 'classifier' (torchvision), 'head' (torchreid) or None.
    """

    def __init__(self, blocks=(3, 4, 6, 3), width=64, ibn=False, last_stride=2, fc=None):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        c_in = width
        for i, count in enumerate(blocks):
            stride, layers = (1, 2, 2, last_stride)[i], []
            for block in range(count):
                layers.append(Bottleneck(c_in, width * 2**i, stride if block == 0 else 1, ibn and i < 3))
                c_in = 4 * width * 2**i
            setattr(self, f'layer{i + 1}', nn.Sequential(*layers))
        if fc == 'classifier':
            self.fc = nn.Linear(c_in, 1000)
        elif fc == 'head':
            self.fc, self.classifier = head(c_in, 512), nn.Linear(512, 751)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))
