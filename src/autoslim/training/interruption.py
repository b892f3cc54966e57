"""Ctrl-C and SIGTERM wait for the end of the step, so that a checkpoint can be written first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interruption:
    """Whether an interruption was asked for."""

    requested = False


@contextmanager
def deferred_interruption() -> Iterator[Interruption]:
    """Within the block the first SIGINT or SIGTERM sets `requested`; a second one interrupts at once.

    Outside the main thread, where Python allows no signal handlers, signals act as usual; one that the
    process was started to ignore (a job in the background) stays ignored.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def note(number, frame):
        if interruption.requested:
            raise KeyboardInterrupt
        interruption.requested = True

    heard = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set from Python
