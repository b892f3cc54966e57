"""Files that are there whole or not at all, whatever stops the process that writes them."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REASONS = (
    "ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EIO", "EFBIG", "ENOTDIR", "EISDIR", "ENAMETOOLONG",
    "ELOOP", "ESTALE", "ENXIO", "EMFILE", "ENFILE",
)  # fmt: skip
REASONS = tuple(os.strerror(getattr(errno, name)) for name in _REASONS)
"""What the system says of a file that can't be written or read; TensorFlow and HDF5 pass on the words."""

PART = ".part-"
"""How the names of unfinished files begin."""

_HERE = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Within the block, write to the path that is given; at its end that file takes the place of `path`.

    It ends in the same suffix, and is removed if the block fails. Several processes may do this at once. Its
    name cannot be foreseen, and nothing stands there yet: no link that someone else made is followed.
    """
    part = own_part(path)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield part
        flush_to_disk(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def own_part(path: Path) -> Path:
    """Where this process writes what is to become a file, or is gone when it ends; a new name each time."""
    return path.with_name(f"{PART}{_HERE}-{os.getpid()}-{secrets.token_hex(8)}-{path.name}")


def sweep_parts(folder: Path) -> None:
    """Remove the unfinished files of killed processes in a folder, whose lock this process holds."""
    for part in folder.glob(f"**/{PART}*"):
        part.unlink(missing_ok=True)


def sweep_dead_parts(folder: Path) -> None:
    """Remove the unfinished files that processes of this machine left behind which no longer run."""
    for part in folder.glob(f"**/{PART}{_HERE}-*"):
        number = part.name.removeprefix(f"{PART}{_HERE}-").partition("-")[0]
        if number.isdigit() and not _runs(int(number)):
            part.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    return True


def system_reason(error: BaseException) -> str | None:
    """What the system said, where an error is that a file can't be written or read; else None.

    >>> system_reason(OSError(28, "No space left on device")), system_reason(ValueError("Too large"))
    ('No space left on device', None)
    """
    text = f"{error} {error.strerror}" if isinstance(error, OSError) else str(error)
    passed_on = type(error).__module__.startswith(("tensorflow", "h5py")) or "error message = '" in text
    if not isinstance(error, OSError) and not passed_on:
        return None
    return next((reason for reason in REASONS if reason in text), None)


def flush_to_disk(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk: a power cut leaves it whole."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_whole(path: Path, text: str) -> None:
    """Write a text file, in place of one that is there."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
