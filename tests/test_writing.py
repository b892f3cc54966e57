"""Files are there whole or not at all."""

import pytest

from autoslim.writing import replacing, write_whole


def test_a_file_is_replaced_at_the_end_of_the_block_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "figures.npz"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new, ü")
        assert (part.parent, part.suffix, path.read_text()) == (tmp_path, ".npz", "old")
    assert path.read_text() == "new, ü"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "result.json"
    write_whole(path, "old")
    with pytest.raises(OSError, match="full"), replacing(path) as part:
        part.write_text("ha")
        raise OSError("full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
