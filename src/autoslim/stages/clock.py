"""How long a stage takes, also where it is killed and goes on later."""

from __future__ import annotations

import json
import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import tensorflow as tf

from autoslim.exporting.latency import processor
from autoslim.writing import write_whole

log = logging.getLogger(__name__)

PACKAGES = ("tensorflow", "keras", "numpy")
VARIABLES = (
    "OMP_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
    "ONEDNN_MAX_CPU_ISA",
    "XLA_FLAGS",
    "TF_XLA_FLAGS",
)
"""Of the environment: those that change how, and with it in which order, numbers are added up."""

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
    kept, here = _read(path), environment()
    if writes:
        _compare(kept.get("environment"), here, path.parent)
    before, start, ended = float(kept.get("seconds", 0.0)), time.monotonic(), threading.Event()

    def seconds() -> float:
        return before + time.monotonic() - start

    def write() -> None:
        with suppress(OSError):  # a full disk is reported by what the stage itself writes
            write_whole(path, json.dumps({"seconds": seconds(), "environment": here}))

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


def environment() -> dict[str, Any]:
    """What the last bits of results depend on, besides the configuration: JSON-able."""
    threading_of = tf.config.threading
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": [
            threading_of.get_intra_op_parallelism_threads(),  # 0: as many as cores
            threading_of.get_inter_op_parallelism_threads(),
        ],
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def _compare(before: Any, here: dict[str, Any], folder: Path) -> None:
    """Say where a stage goes on in another environment than the one that it was begun in."""
    if not isinstance(before, dict) or before == here:
        return
    changed = [f"{name} {before.get(name)} before, {value} now" for name, value in here.items()]
    changed = [text for text, name in zip(changed, here, strict=True) if before.get(name) != here[name]]
    log.warning(
        "%s was begun in another environment (%s): its last digits may differ from those of one that is run "
        "through.",
        folder,
        "; ".join(changed),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text())
        return kept if isinstance(kept, dict) and float(kept["seconds"]) >= 0 else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}
