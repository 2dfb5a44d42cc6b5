"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """Bad input or environment. The message says what is wrong, where, and how to mend it; command lines print it without a traceback."""


EXIT_USER_ERROR = 2
