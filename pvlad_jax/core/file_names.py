"""Names that others choose, as names of files: no tracklet's name leads out of its folder."""

import hashlib
import re
from urllib.parse import quote

_MAX_BYTES = 150  # file systems allow 255; suffixes need some


def file_name(name: str) -> str:
    """A name for a file or folder that stands for this text, another one for each text.

    Letters of ASCII, digits, '-', '_' and dots inside stay; everything else, slashes among them, is percent-encoded.
    Long names are cut and end in a hash.
    """
    encoded = quote(name, safe='', errors='surrogatepass')
    encoded = re.sub(r'^\.', '%2E', encoded).replace('~', '%7E')
    if len(encoded) > _MAX_BYTES or not encoded:
        # '~' occurs in no encoded name, so a short name cannot equal a cut one.
        encoded = f'{encoded[: _MAX_BYTES - 33]}~{hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:32]}'
    return encoded


def storable_text(name: str) -> str:
    """The name of a file or folder as text that can be stored: bytes of it that are no UTF-8 are escaped."""
    return name.encode(errors='surrogateescape').decode(errors='backslashreplace')
