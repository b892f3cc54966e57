"""Seals notice every change of a byte."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoslim.sealing import difference, fingerprint, sealed_json, unsealed

DATA = {"top1": 0.1 + 0.2, "correct": "0101", "files": {"a": {"bytes": 3}}, "none": None, "list": [1, 2.5e-9]}


def test_read_back():
    assert unsealed(sealed_json(DATA)) == DATA
    assert unsealed(sealed_json({"widths": (1, 2), 3: float("inf")})) == {"widths": [1, 2], "3": float("inf")}


@given(st.integers(min_value=0), st.integers(0, 7))
def test_every_flipped_bit_is_noticed(place, bit):
    content = bytearray(sealed_json(DATA).encode())
    content[place % len(content)] ^= 1 << bit
    with pytest.raises(ValueError):
        unsealed(content.decode("utf-8"))  # a UnicodeDecodeError is a ValueError


@pytest.mark.parametrize("text", ["", "{}", "[]", "3", "null", '{"top1": 1}', sealed_json(DATA)[:-9]])
def test_what_is_not_sealed_is_refused(text):
    with pytest.raises(ValueError):
        unsealed(text)


def test_files(tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"12345")
    seal = fingerprint(path)
    assert seal["bytes"] == 5 and difference(path, seal) is None
    path.write_bytes(b"12346")
    assert difference(path, seal) == "is damaged: its content is not what was written"
    path.write_bytes(b"")
    assert difference(path, seal) == "is damaged: it holds 0 bytes, 5 were written"
    path.unlink()
    assert difference(path, seal) == "is missing"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_is_not_damaged(tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"12345")
    seal = fingerprint(path)
    path.chmod(0)
    with pytest.raises(PermissionError):
        difference(path, seal)
