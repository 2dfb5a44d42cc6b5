"""The exception for what a user can fix, and the exit codes of commands."""


class UserError(Exception):
    """Bad input or environment.

    The message says what is wrong, where, and how to fix it; commands print it without a traceback.
    """


def first_line(error: BaseException) -> str:
    """Of another library's message, for one of ours; the error's kind where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # Ctrl-C, as shells give it
EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: stopped on request; the same command resumes
# EX_UNAVAILABLE: another process of the run has ended; the same command, given to all of them, resumes.
EXIT_PEER_LOST = 69
EXIT_ENVIRONMENT = 69  # EX_UNAVAILABLE: the machine refuses: disk full, no permission, a service that does not answer
