"""The one exception that the command line turns into a sentence and exit code 2."""


class UserError(Exception):
    """Something the user can mend: the message says what is wrong and how to mend it.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """
