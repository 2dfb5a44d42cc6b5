"""The peer of benchmarks/input.py: frames as files, read by a PyTorch DataLoader with the transforms that video
re-identification repositories share (torchvision's, written out with what torchvision itself calls: PIL and torch).

A clip's frames are treated alike, as ours are, and the probabilities and ranges are those of the same configuration.
"""

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

from pvlad_jax.config import AugmentConfig, Config
from pvlad_jax.data.clip_sampling import segment_clips

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)  # of ImageNet, as everywhere
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


class ClipTransform:
    """PIL images of one clip -> float32 [T,3,H,W]: resize, flip, pad and random crop, colour jitter, to tensor,
    normalise, erase.

    Without `normalise` uint8, for a network that normalises on the device, as ours does. `augment=False` gives the
    pictures alone.
    """

    def __init__(self, height: int, width: int, config: AugmentConfig, normalise: bool = True, augment: bool = True):
        self.size, self.config, self.normalise, self.augment = (width, height), config, normalise, augment

    def __call__(self, images: list[Image.Image], rng: np.random.Generator) -> torch.Tensor:
        images = [image if image.size == self.size else image.resize(self.size, Image.BILINEAR) for image in images]
        if not self.augment:
            return self.to_tensor(images)
        c = self.config
        if rng.random() < c.flip:
            images = [image.transpose(Image.FLIP_LEFT_RIGHT) for image in images]
        top, left = rng.integers(0, 2 * c.pad + 1, 2).tolist()
        images = [
            ImageOps.expand(image, c.pad, 0).crop((left, top, left + self.size[0], top + self.size[1]))
            for image in images
        ]
        factors = 1 + rng.uniform(-1, 1, 3) * (c.brightness, c.contrast, c.saturation)
        kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        for i in rng.permutation(3):
            images = [kinds[i](image).enhance(factors[i]) for image in images]
        clip = self.to_tensor(images)
        if self.normalise:
            clip = clip.sub_(MEAN).div_(STD)
        if rng.random() < c.erase:
            self.erase(clip, rng)
        return clip

    def to_tensor(self, images: list[Image.Image]) -> torch.Tensor:
        planes = [torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous() for image in images]
        return torch.stack([plane.float().div_(255) for plane in planes] if self.normalise else planes)

    def erase(self, clip: torch.Tensor, rng: np.random.Generator) -> None:
        height, width = clip.shape[2:]
        area = rng.uniform(*self.config.erase_area) * height * width
        aspect = np.exp(rng.uniform(np.log(0.3), np.log(3.3)))
        h, w = min(height, round(np.sqrt(area * aspect))), min(width, round(np.sqrt(area / aspect)))
        top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
        clip[:, :, top : top + h, left : left + w] = 0


class TrackletFiles(torch.utils.data.Dataset):
    """One example a tracklet: (clips [S,T,3,H,W], valid [S,T], label). `paths[i]` are the files of tracklet i in order.

    Indices are (row, number): the number seeds the draws.
    """

    def __init__(
        self, paths: list[list[str]], labels: np.ndarray, config: Config, normalise: bool = True, augment: bool = True
    ):
        self.paths, self.labels, self.config = paths, labels, config
        self.transform = ClipTransform(config.clips.height, config.clips.width, config.augment, normalise, augment)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):
        row, number = index
        clips, rng = self.config.clips, np.random.default_rng([self.config.seed, 3, *number])
        chosen = segment_clips(len(self.paths[row]), clips.segments, clips.frames, clips.stride, rng)
        kind = torch.float32 if self.transform.normalise else torch.uint8
        out = torch.zeros(clips.segments, clips.frames, 3, clips.height, clips.width, dtype=kind)
        for s, clip in enumerate(chosen):
            valid = clip[clip >= 0]
            if len(valid):
                out[s, : len(valid)] = self.transform(
                    [Image.open(self.paths[row][i]).convert('RGB') for i in valid], rng
                )
        return out, torch.from_numpy(chosen >= 0), int(self.labels[row])


class Rows(torch.utils.data.Sampler):
    """The batches of steps that `steps` says: the same rows as ours. Set `steps` before each pass."""

    def __init__(self, identities):
        self.identities, self.steps = identities, range(0)

    def __iter__(self):
        for step in self.steps:
            yield [(int(row), (step, place)) for place, row in enumerate(self.identities.rows(step))]

    def __len__(self) -> int:
        return len(self.steps)


def data_loader(dataset: TrackletFiles, rows: Rows, workers: int) -> torch.utils.data.DataLoader:
    """As tuned by its users: workers that stay, two batches ahead each; with one core no workers, which would only pass
    pictures on.
    """
    more = {'persistent_workers': True, 'prefetch_factor': 2} if workers else {}
    return torch.utils.data.DataLoader(dataset, batch_sampler=rows, num_workers=workers, **more)
