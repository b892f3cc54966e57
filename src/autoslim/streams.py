"""Text streams: standard ones that outlive their reader, and lines that begin with a name."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO


class _Lasting:
    """A text stream that falls silent where it can't be written, in place of ending the run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, if that can still be done."""
        try:
            return self._stream.write(text)
        except OSError:
            self._silence()
        return len(text)

    def flush(self) -> None:
        """Pass on what was written, if that can still be done."""
        try:
            self._stream.flush()
        except OSError:
            self._silence()

    def _silence(self) -> None:
        """Let what is written from here on, and what still waits, go nowhere: C libraries' words too."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def keep_streams() -> None:
    """Make sure that standard streams exist; unencodable characters and closed pipes do not end the run.

    A stream that the process was started without is opened on nothing: else the next file that is opened
    would get its number, and what C libraries print would be written into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
            setattr(sys, name, _Lasting(stream))


class NamedLines:
    """A text stream whose every line begins with a name; lines are written whole, empty ones left out."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name, self._rest = stream, name, ""
        self.encoding = stream.encoding  # by which rich chooses how tables are ruled

    def write(self, text: str) -> int:
        """Write the lines that are complete; what is left waits for its end."""
        *lines, self._rest = (self._rest + text).split("\n")
        self._stream.write("".join(f"{self._name} | {line}\n" for line in lines if line.strip()))
        return len(text)

    def flush(self) -> None:
        """Pass on what was written."""
        self._stream.flush()

    def isatty(self) -> bool:
        """No: bars of several processes would overwrite each other."""
        return False
