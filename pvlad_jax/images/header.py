"""What is known of an encoded picture before it is decoded."""

from typing import NamedTuple

MAX_PIXELS = 1 << 26  # 8192x8192: twice a whole 8K video frame; a crop of a person has some tens of thousands


class ImageError(ValueError):
    """The bytes are no usable picture; the message is the end of a sentence that begins with the file's name."""


class ImageHeader(NamedTuple):
    """Header of a whole picture.

    Attributes:
      format: 'jpeg', 'png', 'bmp', 'webp' or 'tiff', by content.
      stored_width: Pixels, before the orientation is applied.
      stored_height: Pixels, before the orientation is applied.
      orientation: 1-8 as in EXIF and TIFF; 1 = as stored.
      bits: Bits of a sample; 16 or at most 8.
      alpha: Whether there is, or may be, transparency.
      end: Number of bytes that belong to the picture; what follows was appended by somebody.
    """

    format: str
    stored_width: int
    stored_height: int
    orientation: int = 1
    bits: int = 8
    alpha: bool = False
    end: int = 0

    @property
    def width(self) -> int:
        """Pixels, as the picture is shown."""
        return self.stored_height if self.orientation >= 5 else self.stored_width

    @property
    def height(self) -> int:
        """Pixels, as the picture is shown."""
        return self.stored_width if self.orientation >= 5 else self.stored_height


def check_size(width: int, height: int) -> None:
    """Raises ImageError for a picture without pixels, and before memory is taken for one with too many."""
    if width < 1 or height < 1:
        raise ImageError(f'has the size {width}x{height}')
    if width * height > MAX_PIXELS:
        raise ImageError(f'has {width}x{height} pixels; at most {MAX_PIXELS:,} are read')
