"""What the parts look at: a clip's frames, and below them each part's soft mask laid over them."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from pvlad_jax.data.frame_decoding import resized

_HEIGHT, _WIDTH, _GAP, _MARGIN = 96, 48, 2, 52  # pixels: a frame, between frames, room for the rows' names


def part_mask_picture(
    clips: Sequence[UInt8[np.ndarray, 'T H W 3']], masks: Sequence[Float[np.ndarray, 't h w P']]
) -> UInt8[np.ndarray, 'Y X 3']:
    """One block of columns a clip: the frames that the mask's t times stand for, then one row a part, red where its
    mask is high.

    Each part's colours run from its own least to its greatest value in the clip, since a mask's level is arbitrary (the
    word sums are normalised) and only its shape says where the part looks; the span is written next to the first clip's
    row.
    """
    times, parts = masks[0].shape[0], masks[0].shape[-1]
    block = times * (_WIDTH + _GAP) + 4 * _GAP
    picture = Image.new('RGB', (_MARGIN + len(clips) * block, (parts + 1) * (_HEIGHT + _GAP)), 'white')
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(10)
    for p in range(parts):
        low, high = float(masks[0][..., p].min()), float(masks[0][..., p].max())
        draw.text(
            (2, (p + 1) * (_HEIGHT + _GAP) + _HEIGHT // 2 - 12),
            f'part {p + 1}\n{low:.2f}-{high:.2f}',
            fill='black',
            font=font,
        )
    for c, (clip, mask) in enumerate(zip(clips, masks)):
        shown = clip[np.arange(times) * len(clip) // times]
        for t, frame in enumerate(shown):
            frame = resized(frame, _HEIGHT, _WIDTH)
            x = _MARGIN + c * block + t * (_WIDTH + _GAP)
            picture.paste(Image.fromarray(frame), (x, 0))
            for p in range(parts):
                picture.paste(
                    Image.fromarray(_overlay(frame, mask[t, ..., p], mask[..., p])), (x, (p + 1) * (_HEIGHT + _GAP))
                )
    return np.asarray(picture)


def _overlay(frame, mask, of_all_times):
    low, span = of_all_times.min(), np.ptp(of_all_times)
    level = cv2.resize(
        (mask - low) / span if span > 0 else np.zeros_like(mask), (_WIDTH, _HEIGHT), interpolation=cv2.INTER_LINEAR
    )
    heat = cv2.applyColorMap((np.clip(level, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_JET)[..., ::-1]
    return (0.45 * frame + 0.55 * heat).astype(np.uint8)
