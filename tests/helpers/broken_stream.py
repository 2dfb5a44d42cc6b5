"""A standard output that cannot be written."""

import io


class Broken(io.StringIO):
    """A stream whose every write fails."""

    def __init__(self, error: Exception):
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error
