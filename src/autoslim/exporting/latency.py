"""Latency of files and networks: one image at a time, one thread, on the CPU, in a process of its own.

TensorFlow takes its numbers of threads when it starts and keeps them, so what is measured within a process
that trains says little. Here one process with one thread measures files in interleaved rounds
(`exporting.measure`). Measured is what a user's call takes: image in, logits out, in Python. For `keras` and
`saved_model` that is a traced function (tf.function), not `model.predict`, which adds tens of milliseconds
that have nothing to do with the network.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from autoslim.errors import AutoslimError
from autoslim.exporting.formats import FORMATS, check_formats
from autoslim.exporting.images import noise
from autoslim.exporting.writers import Source, write_keras, write_litert_to_time, write_onnx
from autoslim.rounds import median, settle, spread
from autoslim.startup import quiet

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

PATIENCE = 300.0  # seconds for the process, and as much again for each file
TOGETHER_BYTES = 2**28  # files of a session beyond this size are measured in several processes
TOGETHER = 12  # files of one process, so that a round is over soon
THREADS = 1

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
"""Environment of the process that measures."""

PACKAGES = {
    "litert": ("ai-edge-litert", "tensorflow"),
    "keras": ("keras", "tensorflow"),
    "onnx": ("onnxruntime", "tf2onnx"),
}
"""Runtime of `NetworkClock` -> the packages whose versions decide how fast it is."""


WRITERS = {"litert": write_litert_to_time, "keras": write_keras, "onnx": write_onnx}
"""Runtime of `NetworkClock` -> what writes a file to be timed."""


class Latency(NamedTuple):
    """What a call takes for one image."""

    ms: float  # median of the rounds
    spread: float  # half the distance between their quartiles, as a share of the median


def latencies(files: Mapping[str, Path], image: np.ndarray) -> dict[str, Latency | None]:
    """For one image: format -> latency; None, and a warning, for what cannot be measured.

    Args:
        files: format -> path.
        image: float32 [1, H, W, C].
    """
    measured = rounds_of({name: (name, path) for name, path in files.items()}, image)
    found: dict[str, Latency | None] = dict.fromkeys(files)
    timed = {name: rounds for name, rounds in measured.items() if isinstance(rounds, list)}
    for name, reason in measured.items():
        if name not in timed:
            log.warning("The latency of %s could not be measured: %s", files[name], reason)

    def again(places: list[int]) -> list[list[float]]:
        names = [list(timed)[place] for place in places]
        rounds = rounds_of({name: (name, files[name]) for name in names}, image)
        return [one if isinstance(one := rounds[name], list) else timed[name] for name in names]

    for name, sample in zip(timed, settle(list(timed.values()), again) if timed else (), strict=True):
        found[name] = Latency(median(sample.rounds), spread(sample.rounds))
        if not sample.settled:
            log.warning(
                "The latency of %s is noisy (spread %.1f %%), however often it was measured: another program "
                "may be running.",
                files[name],
                100 * spread(sample.rounds),
            )
    return found


def rounds_of(files: Mapping[str, tuple[str, Path]], image: np.ndarray) -> dict[str, list[float] | str]:
    """Milliseconds of each round, from one process that goes through all files in every round.

    Args:
        files: name -> (format, path).
        image: float32 [1, H, W, C].

    Returns:
        Name -> the rounds, or in words why there are none.
    """
    with tempfile.TemporaryDirectory(prefix="autoslim-") as folder:
        picture, job = Path(folder) / "image.npy", Path(folder) / "job.json"
        np.save(picture, image)
        listed = {name: [kind, str(path)] for name, (kind, path) in files.items()}
        job.write_text(json.dumps({"image": str(picture), "files": listed}))
        measured, reason = _in_a_process([str(job)], PATIENCE * (1 + len(files)))
    found: dict[str, list[float] | str] = {}
    for name in files:
        value = measured.get(name)
        if isinstance(value, list):
            found[name] = value
        else:
            found[name] = value["error"] if isinstance(value, dict) else reason
    return found


class NetworkClock:
    """Measures networks as they will be deployed: written for a runtime, and timed by it on one thread.

    Args:
        runtime: "litert", "keras" or "onnx".

    Raises:
        AutoslimError: for an unknown runtime, or one whose packages are missing.
    """

    unit = "ms"

    def __init__(self, runtime: str = "litert") -> None:
        if runtime not in PACKAGES:
            raise AutoslimError(f"unknown runtime {runtime!r}. There are: {', '.join(PACKAGES)}.")
        check_formats(runtime)
        self.name = runtime

    @property
    def identity(self) -> dict[str, object]:
        """What decides how long a network takes, other than the network."""
        versions = {name: _version(name) for name in PACKAGES[self.name]}
        return {"device": processor(), "threads": THREADS, "runtime": self.name, "versions": versions}

    def __call__(
        self, models: Iterable[keras.Model], on_ready: Callable[[], Any] = lambda: None, rounds: int = 1
    ) -> list[list[float]]:
        """Milliseconds for one image in each round: one list for each model.

        The first model stands in every process that is needed, so that what all networks of a process have
        in common (a slower clock, another program) does not count: times are given as if all had been
        measured along with the first process.

        Args:
            models: functional, one input of a known shape and one output; made one after the other.
            on_ready: called after each model that was written.
            rounds: there are always more (`exporting.measure`).

        Raises:
            AutoslimError: if the runtime cannot take a model.
        """
        with tempfile.TemporaryDirectory(prefix="autoslim-") as folder:
            files: list[Path] = []
            image: np.ndarray | None = None
            for number, model in enumerate(models):
                image = noise(model.inputs[0].shape[1:])[:1] if image is None else image
                files.append(self._written(model, Path(folder), number))
                on_ready()
            return self._sessions(files, image) if image is not None else []

    def _written(self, model: keras.Model, folder: Path, number: int) -> Path:
        path = folder / f"{number}-{FORMATS[self.name].filename}"
        with tempfile.TemporaryDirectory(dir=folder) as way, quiet():
            try:
                WRITERS[self.name](Source(model, None, Path(way)), path)
            except OSError:
                raise  # a full disk is not the model's fault
            except Exception as error:  # converters raise anything
                raise AutoslimError(
                    f"The network cannot be written for slim.runtime={self.name}, in which its latency is to "
                    f"be measured ({type(error).__name__}: {str(error).strip()[:200]}). Choose another "
                    f"runtime ({', '.join(PACKAGES)}), or a measurement of your own with slim.measure."
                ) from error
        return path

    def _sessions(self, files: Sequence[Path], image: np.ndarray) -> list[list[float]]:
        found: list[list[float]] = []
        for place, some in enumerate(_together(files)):
            rounds = self._session(some, image)
            scale = median(found[0]) / median(rounds[0]) if place else 1.0
            found += [[scale * time for time in times] for times in rounds[bool(place) :]]
        return found

    def _session(self, files: Sequence[Path], image: np.ndarray) -> list[list[float]]:
        measured = rounds_of({path.name: (self.name, path) for path in files}, image)
        for rounds in measured.values():
            if isinstance(rounds, str):
                raise AutoslimError(
                    f"A network's latency could not be measured by slim.runtime={self.name}: {rounds}. "
                    f"Choose another runtime ({', '.join(PACKAGES)}), or a measurement of your own with "
                    "slim.measure."
                )
        return [rounds for path in files if isinstance(rounds := measured[path.name], list)]


def _together(files: Sequence[Path]) -> list[list[Path]]:
    """The files of each process: the first file in all of them, and as many others as fit."""
    first, parts = files[0], [[files[0]]]
    for path in files[1:]:
        held = sum(file.stat().st_size for file in parts[-1])
        if len(parts[-1]) > 1 and (len(parts[-1]) >= TOGETHER or held + path.stat().st_size > TOGETHER_BYTES):
            parts.append([first])
        parts[-1].append(path)
    return parts


def processor() -> str:
    """This machine's processor, by its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


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
