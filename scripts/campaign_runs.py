"""Runs of autoslim that begin where the libraries are imported, as copies (forks) of one process; their bits.

Importing TensorFlow takes longer than a small run does. Nothing is written before that: no fault is missed.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import hashlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import keras

from autoslim import cli, startup
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


def import_all() -> None:
    """Import all that a run imports, without starting TensorFlow: the copies begin there."""
    startup.import_tensorflow()
    for name in STAGES:
        importlib.import_module(f"autoslim.stages.{name}")
    for name in ("matplotlib.pyplot", "sklearn.datasets", "sklearn.model_selection", "hydra", "PIL.Image"):
        importlib.import_module(name)


class Command:
    """A command that runs in a copy of this process.

    Args:
        arguments: of ``python -m autoslim``.
        place: its working folder, where what it says is kept.
        fault: injected into what it does to files: (fault, at which operation, below which folder).
        user: that it runs as, where this process may choose; None: this one's.
        before, at_end: called in the copy, first and last.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        place: Path,
        fault: tuple[str, int, Path] | None = None,
        user: int | None = None,
        before: Callable[[], Any] = lambda: None,
        at_end: Callable[[], Any] = lambda: None,
    ) -> None:
        number = time.monotonic_ns()
        self._said = [place / f".{number}.{name}" for name in ("out", "err")]
        streams = [os.open(path, os.O_CREAT | os.O_WRONLY, 0o666) for path in self._said]
        self.pid = os.fork()
        if self.pid == 0:
            self._run(arguments, place, streams, fault, user, before, at_end)
        for stream in streams:
            os.close(stream)
        self.begun = time.monotonic()

    def _run(self, arguments, place, streams, fault, user, before, at_end) -> None:  # type: ignore[no-untyped-def]
        """The copy: it never returns."""
        status = 1
        try:
            for number, stream in enumerate(streams, start=1):
                os.dup2(stream, number)
            os.chdir(place)
            if user is not None and os.geteuid() == 0:
                os.setuid(user)
            before()
            sys.argv = ["autoslim", *arguments]
            faulthandler.register(signal.SIGUSR1, streams[1])  # where an endless one is
            if fault is not None:
                shim().campaign_set(fault[0].encode(), ctypes.c_long(fault[1]), str(fault[2]).encode())
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            atexit._run_exitfuncs()
            at_end()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(status)

    def wait(self, seconds: float = LIMIT) -> bool:
        """Wait until it ends, at most that long; whether it has."""
        if hasattr(self, "_status"):
            return True
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status: int | None = os.waitstatus_to_exitcode(status)
                return True
            time.sleep(0.01)
        return False

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
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return float(time.monotonic())
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def ended(self) -> Ended:
        """How it ended; an endless one is killed."""
        if not hasattr(self, "_status") and not self._wait_for_the_end():
            self.send(signal.SIGUSR1)
            time.sleep(0.5)
            self.send(signal.SIGKILL)
            self.wait()
            self._status = None
        said = [path.read_text(errors="replace") for path in self._said]
        for path in self._said:
            path.unlink()
        return Ended(self._status, *said)


def shim() -> Any:
    """The library that injects faults, which this process was started with."""
    return ctypes.CDLL(os.environ["LD_PRELOAD"])


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
