"""The one exception people see: a sentence that names what is wrong and what to do."""

from __future__ import annotations


class UserError(Exception):
    """Bad input or environment; the command line prints the sentence and exits with code 2, without a traceback."""
