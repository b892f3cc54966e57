"""Ctrl-C and SIGTERM: one handler for the whole run, which can wait for the end of a step.

The first signal interrupts, or within `deferred_interruption` asks for the end of the step, so that a
checkpoint can be written first. The second one interrupts at once, and the third ends the process: what is on
disk is whole at every moment. An interruption that Python discards, in a destructor, is raised again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STATUS = 130  # of a process that was interrupted
SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN = 0.05  # seconds after which a lost interruption comes again


class Interruption:
    """Whether an interruption was asked for."""

    requested = False


class _Handler:
    """The handler, and what it knows."""

    def __init__(self) -> None:
        self.waiting: list[Interruption] = []  # that a step is to be finished for, the innermost last
        self.count = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 2:
            os.write(2, b"\nautoslim: stopped. The same command goes on where it stopped.\n")
            os._exit(STATUS)
        if self.waiting and not self.waiting[-1].requested:
            self.waiting[-1].requested = True
            return
        raise KeyboardInterrupt


_handler = _Handler()


def _lost(unraisable: Any) -> None:
    """Python's hook for what is raised where nothing can catch it."""
    if unraisable.exc_type is KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, AGAIN)
    else:
        sys.__unraisablehook__(unraisable)


def _again(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[None]:
    """Within the block, the whole run of a command, both signals interrupt as the module says."""
    hook = sys.unraisablehook
    sys.unraisablehook = _lost
    before = signal.signal(signal.SIGALRM, _again)
    try:
        with _handling_signals():
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)
        sys.unraisablehook = hook


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
    _handler.waiting.append(interruption)
    try:
        with _handling_signals():
            yield interruption
    finally:
        _handler.waiting.remove(interruption)


@contextmanager
def _handling_signals() -> Iterator[None]:
    """Within the block the handler hears both signals; a first block begins to count them."""
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _handler) for number in heard}
    outermost = _handler not in before.values()
    if outermost:
        _handler.count = 0
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set from Python
