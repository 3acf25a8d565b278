"""The one error that a user is meant to read."""


class InputError(ValueError):
    """Bad input: one line that says what was wrong, the value seen, where, and what to do.

    Shown without a traceback (`HYDRA_FULL_ERROR=1` shows it) and with exit code 1.
    """


class Pruned(Exception):  # noqa: N818  # it is no error: a search ends a cell that has no prospects
    """A cell of a search that is ended early, and why."""
