"""Stopping on request: Ctrl-C and SIGTERM end a run at its next step boundary, with everything saved.

The first signal asks; whatever takes long (an evaluation, a fit, a download) calls `check()` now and then.
A second Ctrl-C does not wait.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_requested: str | None = None
_listening = False
_notify: Callable[[], None] | None = None


class StopRequested(Exception):
    """Raised by `check` after a signal; whoever catches it saves and ends the run."""


def requested() -> str | None:
    """Return the name of the signal that asked to stop, or None."""
    return _requested


def check() -> None:
    """Raise `StopRequested` if a signal has asked to stop; else do nothing (about 50 ns)."""
    if _requested is not None:
        raise StopRequested(_requested)


@contextmanager
def on_signals() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM in the block into a request to stop, a second SIGINT into KeyboardInterrupt.

    Inside another such block it adds nothing. Outside the main thread, where Python allows no signal handlers, the
    block runs without them.
    """
    global _requested, _listening
    if _listening:
        yield
        return
    _requested = None
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        global _requested
        if _requested is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        _requested = signal.Signals(number).name
        if _notify is not None:
            _notify()

    _listening = True
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _requested, _listening = None, False


@contextmanager
def waking(notify: Callable[[], None]) -> Iterator[None]:
    """Have `notify` called by the first signal that comes in the block; it must only set a flag."""
    global _notify
    before, _notify = _notify, notify
    try:
        yield
    finally:
        _notify = before
