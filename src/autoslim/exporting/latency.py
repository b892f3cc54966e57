"""Latency of exported files: one image at a time, one thread, on the CPU, in a process of its own.

TensorFlow takes its numbers of threads when it starts and keeps them, so what is measured within a process
that trains says little. Here one process with one thread measures all files of an export. Measured is what a
user's call takes: image in, logits out, in Python. For `keras` and `saved_model` that is a traced function
(tf.function), not `model.predict`, which adds tens of milliseconds that have nothing to do with the network.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)

PATIENCE = 300.0  # seconds for the process, and as much again for each file

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
"""Environment of the process that measures."""


def latencies(files: Mapping[str, Path], image: np.ndarray) -> dict[str, float | None]:
    """Median milliseconds for one image: format -> latency; None, and a warning, for what cannot be measured.

    Args:
        files: format -> path.
        image: float32 [1, H, W, C].
    """
    with tempfile.TemporaryDirectory(prefix="autoslim-") as folder:
        np.save(Path(folder) / "image.npy", image)
        arguments = [str(Path(folder) / "image.npy"), *(f"{name}={path}" for name, path in files.items())]
        measured, reason = _in_a_process(arguments, PATIENCE * (1 + len(files)))
    found: dict[str, float | None] = {}
    for name, path in files.items():
        value = measured.get(name)
        found[name] = float(value) if isinstance(value, int | float) else None
        if found[name] is None:
            why = value["error"] if isinstance(value, dict) else reason
            log.warning("The latency of %s could not be measured: %s", path, why)
    return found


def _in_a_process(arguments: Sequence[str], patience: float) -> tuple[dict, str]:
    """What the process printed, and why it printed nothing."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, **ONE_THREAD}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
    command = [sys.executable, "-P", "-m", "autoslim.exporting.measure", *arguments]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=patience, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {}, str(error)
    lines = done.stdout.strip().splitlines()
    try:
        return dict(json.loads(lines[-1])), ""
    except (IndexError, ValueError, TypeError):
        said = done.stderr.strip().splitlines()
        return {}, f"the process ended with {done.returncode}: {said[-1] if said else 'nothing said'}"
