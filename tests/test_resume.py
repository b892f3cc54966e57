"""A run that is killed again and again ends with the same bits as one that was left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from runs import lasting

SMALL = [
    "arch=resnet20",
    "arch.depth=8",
    "arch.width=8",
    "dataset.train_images=240",
    "train.batch_size=32",
    "train.checkpoint_seconds=0",
    "baseline.epochs=2",
    "supernet.epochs=2",
    "retrain.epochs=2",
    "retrain.teacher=baseline",
    "slim.levels=4",
    "slim.target=[0.6,0.4]",
    "slim.batch_size=16",  # a mode that carries much from step to step: a queue, turns of the batches
    "slim.search=halving",
    "slim.lazy=true",
    "slim.refresh=3",
    "slim.exchange=1",
    "optimizer.learning_rate=0.02",
]


def command(output: Path, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "autoslim", f"output={output}", *SMALL, *overrides]


def run(output: Path, *overrides: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(output, *overrides), capture_output=True, text=True, timeout=300, check=False
    )


def bits(output: Path) -> dict[str, object]:
    """Every result and every weight under an output folder, by stage folder."""
    found: dict[str, object] = {}
    for path in sorted(output.glob("*/*/result.json")):
        result = lasting(path)
        if path.parent.name.startswith("report"):
            continue
        result.pop("channels", None)  # paths
        found[f"{path.parent.name}/result"] = result
    for path in sorted(output.glob("*/*/full.weights.h5")):
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item, folder=path.parent.name: (
                    found.__setitem__(f"{folder}/{name}", np.asarray(item).tobytes())
                    if isinstance(item, h5py.Dataset)
                    else None
                )
            )
    for path in sorted(output.glob("*/*/trajectory.json")):
        found[f"{path.parent.name}/trajectory"] = path.read_text()
    return found


def progress_of(output: Path) -> set[str]:
    """What a run has written that marks progress: checkpoints, search steps, results."""
    marks = {str(p) for p in output.glob("*/*/checkpoints/*.index")}
    marks |= {str(p) for p in output.glob("*/*/result.json")}
    marks |= {f"{p}{len(json.loads(p.read_text())['points'])}" for p in output.glob("*/*/trajectory.json")}
    return marks


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    done = run(output)
    assert done.returncode == 0, done.stderr
    return output


@pytest.mark.long  # tests/test_campaign.py does the same with a few random kills
def test_killed_in_every_stage(whole, tmp_path):
    """Stopped soon after every few marks of progress, in whatever stage that is, and started again."""
    stopped_in = set()
    for _ in range(40):
        before = progress_of(tmp_path)
        process = subprocess.Popen(
            command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        wanted = 5 + len(stopped_in)
        while process.poll() is None and len(progress_of(tmp_path) - before) < wanted:
            time.sleep(0.01)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        text, _ = process.communicate(timeout=120)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, text
        stages = [p.name.split("-")[0] for p in tmp_path.glob("*/*") if not (p / "result.json").exists()]
        stopped_in.update(stages)
    else:
        pytest.fail("the run never came to its end")
    assert {"baseline", "supernet", "search", "retrain", "uniform"} & stopped_in
    assert bits(tmp_path).keys() == bits(whole).keys()
    for name, value in bits(whole).items():
        assert bits(tmp_path)[name] == value, name


@pytest.mark.long  # tests/stages does the same within this process
def test_second_run_reuses_everything(whole):
    before = {p: p.stat().st_mtime_ns for p in whole.glob("*/*/result.json") if "report" not in str(p)}
    done = run(whole)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done before, reused") == len(before)
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.long  # tests/stages does the same within this process
def test_a_lower_target_extends_the_search(whole):
    """One supernet and one search serve another target; the trajectory goes on from where it stopped."""
    (path,) = whole.glob("*/*/trajectory.json")
    before = json.loads(path.read_text())["points"]
    done = run(whole, "slim.target=0.3", "stages=[supernet,search]")
    assert done.returncode == 0, done.stderr
    after = json.loads(path.read_text())["points"]
    assert after[: len(before)] == before and len(after) > len(before)
    assert len(list(whole.glob("*/supernet-*"))) == 1
