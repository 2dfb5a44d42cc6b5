"""Pixels of the formats that Pillow reads, whatever their mode."""

import io
import struct
import warnings

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pvlad_jax.images.header import ImageError

# Colours that are multiplied with alpha already, which is what they are over black.
_PREMULTIPLIED = {'RGBa': 'RGB', 'La': 'L'}
_TRANSPARENT = frozenset(['RGBA', 'LA', 'PA'])
# Pillow raises all of these for damaged files of one format or another.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
)


def pillow_pixels(data: bytes, form: str) -> UInt8[np.ndarray, 'H W C']:
    """RGB or RGBA of a picture of one of Pillow's formats. ImageError where Pillow cannot."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of damaged metadata, which is not used
            with Image.open(io.BytesIO(data), formats=[form]) as image:
                image.load()
                if image.mode in _PREMULTIPLIED:
                    kept = np.asarray(image)[..., : len(_PREMULTIPLIED[image.mode])]
                    return np.repeat(kept, 3, axis=2) if kept.shape[2] == 1 else kept
                transparent = image.mode in _TRANSPARENT or 'transparency' in image.info
                return np.asarray(image.convert('RGBA' if transparent else 'RGB'))
    except _DAMAGE as error:
        raise ImageError(f'is damaged ({error})') from error
