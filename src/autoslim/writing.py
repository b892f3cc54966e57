"""Files that are there whole or not at all, whatever stops the process that writes them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = ".part-"
"""How the names of unfinished files begin."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Within the block, write to the path that is given; at its end that file takes the place of `path`.

    It ends in the same suffix, and is removed if the block fails. Several processes may do this at once. Its
    name cannot be foreseen, and nothing stands there yet: no link that someone else made is followed.
    """
    part = path.with_name(f"{PART}{secrets.token_hex(8)}-{path.name}")
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield part
        flush_to_disk(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def sweep_parts(folder: Path) -> None:
    """Remove the unfinished files of killed processes in a folder, whose lock this process holds."""
    for part in folder.glob(f"**/{PART}*"):
        part.unlink(missing_ok=True)


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
