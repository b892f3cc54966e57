"""Stages among damaged files, and two processes on one stage."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from runs import lasting
from staged import folder, refused, run


def truncate(path: Path, share: float) -> None:
    """Keep only the first part of a file."""
    os.truncate(path, int(path.stat().st_size * share))


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("stage", ["baseline", "supernet", "search", "retrain"])
def test_a_damaged_result(copy: Path, stage: str, share: float) -> None:
    truncate(folder(copy, stage) / "result.json", share)
    said = refused(copy)
    assert said.startswith(f"OUT/resnet8-digits/{stage}-HASH/result.json is damaged (")
    assert said.endswith(f"Remove the folder OUT/resnet8-digits/{stage}-HASH to run stage {stage} again.")


@pytest.mark.parametrize("text", ["{}", "[]", "3", '{"top1": 1}'])
def test_a_result_that_lacks_something(copy: Path, text: str) -> None:
    (folder(copy, "retrain") / "result.json").write_text(text)
    assert "result.json is damaged (" in refused(copy)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"points": []}', '{"groups": 3}'])
def test_a_damaged_trajectory(copy: Path, text: str) -> None:
    (folder(copy, "search") / "trajectory.json").write_text(text)
    said = refused(copy)
    assert said.startswith(
        "OUT/resnet8-digits/search-HASH/trajectory.json is damaged or of another network ("
    )
    assert said.endswith("Remove the folder OUT/resnet8-digits/search-HASH to search again.")


def test_a_trajectory_of_another_network(copy: Path) -> None:
    path = folder(copy, "search") / "trajectory.json"
    data = json.loads(path.read_text())
    data["groups"][1] = "other"
    path.write_text(json.dumps(data))
    assert "is damaged or of another network" in refused(copy)


@pytest.mark.parametrize("share", [0.0, 0.5, None])
def test_damaged_weights(copy: Path, share: float | None) -> None:
    path = folder(copy, "supernet") / "full.weights.h5"
    path.unlink() if share is None else truncate(path, share)
    shutil.rmtree(folder(copy, "retrain"))
    said = refused(copy, stages="[retrain]")
    what = "is missing." if share is None else "is damaged: it holds "
    assert said.startswith(f"OUT/resnet8-digits/supernet-HASH/full.weights.h5 {what}")
    assert said.endswith("Stage supernet makes it again: stages=[supernet,...].")


@pytest.mark.slow
@pytest.mark.parametrize(
    "stage, name",
    [
        ("retrain", "model.keras"),
        pytest.param("retrain", "channels.yaml", marks=pytest.mark.long),
        ("supernet", "full.weights.h5"),
        pytest.param("search", "trajectory.csv", marks=pytest.mark.long),
    ],
)
def test_what_is_damaged_is_made_again_from_what_is_whole(
    copy: Path, caplog: pytest.LogCaptureFixture, stage: str, name: str
) -> None:
    place = folder(copy, stage)
    before, path = lasting(place / "result.json"), place / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    run(copy)
    assert f"{path} is damaged: its content is not what was written: {stage}" in caplog.text
    after = lasting(place / "result.json")
    assert after.keys() == before.keys() and after.get("flops") == before.get("flops")
    assert after.get("loss") == pytest.approx(before.get("loss"), abs=1e-4)
    if not name.endswith((".keras", ".h5")):  # these hold times
        assert path.read_bytes() == content
    caplog.clear()
    run(copy)
    assert "is damaged" not in caplog.text


def unfinished(output: Path, stage: str) -> Path:
    """Make a stage unfinished, with its checkpoints: the checkpoints' folder."""
    (folder(output, stage) / "result.json").unlink()
    return folder(output, stage) / "checkpoints"


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_damaged_checkpoint(copy: Path, share: float) -> None:
    (path,) = unfinished(copy, "supernet").glob("*.data*")
    truncate(path, share)
    said = refused(copy)
    assert said.startswith("Checkpoint OUT/resnet8-digits/supernet-HASH/checkpoints/ckpt-")
    assert "is damaged (" in said and said.endswith(
        "Put back the file as it was, or remove the folder OUT/resnet8-digits/supernet-HASH/checkpoints to "
        "train this stage from its beginning."
    )


@pytest.mark.slow
def test_a_damaged_list_of_checkpoints(copy: Path) -> None:
    (unfinished(copy, "baseline") / "checkpoint").write_text("model_checkpoint_path: \x00{")
    run(copy, stages="[baseline]")  # the checkpoints themselves are found without it


@pytest.mark.long
def test_a_checkpoint_of_another_network(copy: Path, tmp_path: Path) -> None:
    run(tmp_path / "other", arch__width=12, stages="[baseline]")
    place = unfinished(copy, "baseline")
    shutil.rmtree(place)
    shutil.copytree(folder(tmp_path / "other", "baseline") / "checkpoints", place)
    said = refused(copy)
    assert said.startswith("Checkpoint OUT/resnet8-digits/baseline-HASH/checkpoints/ckpt-")
    assert "is of another network or optimizer: it holds stem_conv" in said


def test_a_damaged_config_file_harms_nobody(copy: Path) -> None:
    (folder(copy, "baseline") / "config.yaml").write_text("")
    run(copy, stages="[baseline]")


HOLD = """
import sys
from pathlib import Path
from autoslim.stages.store import StageFolder
folder = StageFolder(Path(sys.argv[1]), "baseline", {})
folder.path = Path(sys.argv[2])
with folder.locked(0):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_on_one_stage(copy: Path) -> None:
    place = folder(copy, "baseline")
    (place / "result.json").unlink()
    command = [sys.executable, "-c", HOLD, str(copy), str(place)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        said = refused(copy)
        expected = (
            rf"OUT/resnet8-digits/baseline-HASH is being written by process {holder.pid} on \S+\. Let that "
            r"finish, or wait for it with lock_wait=SECONDS\."
        )
        assert re.fullmatch(expected, said)
        assert run(copy, stages="[supernet,search,retrain]").rows  # what is done needs no lock
        holder.kill()
        holder.wait()
        assert run(copy, stages="[baseline]").rows  # a lock dies with its process
    finally:
        holder.kill()
        holder.communicate()
