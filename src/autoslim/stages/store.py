"""Stage folders: named by what they depend on, locked while written, done once they hold `result.json`."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from autoslim.errors import AutoslimError
from autoslim.stages.clock import elapsed, hardware
from autoslim.writing import write_whole

log = logging.getLogger(__name__)

RESULT = "result.json"
MODEL = "model.keras"  # of a stage that trains one network
ELAPSED = "elapsed.json"  # seconds that a stage has taken so far, over all calls
TRAJECTORY = "trajectory.json"  # of a search
CHANNELS = "channels.yaml"  # that network's, {group name: width}
NETWORK_STAGES = ("baseline", "retrain", "uniform")  # that train, or bring, one network each
HASH_LENGTH = 10
_writing = ContextVar("writing", default=True)
NETWORK_FIELDS = (
    "metric",
    "loss",
    "test_images",
    "flops",
    "params",
    "memory",
    "macs",
    "normalization",
)
"""What the result of a stage that trains one network holds, at least."""


def reached(result: Mapping[str, Any]) -> float:
    """The metric in the result of a stage that trains a network; `metric` there is its name."""
    return float(result[result["metric"]])


def stage_hash(key: dict[str, Any]) -> str:
    """A short hash of all that a stage's result depends on."""
    text = json.dumps(key, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


class StageFolder:
    """The folder of one stage.

    Args:
        root: `outputs/<arch>-<dataset>`.
        stage: name of the stage.
        key: all that the result depends on, JSON-able; its hash is in the folder's name.
    """

    def __init__(self, root: Path, stage: str, key: dict[str, Any]) -> None:
        self.stage = stage
        self.key = key
        self.path = Path(root) / f"{stage}-{stage_hash(key)}"
        self.clock: Callable[[], float] | None = None  # seconds that the stage has taken; set while it runs

    @property
    def done(self) -> bool:
        """Whether the stage has finished."""
        return (self.path / RESULT).exists()

    def result(self, fields: tuple[str, ...] = ()) -> dict[str, Any]:
        """What the finished stage wrote.

        Args:
            fields: what it must hold.

        Raises:
            AutoslimError: if the file is damaged.
        """
        path = self.path / RESULT
        try:
            result = json.loads(path.read_text())
            lacking = [name for name in fields if name not in result]
            if not isinstance(result, dict) or lacking:
                raise ValueError(f"no {', '.join(lacking)} in it" if lacking else "not a JSON object")
        except (OSError, ValueError, TypeError) as error:
            raise AutoslimError(
                f"{path} is damaged ({error}). Remove the folder {self.path} to run stage {self.stage} again."
            ) from error
        return result

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Write the result, atomically, with the seconds it took: from then on the stage is done."""
        if self.clock is not None:
            result = {**result, "seconds": round(self.clock(), 1), "hardware": hardware()}
        write_atomically(self.path / RESULT, json.dumps(result, indent=1))
        return result

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Within the block count the stage's seconds, those of earlier calls that were stopped included."""
        with elapsed(self.path / ELAPSED, writes()) as self.clock:
            yield

    def share_of_time(self, share: float) -> Callable[[], float] | None:
        """The clock of a part of this stage, by its share of the work."""
        clock = self.clock
        return None if clock is None else lambda: share * clock()

    @contextmanager
    def locked(self, wait: float | None) -> Iterator[StageFolder]:
        """Hold the folder alone within the block; a worker that does not write needs no hold on it.

        Args:
            wait: seconds to wait for another process that holds it; None: without limit.

        Raises:
            AutoslimError: if another process still holds it after that.
        """
        if not writes():
            yield self
            return
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(self.path / ".lock"))
        owner = self.path / ".owner"
        try:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if wait == 0:
                    raise
                log.info("%s is being written by %s: waiting for it.", self.path, _read_owner(owner))
                lock.acquire(timeout=-1 if wait is None else wait)
        except Timeout:
            raise AutoslimError(
                f"{self.path} is being written by {_read_owner(owner)}. Let that finish, or wait for it with "
                "lock_wait=SECONDS."
            ) from None
        try:
            owner.write_text(f"process {os.getpid()} on {socket.gethostname()}")
            if not (self.path / "config.yaml").exists():
                write_atomically(self.path / "config.yaml", yaml.safe_dump(self.key, sort_keys=False))
            yield self
        finally:
            owner.unlink(missing_ok=True)
            lock.release()


@contextmanager
def writing(allowed: bool) -> Iterator[None]:
    """Within the block, whether this process writes, or leaves it to another worker."""
    token = _writing.set(allowed)
    try:
        yield
    finally:
        _writing.reset(token)


def writes() -> bool:
    """Whether this process writes."""
    return _writing.get()


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all; not in a worker that does not write."""
    if writes():
        write_whole(path, text)


def append(path: Path, text: str) -> None:
    """Add to the end of a file; a kill may leave a part of it."""
    if writes():
        with open(path, "a") as file:
            file.write(text)


def make_room(folder: Path, size: int) -> None:
    """Find out whether a folder has room for `size` bytes.

    Raises:
        OSError: if it has not.
    """
    temporary = folder / f".room.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            for start in range(0, size, 2**20):
                file.write(bytes(min(2**20, size - start)))
            file.flush()
            os.fsync(file.fileno())
    finally:
        temporary.unlink(missing_ok=True)


def _read_owner(path: Path) -> str:
    try:
        return path.read_text() or "another process"
    except OSError:
        return "another process"
