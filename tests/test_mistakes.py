"""The commonest mistakes with the real stages, each a process: one line, exit status 2, nothing lost."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TINY = (
    "arch.depth=8",
    "arch.width=8",
    "dataset.train_images=120",
    "train.batch_size=40",
    "baseline.epochs=1",
    "supernet.epochs=1",
    "supernet.arms=2",
    "retrain.epochs=1",
    "slim.levels=2",
    "slim.min_width=0.5",
)
SHIPPED = sorted(path.stem for path in (Path(__file__).parent.parent / "conf" / "channels").glob("*.yaml"))


def call(place: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """`python -m autoslim`, tiny, in the folder `place`."""
    command = [sys.executable, "-m", "autoslim", *TINY, *args]
    env = {**os.environ, "COLUMNS": "200"}
    env.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        command, cwd=place, env=env, capture_output=True, text=True, timeout=300, check=False
    )


MISTAKES = [
    (
        ["slim.target=0.1"],
        "Cannot reach flops <= 0.1: with every group at its smallest level the network still costs 0.256 of "
        "the full one's flops. Lower slim.min_width or slim.divisor, or raise slim.target to 0.257 or more.",
    ),
    (
        ["dataset=fashion_mnist", "dataset.path=nowhere"],
        "dataset.path=nowhere does not exist: expected a folder with fashion_mnist.npz or the IDX files "
        "train-images-idx3-ubyte[.gz] and its three companions, or one .npz file. Correct dataset.path.",
    ),
    (
        ["slim.freeze=['*']"],
        "No channel group can be slimmed: 0 of 8 groups are not frozen, and none has a second width at "
        "slim.min_width=0.5, slim.divisor=4. Freeze less, or lower slim.divisor.",
    ),
    (
        ["stages=[retrain]"],
        "retrain (or give slim.channels=FILE) needs the result of stage search, and outputs/resnet8-digits/"
        "search-HASH has none: run it first, or together with this one: stages=[search,...].",
    ),
    (
        ["stages=[report]"],
        "stages=[report] alone has nothing to report: name the stages whose results it should read too (they "
        "are reused where they are done), such as stages=[baseline,supernet,search,retrain,uniform,report].",
    ),
    (
        ["slim.channels=nowhere.yaml"],
        "slim.channels=nowhere.yaml can't be read: No such file or directory. A search leaves such files in "
        f"its folder; autoslim comes with {', '.join(SHIPPED)}.",
    ),
    (
        ["slim.channels=wrong.yaml"],
        "slim.channels=wrong.yaml: No channel group is named 'stem'. Nearest: stem_conv.",
    ),
    (
        ["output=/proc/nowhere"],
        "cannot write /proc/nowhere: No such file or directory. Choose another: output=FOLDER.",
    ),
]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        pytest.param(args, message, id=args[-1], marks=pytest.mark.long if place % 4 else ())
        for place, (args, message) in enumerate(MISTAKES)
    ],
)
def test_a_mistake_gets_one_line(tmp_path: Path, args: list[str], message: str) -> None:
    (tmp_path / "wrong.yaml").write_text("stem: 4\n")
    done = call(tmp_path, *args)
    assert done.returncode == 2, done
    said = re.sub(r"-[0-9a-f]{10}", "-HASH", done.stderr)
    assert said == f"autoslim: error: {message}\n"
    assert done.stdout == ""
    assert not list(tmp_path.glob("outputs/*/*/checkpoints"))


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    """The last good checkpoint stays."""
    settings = ("optimizer.learning_rate=1e9", "baseline.epochs=9", "train.checkpoint_seconds=0")
    done = call(tmp_path, "stages=[baseline]", *settings)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done
    assert "NaN or infinite" in done.stderr and "Lower optimizer.learning_rate" in done.stderr
    assert list(tmp_path.glob("outputs/*/baseline-*/checkpoints/*.index"))


LAUNCHERS = {"basic": (), "joblib": ("hydra.launcher.n_jobs=2",), "ray": ()}


@pytest.mark.parametrize(
    "launcher", ["basic", *(pytest.param(name, marks=pytest.mark.long) for name in ("joblib", "ray"))]
)
def test_a_sweep_shares_what_can_be_shared(tmp_path: Path, launcher: str) -> None:
    """One supernet and one search per seed; a target out of reach fails alone; flags may stand anywhere."""
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher}_launcher")
    targets = "slim.target=0.8,0.5,0.1"
    done = call(
        tmp_path,
        "stages=[supernet,search,retrain]",
        "retrain.init=supernet",
        "--multirun",
        f"hydra/launcher={launcher}",
        *LAUNCHERS[launcher],
        targets,
        "seed=0,1",
    )
    assert done.returncode == 2, done
    failed = [line for line in done.stderr.splitlines() if "Cannot reach flops <= 0.1" in line]
    assert done.stderr.startswith("autoslim: error: 2 of 6 jobs are not done:\n") and len(failed) == 2
    for stage, count in {"supernet": 2, "search": 2, "retrain": 4}.items():
        assert len(list(tmp_path.glob(f"outputs/resnet8-digits/{stage}-*/result.json"))) == count
    (summary,) = tmp_path.glob("outputs/runs/sweep-*/summary.json")
    groups = json.loads(summary.read_text())["groups"]
    assert [(group["network"], group["target"], group["n"]) for group in groups] == [
        ("autoslim", 0.8, 2),
        ("autoslim", 0.5, 2),
    ]
