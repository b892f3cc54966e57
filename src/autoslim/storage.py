"""Files that can't be read, and folders that can't be written, as one message with the way out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

from autoslim.errors import AutoslimError
from autoslim.schema import Config
from autoslim.writing import system_reason

INPUTS = ("dataset.path", "dataset.holdout_path", "arch.path", "arch.weights", "slim.channels")
"""The keys that name files and folders of the user's, which are only read."""


@contextmanager
def files_needed(output: str, config: Config | None = None) -> Iterator[None]:
    """Turn a file that can't be read, and a folder that can't be written, into a message with the way out.

    Args:
        output: the folder that is written.
        config: that names what is read.
    """
    try:
        yield
    except Exception as error:
        reason = system_reason(error)
        name = error.filename if isinstance(error, OSError) else None
        if isinstance(error, OSError) and name is not None:
            reason = error.strerror
            for key in INPUTS if config is not None else ():
                given = reduce(lambda part, one: getattr(part, one, None), key.split("."), config)
                if _is_below(name, given):
                    raise AutoslimError(
                        f"{os.fsdecode(name)} can't be read: {reason}. Give leave to read it, or "
                        f"correct {key}."
                    ) from error
        if reason is None:
            raise
        raise AutoslimError(
            f"cannot write {os.fsdecode(name or output)}: {reason}. Make room or choose another folder with "
            "output=FOLDER; the same command then goes on where it stopped."
        ) from error


def _is_below(name: Any, folder: Any) -> bool:
    """Whether a file is a path of the user's, or lies below it."""
    if not folder or not isinstance(name, str | bytes):
        return False
    path = os.path.abspath(os.fsdecode(name))
    return path == os.path.abspath(folder) or path.startswith(os.path.abspath(folder).rstrip("/") + "/")
