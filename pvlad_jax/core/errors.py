"""The one exception that means: the user can mend this."""

import errno

NO_ROOM = {errno.ENOSPC: 'No space left', errno.EDQUOT: 'Disk quota exceeded', errno.EFBIG: 'File too large'}


class UserError(Exception):
    """Bad input or environment. The message says what is wrong, where, and how to mend it; command lines print it without a traceback."""


EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # Ctrl-C, as shells give it
EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: stopped on request; the same command goes on
EXIT_PEER_LOST = 69  # EX_UNAVAILABLE: another process of the run has ended; the same command, given to all of them, goes on


def no_room(error: BaseException) -> str | None:
    """'No space left' and its like, where that is what an error says."""
    return next((sign for number, sign in NO_ROOM.items() if getattr(error, 'errno', None) == number or sign in str(error)), None)
