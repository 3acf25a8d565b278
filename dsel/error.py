"""The one error that a user is meant to read."""


class InputError(ValueError):
    """Bad input: one line that says what was wrong, the value seen, where, and what to do.

    Shown without a traceback (`HYDRA_FULL_ERROR=1` shows it) and with exit code 1.
    """
