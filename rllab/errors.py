"""What can go wrong, in words a user can act on, and the exit code of each kind.

Errors are raised where the mistake is visible, with the value, the range and the way out. The command
line prints `str(error)` and ends with `error.exit_code`; a traceback is shown with `--debug` only.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

EXIT_DONE = 0
EXIT_STOPPED = 75
"""Stopped by a signal, `--stop-after` or `--max-time`; `rllab resume` goes on (sysexits: EX_TEMPFAIL)."""
EXIT_INTERRUPTED = 130
"""A second Ctrl-C: ended at once, without saving."""


class RllabError(Exception):
    """An error that the user can understand and mend.

    Args:
        message: what is wrong, with the value that is.
        hint: the way out, if there is one.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class RunFailed(RllabError):
    """The run itself went wrong: an environment raised, a loss became NaN, the disk is full."""

    exit_code = 1


class UsageError(RllabError):
    """An option, a value, or a combination of method and task that cannot work."""

    exit_code = 2


class PluginError(RllabError):
    """A name that no plugin has, two that have it, or a plugin that cannot be imported."""

    exit_code = 4


class UnknownName(PluginError):
    """No method, environment or dataset of that name."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str | None = None) -> None:
        near = did_you_mean(name, known)
        super().__init__(f"there is no {kind} called {name!r}", " ".join(filter(None, [near, hint])) or None)


class RunNotFound(RllabError):
    """No run where one was expected."""

    exit_code = 5


class CheckpointError(RllabError):
    """A checkpoint that is missing, damaged, or of another method or configuration."""

    exit_code = 5


class ThresholdMissed(RllabError):
    """A `--require` that was not met."""

    exit_code = 6


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return "Did you mean 'a' or 'b'?" for the names closest to `name`, or None if none is close."""
    by_lowercase = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), list(by_lowercase), n=3, cutoff=0.6)
    if not near:
        return None
    return f"Did you mean {' or '.join(repr(by_lowercase[match]) for match in near)}?"


def one_line(error: BaseException | str) -> str:
    """Return the first line of a message, without terminal colours; of an empty one, the class of the error."""
    text = re.sub(r"\x1b\[\d+m", "", str(error)).strip()
    return (text or type(error).__name__).partition("\n")[0]
