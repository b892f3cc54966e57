"""Stage folders: named by what they depend on, locked while written, done once they hold `result.json`."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from autoslim.errors import AutoslimError
from autoslim.resources import COUNTED
from autoslim.sealing import difference, fingerprint, sealed_json, unsealed
from autoslim.stages.clock import elapsed, environment, hardware
from autoslim.writing import PART, flush_to_disk, own_part, sweep_parts, write_whole

log = logging.getLogger(__name__)

RESULT = "result.json"
KEY = "config.yaml"  # all that a stage's result depends on
OWNER = "owner"  # ends the name of the file that says who writes in a folder
MODEL = "model.keras"  # of a stage that trains one network
ELAPSED = "elapsed.json"  # seconds that a stage has taken so far, over all calls
TRAJECTORY = "trajectory.json"  # of a search
CHANNELS = "channels.yaml"  # that network's, {group name: width}
FORMAT = 2  # of what stages leave: 2, results with seals
FILES = "files"  # in a result: fingerprints of the stage's files
UNSEALED = (".", RESULT, ELAPSED, KEY, "events.out.tfevents")
"""How names of files begin that a stage's seal leaves out."""
HASH_LENGTH = 10
_writing = ContextVar("writing", default=True)
NETWORK_FIELDS = (
    "metric",
    "loss",
    "test_images",
    *COUNTED,
    "macs",
    "normalization",
)
"""What the result of a stage that trains one network holds, at least."""


def reached(result: Mapping[str, Any]) -> float:
    """The metric in the result of a stage that trains a network; `metric` there is its name."""
    return float(result[result["metric"]])


def stage_hash(key: dict[str, Any]) -> str:
    """A short hash of all that a stage's result depends on."""
    text = json.dumps({"format": FORMAT, **key}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


def key_in(folder: Path) -> dict[str, Any]:
    """The key of the stage that a folder is of.

    Raises:
        OSError: if it can't be read.
        ValueError: if it is damaged.
    """
    try:
        key = yaml.safe_load((folder / KEY).read_text())
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, dict):
        raise ValueError(f"{folder / KEY} is no mapping")
    return key


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
            AutoslimError: if it, or another file of the stage, is damaged.
        """
        result, files = self._sealed()
        lacking = [name for name in fields if name not in result]
        if lacking:
            raise self._damaged(RESULT, f"is damaged (no {', '.join(lacking)} in it)")
        for name, what in self._differences(files).items():
            raise self._damaged(name, what)
        return result

    def damaged(self) -> dict[str, str]:
        """Files that are not as the finished stage wrote them, and what is wrong with each.

        Raises:
            AutoslimError: if its result is damaged, or a file can't be read.
        """
        return self._differences(self._sealed()[1]) if self.done else {}

    def remove(self, names: Iterable[str]) -> None:
        """Remove files of the stage, and its result: it is then no longer done."""
        for name in (RESULT, *names) if writes() else ():
            (self.path / name).unlink(missing_ok=True)

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Write the result, with the seconds it took and a seal of the stage's files: it is then done."""
        if self.clock is not None:
            result = {
                **result,
                "seconds": round(self.clock(), 1),
                "hardware": hardware(),
                "environment": environment(),
            }
        if writes():
            files = [path for path in sorted(self.path.iterdir()) if _is_sealed(path)]
            for path in files:
                flush_to_disk(path)
            self._write({**result, FILES: {path.name: fingerprint(path) for path in files}})
        return result

    def _write(self, content: dict[str, Any]) -> None:
        write_atomically(self.path / RESULT, sealed_json(content))
        flush_to_disk(self.path)

    def _sealed(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The result, and the fingerprints of the stage's files."""
        path = self.path / RESULT
        try:
            result = unsealed(path.read_text(encoding="utf-8"))
            return result, result.pop(FILES)
        except OSError as error:
            raise _unreadable(path, error) from error
        except (ValueError, KeyError) as error:
            raise self._damaged(RESULT, f"is damaged ({error})") from error

    def _differences(self, files: dict[str, Any]) -> dict[str, str]:
        found = {}
        for name, seal in files.items():
            path = self.path / name
            try:
                what = difference(path, seal)
            except OSError as error:
                raise _unreadable(path, error) from error
            if what:
                found[name] = what
        return found

    def _damaged(self, name: str, what: str) -> AutoslimError:
        way_out = f"Stage {self.stage} makes it again: stages=[{self.stage},...]"
        if name == RESULT:
            way_out = f"Remove the folder {self.path} to run stage {self.stage} again"
        return AutoslimError(f"{self.path / name} {what}. {way_out}.")

    def forget(self) -> None:
        """Let the stage be not done, whatever its result holds: it is done again as a whole."""
        if writes():
            (self.path / RESULT).unlink(missing_ok=True)

    def _reopen(self) -> None:
        """Before a finished stage goes on, let its files change."""
        if writes() and self.done:
            self._write({**self._sealed()[0], FILES: {}})

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Within the block the stage runs: its seconds are counted, on top of those of earlier calls."""
        self._reopen()
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
        owner = own_part(self.path / OWNER)
        try:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if wait == 0:
                    raise
                log.info("%s is being written by %s: waiting for it.", self.path, _read_owner(self.path))
                lock.acquire(timeout=-1 if wait is None else wait)
        except Timeout:
            raise AutoslimError(
                f"{self.path} is being written by {_read_owner(self.path)}. Let that finish, or wait for it "
                "with lock_wait=SECONDS."
            ) from None
        try:
            sweep_parts(self.path)
            owner.write_text(f"process {os.getpid()} on {socket.gethostname()}")
            if not (self.path / KEY).exists():
                write_atomically(self.path / KEY, yaml.safe_dump(self.key, sort_keys=False))
            yield self
        finally:
            with suppress(OSError):  # a folder that can't be written any more; the next run sweeps it
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


def _is_sealed(path: Path) -> bool:
    """Whether a file is part of what a stage found, and not of how it went."""
    return path.is_file() and not path.name.startswith(UNSEALED)


def _unreadable(path: Path, error: OSError) -> AutoslimError:
    return AutoslimError(
        f"{path} can't be read: {error.strerror or error}. It may be whole: give leave to read "
        "it, then run the same command again."
    )


def _read_owner(folder: Path) -> str:
    """Who writes in a folder, in words."""
    for path in folder.glob(f"{PART}*-{OWNER}"):
        with suppress(OSError):
            return path.read_text() or "another process"
    return "another process"
