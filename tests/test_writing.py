"""Files are there whole or not at all."""

import os
import subprocess
import sys

import pytest

from autoslim.writing import PART, replacing, sweep_dead_parts, sweep_parts, write_whole


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


def test_no_link_is_followed(tmp_path, monkeypatch):
    (tmp_path / "other").write_text("kept")
    monkeypatch.setattr("secrets.token_hex", lambda size: "foreseen")
    with replacing(tmp_path / "result.json") as part:
        foreseen = part
    foreseen.symlink_to(tmp_path / "other")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "result.json", "new")
    assert (tmp_path / "other").read_text() == "kept"


def test_what_killed_processes_left_is_removed(tmp_path):
    (tmp_path / "export").mkdir()
    left = [tmp_path / f"{PART}12-result.json", tmp_path / "export" / f"{PART}34-model.onnx"]
    for path in (*left, tmp_path / "model.keras"):
        path.write_text("")
    sweep_parts(tmp_path)
    assert not any(path.exists() for path in left) and (tmp_path / "model.keras").exists()


def test_what_dead_processes_left_is_removed_and_nothing_of_others(tmp_path):
    program = (
        "import os, pathlib, sys; from autoslim.writing import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])): os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "job.json"], check=True)
    (left,) = tmp_path.iterdir()
    elsewhere = tmp_path / f"{PART}other-1-2-job.json"
    elsewhere.write_text("")
    with replacing(tmp_path / "job.json") as mine:
        sweep_dead_parts(tmp_path)
        assert set(tmp_path.iterdir()) == {mine, elsewhere} and str(os.getpid()) in mine.name
    assert not left.exists()
