"""How long a stage takes, also where it is killed and goes on later."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import tensorflow as tf

from autoslim.writing import write_whole

EVERY = 5.0  # seconds between two writes: what a kill loses at most


@contextmanager
def elapsed(path: Path, writes: bool = True) -> Iterator[Callable[[], float]]:
    """Count wall-clock seconds within the block, on top of those that earlier calls left in a file.

    Args:
        path: of the file.
        writes: whether to write it; else it is only read.

    Yields:
        The function that returns the seconds so far.
    """
    before, start, ended = _read(path), time.monotonic(), threading.Event()

    def seconds() -> float:
        return before + time.monotonic() - start

    def write() -> None:
        with suppress(OSError):  # a full disk is reported by what the stage itself writes
            write_whole(path, json.dumps({"seconds": seconds()}))

    def keep_writing() -> None:
        while not ended.wait(EVERY):
            write()

    thread = threading.Thread(target=keep_writing, daemon=True)
    if writes:
        thread.start()
    try:
        yield seconds
    finally:
        ended.set()
        if writes:
            thread.join()
            write()


def hardware() -> str:
    """What this process computes on: "x86_64, 2 CPU cores, 0 GPUs"."""
    gpus = len(tf.config.list_physical_devices("GPU"))
    return f"{platform.machine()}, {os.cpu_count()} CPU cores, {gpus} GPUs"


def _read(path: Path) -> float:
    try:
        return float(json.loads(path.read_text())["seconds"])
    except (OSError, ValueError, TypeError, KeyError):
        return 0.0
