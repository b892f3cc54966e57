"""Seals: what a file held when it was written, so that damage is noticed before it is used."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

SEAL = "seal"


def sealed_json(data: dict[str, Any]) -> str:
    """A JSON object with the SHA-256 of its content in it, as :func:`unsealed` takes it.

    Args:
        data: JSON-able, without the key `SEAL`.
    """
    data = json.loads(json.dumps(data))  # as it will be read: tuples as lists, keys as text
    return json.dumps({**data, SEAL: _digest(data)}, indent=1) + "\n"


def unsealed(text: str) -> dict[str, Any]:
    """The object that :func:`sealed_json` wrote.

    Raises:
        ValueError: if any character of it was changed.
    """
    data = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    seal = data.pop(SEAL, None)
    if seal is None:
        raise ValueError(f"no {SEAL} in it")
    if seal != _digest(data) or text != sealed_json(data):
        raise ValueError("its content is not what was written")
    return data


def fingerprint(path: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of a file.

    Raises:
        OSError: if it can't be read.
    """
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def difference(path: Path, seal: dict[str, Any]) -> str | None:
    """What is wrong with a file, by the fingerprint that was taken of it; None: nothing.

    Raises:
        OSError: if it is there but unreadable, which is not damage.
    """
    try:
        found = fingerprint(path)
    except FileNotFoundError:
        return "is missing"
    if found == seal:
        return None
    if found["bytes"] != seal["bytes"]:
        return f"is damaged: it holds {found['bytes']:,} bytes, {seal['bytes']:,} were written"
    return "is damaged: its content is not what was written"


def _digest(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
