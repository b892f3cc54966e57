"""Runs of autoslim, each a process of its own, and the bits that they leave."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import keras

from autoslim import cli
from autoslim.schema import STAGES
from autoslim.stages.store import RESULT

LIMIT = 300.0  # seconds after which a command counts as endless
STILL = 45.0  # seconds without arithmetic after which it does too
NOBODY = 65534  # a user that owns nothing
TIMES = ("seconds", "files", "seal", "channels")  # of a result: what no two runs share, and paths
RUN = [
    "arch=custom", "arch._target_=campaign_runs.network", "arch.name=tiny", "dataset.train_images=40",
    "train.batch_size=10", "train.eval_batch_size=360", "train.checkpoint_seconds=0",
    "train.calibration_batches=1", "baseline.epochs=1", "supernet.epochs=1", "supernet.arms=2",
    "retrain.epochs=1", "slim.levels=2", "slim.min_width=0.5", "slim.batch_size=8",
    "stages=[baseline,supernet,search,retrain]",
]  # fmt: skip


def network(shape: tuple[int, ...], classes: int) -> keras.Model:
    """Two small convolutions with batch norm, and a dense layer."""
    x = inputs = keras.Input(shape)
    for number in range(2):
        x = keras.layers.Conv2D(8, 3, strides=2, use_bias=False, name=f"conv{number}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
        x = keras.layers.ReLU(name=f"relu{number}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="top")(x))


class Ended(NamedTuple):
    """How a command ended."""

    status: int | None  # exit status; below 0: the signal that ended it; None: it was endless
    out: str
    err: str

    @property
    def said(self) -> str:
        """In words, for a fault."""
        lines = (self.err or self.out).strip().splitlines() or ["nothing was said"]
        return f"exit status {self.status}: {lines[-1][:200]}"

    @property
    def traceback(self) -> bool:
        """Whether it printed a traceback."""
        return "Traceback" in self.out + self.err


# TensorFlow's import is quiet only before Keras's
_AS_NOBODY = """
from autoslim.startup import import_tensorflow
import_tensorflow()
import campaign_runs
campaign_runs._as_nobody()
"""


def _as_nobody() -> None:
    """The command line as a user that owns nothing; what that user may not read is imported before."""
    for name in STAGES:
        importlib.import_module(f"autoslim.stages.{name}")
    for name in ("matplotlib.pyplot", "sklearn.datasets", "sklearn.model_selection", "hydra", "PIL.Image"):
        importlib.import_module(name)
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    cli.main()


class Command:
    """A command in a process of its own.

    Args:
        arguments: of ``python -m autoslim``.
        place: its working folder, where what it says is kept.
        shim: the library that injects faults.
        fault: injected into what it does to files: (fault, at which operation, below which folder).
        unprivileged: run it as a user that owns nothing, where this process may choose.
        environment: what is added to it.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        place: Path,
        shim: Path | None = None,
        fault: tuple[str, int, Path] | None = None,
        unprivileged: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        number = time.monotonic_ns()
        self._said = [place / f".{number}.{name}" for name in ("out", "err")]
        given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        paths = [str(Path(__file__).parent), *map(os.path.abspath, filter(None, given))]  # it runs elsewhere
        settings = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONFAULTHANDLER": "1", **(environment or {})}
        if fault is not None:
            settings |= {"LD_PRELOAD": str(shim), "CAMPAIGN_FAULT": fault[0], "CAMPAIGN_AT": str(fault[1])}
            settings["CAMPAIGN_BELOW"] = str(fault[2])
        start = ["-c", _AS_NOBODY] if unprivileged else ["-m", "autoslim"]
        with open(self._said[0], "w") as out, open(self._said[1], "w") as err:
            self._process = subprocess.Popen(
                [sys.executable, *start, *arguments],
                cwd=place,
                env={**os.environ, **settings},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def wait(self, seconds: float = LIMIT) -> bool:
        """Wait until it ends, at most that long; whether it has."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    def _wait_for_the_end(self) -> bool:
        """Wait until it ends, or is endless; whether it has ended."""
        until, before = time.monotonic() + LIMIT, -1.0
        while time.monotonic() < until:
            if self.wait(STILL):
                return True
            now = self._arithmetic()
            if now - before < 0.02 * STILL:
                return False
            before = now
        return False

    def _arithmetic(self) -> float:
        """Seconds of the processor that it took so far."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return float(time.monotonic())
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def ended(self) -> Ended:
        """How it ended; an endless one says where it is, and is killed."""
        status = self._process.returncode
        if status is None:
            ends = self._wait_for_the_end()
            if not ends:
                self.send(signal.SIGABRT)  # Python's fault handler prints where each thread stands
                if not self.wait(5.0):
                    self.send(signal.SIGKILL)
                self.wait()
            status = self._process.returncode if ends else None
        said = [path.read_text(errors="replace") for path in self._said]
        for path in self._said:
            path.unlink()
        return Ended(status, *said)


def bits(output: Path) -> dict[str, str]:
    """Hashes of every result and every weight below an output folder, reports aside."""
    found = {}
    for path in sorted(output.glob(f"*/*/{RESULT}")):
        if not path.parent.name.startswith("report"):
            result = json.loads(path.read_text())
            kept = {name: value for name, value in result.items() if name not in TIMES}
            found[f"{path.parent.name}/{RESULT}"] = _hash(json.dumps(kept, sort_keys=True).encode())
    for path in sorted(output.glob("*/*/full.weights.h5")):
        with h5py.File(path) as file:
            for name, values in _values(file):
                found[f"{path.parent.name}/{name}"] = _hash(values)
    return found


def unlike(output: Path, whole: Mapping[str, str]) -> str:
    """What differs from the bits of a whole run, or was left unfinished; "": nothing."""
    mine = bits(output)
    different = [name for name in whole if mine.get(name) != whole[name]]
    left = [str(path.relative_to(output)) for path in output.rglob("*") if _unfinished(path)]
    return f"different: {different[0]}" if different else f"left over: {left[0]}" if left else ""


def _unfinished(path: Path) -> bool:
    return path.name.startswith(".part-") or "_temp" in path.name or ".tmp" in path.name


def _values(group: h5py.Group) -> Iterator[tuple[str, bytes]]:
    for item in group.values():
        if isinstance(item, h5py.Group):
            yield from _values(item)
        else:
            yield item.name, item[()].tobytes()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
