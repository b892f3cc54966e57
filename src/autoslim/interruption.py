"""Ctrl-C and SIGTERM: one handler for the whole run, which can wait for the end of a step.

The first signal interrupts, or within `deferred_interruption` asks for the end of the step, so that a
checkpoint can be written first. The second one interrupts at once, and the third ends the process: what is on
disk is whole at every moment. An interruption that Python discards, in a destructor, is raised again. Before
the run begins, while modules are imported, a signal ends the process; after it, it ends the process with the
status that the run had, or is ignored once Python is putting its things away, handlers among them.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
        self.stream = 2  # of messages; a copy that stays where standard error is held back
        self.last: list[Callable[[], Any]] = []  # called before the process ends at once

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 2:
            _end(number, frame)
        if self.waiting and not self.waiting[-1].requested:
            self.waiting[-1].requested = True
            return
        raise KeyboardInterrupt


_handler = _Handler()


def _end(number: int, frame: FrameType | None) -> None:
    """End the process."""
    with suppress(Exception):
        for call in _handler.last:
            call()
        os.write(_handler.stream, b"\nautoslim: stopped. The same command goes on where it stopped.\n")
    os._exit(STATUS)


@contextmanager
def before_a_sudden_end(call: Callable[[], Any]) -> Iterator[None]:
    """Within the block, have something called before a signal ends the process at once."""
    _handler.last.append(call)
    try:
        yield
    finally:
        _handler.last.remove(call)


def end_at_signals() -> None:
    """From here on both signals end the process: an error in the middle of an import says nothing."""
    atexit.register(_set, signal.SIG_IGN)  # the first to be registered is the last to be called
    _set(_end)


def exit_at_signals(status: int) -> None:
    """From here on the process ends by itself; at a signal it ends at once, with the same status."""
    _set(lambda *_: os._exit(status))


def _set(handler: Any) -> None:
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


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
    with suppress(OSError):
        _handler.stream = os.dup(2)
    before = signal.signal(signal.SIGALRM, _again)
    try:
        with _handling_signals():
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)
        sys.unraisablehook = hook
        if _handler.stream != 2:
            os.close(_handler.stream)
            _handler.stream = 2


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
