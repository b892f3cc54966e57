"""The command line as a process: help, mistakes, single runs, sweeps, interruption, the installed wheel."""

import csv
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autoslim import __version__, cli

# Stands in for the stages (and so for TensorFlow) in the processes under test, sweep workers included.
STAND_IN = """
import os, sys, time, types
from dataclasses import dataclass

@dataclass
class Outcome:
    rows: list
    folders: dict

def run_stages(config, *, run_dir, sweep):
    from autoslim.errors import AutoslimError
    kind = "sweep" if sweep else "single"
    print("stages", config.arch.name, config.seed, config.slim.targets, kind, flush=True)
    if config.arch.name == "mymodule":
        import my.module
        print("own module", my.module.net(), flush=True)
    if config.seed == 13:
        raise AutoslimError("loss became NaN at step 7.\\nLower optimizer.learning_rate.")
    if config.seed == 14:
        raise RuntimeError("a defect")
    if config.seed == 15:
        raise OSError(28, "No space left on device", "outputs/x")
    if config.seed == 16:
        os.kill(os.getpid(), 9)
    if config.seed == 17:
        print("waiting", flush=True)
        time.sleep(60)
    rows = [dict(network="baseline", target=None, metric=0.9 + config.seed / 100, flops=1000000, params=10000,
                 memory=1, folder=f"baseline-{config.seed}")]
    for target in config.slim.targets:
        rows.append(dict(network="autoslim", target=target, metric=0.8 + config.seed / 100,
                         flops=int(1000000 * target) + config.seed, params=5000, memory=1,
                         folder=f"auto-{config.seed}-{target}"))
    return Outcome(rows, {"baseline": f"baseline-{config.seed}"})

stages = types.ModuleType("autoslim.stages")
stages.run_stages = run_stages
sys.modules["autoslim.stages"] = stages
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty current folder, with the stand-in for the stages beside it."""
    (tmp_path / "stand_in").mkdir()
    (tmp_path / "stand_in" / "sitecustomize.py").write_text(STAND_IN)
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def environment(place: Path) -> dict[str, str]:
    path = [str(place.parent / "stand_in"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "COLUMNS": "200"}


def call(place: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """``python -m autoslim ARGS`` in ``place``."""
    command = [sys.executable, "-m", "autoslim", *args]
    return subprocess.run(
        command, cwd=place, env=environment(place), capture_output=True, text=True, timeout=120, check=False
    )


def refused(place: Path, *args: str) -> str:
    """The one line with which a call is refused."""
    done = call(place, *args)
    assert done.returncode == 2, done
    assert done.stderr.startswith("autoslim: error: ") and done.stderr.endswith("\n"), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr.removeprefix("autoslim: error: ").rstrip("\n")


def test_version(place: Path) -> None:
    done = call(place, "--version")
    assert done.returncode == 0 and done.stdout.startswith(f"autoslim {__version__} (tensorflow ")


def test_help_is_for_people(place: Path) -> None:
    done = call(place, "--help")
    assert done.returncode == 0 and done.stderr == ""
    options = {
        path.stem
        for group in cli.GROUPS
        for path in (Path(cli.__file__).parents[2] / "conf" / group).glob("*")
    }
    for word in {"--multirun", "--cfg job", "stages=[describe]", *options, *cli.GROUPS, *cli.KEYS}:
        assert word in done.stdout, word
    assert done.stdout.count("python -m autoslim") >= 4
    assert "_target_" not in done.stdout and "schema" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 110


@pytest.mark.parametrize("args", [("--help",), ("--cfg", "job"), ("slim.tagret=1",), ("slim.target=7",)])
def test_answers_at_once(place: Path, args: tuple[str, ...]) -> None:
    """Without TensorFlow, in a few seconds of processor time (elapsed time depends on other work)."""
    code = (
        "import sys, time; from autoslim.__main__ import main; sys.argv[0] = 'autoslim'\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy), 'SECONDS', time.process_time())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        check=True,
    )
    last = done.stdout.splitlines()[-1].split()
    assert last[:2] == ["HEAVY", "[]"]
    assert float(last[-1]) < 8


SPECIAL = (
    "a value with special characters, or letters beyond ASCII, needs quotes of its own inside those of "
    "the shell"
)
MISTAKES = [
    ("slim.tagret=0.5", "unknown key slim.tagret. Did you mean slim.target? Every key with its value: "),
    ("+slim.nosuch=1", "unknown key slim.nosuch. Every key"),
    ("seed=${oc.env:NOTHING}", "seed: \"Environment variable 'NOTHING' not found\". It is: random seed "),
    ("slim.limits={foo: 9}", "slim.limits has no such key. Its keys: slim.limits.flops, "),
    (
        "epochs=3",
        "unknown key epochs. Did you mean baseline.epochs or supernet.epochs or retrain.epochs? Every key",
    ),
    (
        "arch=resnt20",
        "unknown arch 'resnt20'. Did you mean resnet20? There are: custom, ",
    ),
    (
        "dataset=imagenet",
        "unknown dataset 'imagenet'. Did you mean image_folder? There are: cifar10, ",
    ),
    (
        "slim.levels=many",
        "slim.levels: Value 'many' of type 'str' could not be converted to Integer. It is: ",
    ),
    (
        "slim.target=1.5",
        "slim.target=1.5 is outside (0, 1]: it is the share of the full network's flops to keep.",
    ),
    ("stages=search", "stages: Invalid value assigned: str is not a ListConfig"),
    (
        "stages=[serach]",
        "unknown stages 'serach'. Did you mean search? There are: describe, baseline, supernet, ",
    ),
    (
        "arch=custom",
        "arch._target_ has no value. It is the dotted path of a function (input_shape, classes, **args)",
    ),
    ("slim.target 0.5", "cannot read 'slim.target 0.5': expected key=value or group=option"),
    ("search", "cannot read 'search': expected key=value. A stage is asked for so: stages=[search]."),
    ("output=a=(b", f"cannot read 'output=a=(b': {SPECIAL}: 'output=\"a=(b\"'"),
    ("output=Größe", f"cannot read 'output=Größe': {SPECIAL}: 'output=\"Größe\"'"),
    ("seed=" + "[" * 500 + "]" * 500, "a value or a file is nested too deep to be read: look for brackets"),
    ("recipe=economy", "unknown key recipe. Did you mean +recipe=NAME (with a plus: it is added"),
    ("optimizer.lr=1", "unknown key optimizer.lr. Did you mean optimizer.learning_rate? Every key"),
    ("arch.name=" + "a" * 101, f"arch.name={'a' * 101} is out of range: it names folders: up to 100 "),
    ("output=/dev/null/x", "cannot write /dev/null"),
    ("seed=13", "loss became NaN at step 7. Lower optimizer.learning_rate."),
    ("seed=15", "cannot write outputs/x: No space left on device. Make room or choose another folder"),
]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param(override, message, id=override, marks=pytest.mark.long if place % 3 else ())
        for place, (override, message) in enumerate(MISTAKES)
    ],
)
def test_a_mistake_gets_one_line(place: Path, override: str, message: str) -> None:
    assert refused(place, override).startswith(message)


def test_mistakes_in_own_files(place: Path) -> None:
    own = place / "mine" / "arch"
    own.mkdir(parents=True)
    schema = "defaults:\n  - /schema/arch/resnet@_here_\n  - _self_\n_target_: autoslim.archs.resnet\n"
    (own / "typo.yaml").write_text(schema + "name: typo\ndept: 14\n")
    assert refused(place, "--config-dir", "mine", "arch=typo").startswith(
        "in the config file arch/typo: unknown key arch.dept. Did you mean arch.depth?"
    )
    (own / "broken.yaml").write_text("name: [a\n")
    message = refused(place, "--config-dir", "mine", "arch=broken")
    assert message.startswith("not valid YAML: ") and "broken.yaml" in message and "line 2" in message
    (own / "good.yaml").write_text(schema + "name: good\ndepth: 14\n")
    assert "stages good 0 (0.5,) single" in call(place, "--config-dir", "mine", "arch=good").stdout
    assert "nowhere" in refused(place, "--config-dir", "nowhere")


def test_hydra_flags_that_do_not_go_together(place: Path) -> None:
    assert "--multirun" in refused(place, "--multirun", "--cfg", "job")


def test_what_hydra_itself_does_not_expect(place: Path) -> None:
    message = refused(place, "--multirun", "hydra.sweeper.params={slim.target: 0.5}")
    assert "hydra.sweeper.params" in message and "HYDRA_FULL_ERROR=1" in message


def test_full_traceback_on_request(place: Path) -> None:
    env = {**environment(place), "HYDRA_FULL_ERROR": "1"}
    command = [sys.executable, "-m", "autoslim", "slim.tagret=1"]
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_single_run_and_its_folder(place: Path) -> None:
    done = call(place, "arch=wresnet16_1", "slim.target=[0.3,0.7]", "output=there")
    assert done.returncode == 0, done
    assert done.stdout == "stages wresnet16_1 0 (0.7, 0.3) single\n" and done.stderr == ""
    (folder,) = (place / "there" / "runs").iterdir()
    assert {"job.json", "autoslim.log", ".hydra"} == {path.name for path in folder.iterdir()}
    record = json.loads((folder / "job.json").read_text())
    assert record["status"] == "done" and [row["network"] for row in record["rows"]] == ["baseline"] + 2 * [
        "autoslim"
    ]
    assert sorted(path.name for path in place.iterdir()) == ["there"]


def test_a_mistake_stands_in_the_log_file(place: Path) -> None:
    refused(place, "slim.target=2")
    (log,) = place.glob("outputs/runs/*/autoslim.log")
    assert "ERROR autoslim.cli: slim.target=2 is outside (0, 1]" in log.read_text()


def test_a_defect_keeps_its_traceback(place: Path) -> None:
    done = call(place, "seed=14")
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "RuntimeError: a defect" in done.stderr


def test_own_module_in_the_current_folder(place: Path) -> None:
    (place / "my").mkdir()
    (place / "my" / "module.py").write_text("def net(): return 'net'\n")
    program = Path(sys.executable).with_name(
        "autoslim"
    )  # the command, which does not put the current folder first
    args = [
        str(program),
        "arch=custom",
        "arch._target_=my.module.net",
        "arch.name=mymodule",
        "+arch.args.depth=3",
    ]
    done = subprocess.run(
        args, cwd=place, env=environment(place), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "own module net" in done.stdout, done


@pytest.mark.parametrize("extra", [(), ("--multirun", "seed=0,17")], ids=["single", "sweep"])
def test_ctrl_c(place: Path, extra: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "autoslim", *(extra or ("seed=17",))]
    process = subprocess.Popen(
        command, cwd=place, env=environment(place), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line == "waiting\n":
                break
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    lines = errors.splitlines()
    assert lines[0] == "autoslim: stopped. The same command goes on where it stopped."
    assert "Traceback" not in errors
    assert len(lines) == 1 or lines[-2].endswith("(seed=17): interrupted from the keyboard")
    assert not extra or "Summary: " in output


def sweep_folder(place: Path) -> Path:
    (folder,) = (place / "outputs" / "runs").iterdir()
    assert folder.name.startswith("sweep-")
    return folder


def check_summary(folder: Path) -> None:
    """Seeds 0, 1, 2 and a failing 13, targets 0.7 and 0.5."""
    data = json.loads((folder / "summary.json").read_text())
    assert [job["number"] for job in data["jobs"]] == list(range(8))
    assert {job["status"] for job in data["jobs"] if "seed=13" in job["overrides"]} == {"failed"}
    by_name = {(group["network"], group["target"]): group for group in data["groups"]}
    assert list(by_name) == [("baseline", None), ("autoslim", 0.7), ("autoslim", 0.5)]
    baseline = by_name["baseline", None]
    assert baseline["n"] == 3 and baseline["seeds"] == [
        0,
        1,
        2,
    ]  # shared by both targets, counted once per seed
    half = by_name["autoslim", 0.5]
    assert half["mean"]["metric"] == pytest.approx(0.81)
    assert half["std"]["metric"] == pytest.approx(0.01)
    assert half["mean"]["flops"] == pytest.approx(500001)
    assert half["std"]["flops"] == pytest.approx(statistics.stdev([500000, 500001, 500002]))
    assert half["std"]["params"] == 0
    with (folder / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["n"] for row in rows] == ["3", "3", "3"] and float(rows[2]["metric_std"]) == pytest.approx(
        0.01
    )
    text = (folder / "summary.md").read_text()
    assert "6 of 8 jobs are done." in text and "81.00 ± 1.00" in text and "loss became NaN at step 7." in text


def test_sweep_goes_on_and_says_what_failed(place: Path) -> None:
    done = call(place, "--multirun", "slim.target=0.7,0.5", "seed=0,13,1,2")
    assert done.returncode == 2
    reason = "loss became NaN at step 7. Lower optimizer.learning_rate."
    assert done.stderr.splitlines() == [
        "autoslim: error: 2 of 8 jobs are not done:",
        f"autoslim: error: job 1 (slim.target=0.7 seed=13): {reason}",
        f"autoslim: error: job 5 (slim.target=0.5 seed=13): {reason}",
    ]
    assert "| resnet20 | digits  | autoslim | 0.5    | 3 |" in done.stdout
    assert f"Summary: {sweep_folder(place) / 'summary.md'}" in done.stdout
    check_summary(sweep_folder(place))


@pytest.mark.long
def test_sweep_over_other_settings_keeps_them_apart(place: Path) -> None:
    done = call(place, "--multirun", "slim.levels=4,8", "train.batch_size=64", "seed=0,14")
    assert done.returncode == 2
    assert "RuntimeError: a defect" in done.stderr.splitlines()[-1]
    groups = json.loads((sweep_folder(place) / "summary.json").read_text())["groups"]
    assert {group["settings"] for group in groups} == {"slim.levels=4", "slim.levels=8"}
    assert all(group["std"]["metric"] is None for group in groups)


@pytest.mark.long
def test_sweep_without_failures(place: Path) -> None:
    done = call(place, "--multirun", "seed=0,1")
    assert done.returncode == 0 and done.stderr == ""


def test_sweep_with_a_wrong_value_starts_nothing(place: Path) -> None:
    assert "could not be converted to Float" in refused(place, "--multirun", "slim.min_width=0.5,abc")
    assert not list(place.glob("outputs/runs/*/*/job.json"))


@pytest.mark.slow
def test_sweep_with_joblib(place: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    launcher = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    done = call(place, "--multirun", *launcher, "slim.target=0.7,0.5", "seed=0,13,1,2")
    assert done.returncode == 2, done
    assert done.stderr.splitlines()[0] == "autoslim: error: 2 of 8 jobs are not done:"
    check_summary(sweep_folder(place))


OPTUNA = ("--multirun", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "objective, directions, best",
    [
        pytest.param("objective=top1_at_target", "maximize", "best_value: 0.8", marks=pytest.mark.long),
        ("objective=[top1_at_target,params_at_target]", "[maximize,minimize]", "- 5000.0"),
    ],
)
def test_optuna_looks_for_the_best(place: Path, objective: str, directions: str, best: str) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    done = call(
        place, *OPTUNA, f"hydra.sweeper.direction={directions}", objective, "slim.target=interval(0.3,0.9)"
    )
    assert done.returncode == 0, done.stderr
    assert best in (sweep_folder(place) / "optimization_results.yaml").read_text()


@pytest.mark.long
def test_optuna_hears_of_a_failed_job(place: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    done = call(place, *OPTUNA, "seed=13", "slim.target=interval(0.3,0.9)")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "loss became NaN at step 7." in done.stderr


@pytest.mark.long
def test_sweep_with_joblib_and_a_killed_worker(place: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    done = call(place, "--multirun", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,16")
    assert done.returncode != 0
    assert "job 1 (seed=16): the process died without reporting (killed, or out of memory)" in done.stderr


@pytest.mark.slow
def test_installed_wheel_from_any_folder(tmp_path: Path) -> None:
    root = Path(cli.__file__).parents[2]
    source = tmp_path / "source"
    source.mkdir()
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("src", "conf"):
        shutil.copytree(root / folder, source / folder, ignore=skip)
    for file in ("setup.cfg", "pyproject.toml", "README.md"):
        if (root / file).exists():
            shutil.copy(root / file, source)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path / "wheel"), str(source)], check=True)
    (wheel,) = (tmp_path / "wheel").iterdir()
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    packaged = {path.relative_to(site / "autoslim") for path in (site / "autoslim").rglob("*.py")}
    packaged -= {Path("conf/__init__.py")}
    expected = {path.relative_to(root / "src/autoslim") for path in (root / "src/autoslim").rglob("*.py")}
    assert packaged == expected  # a package missing from setup.cfg shows here
    env = {**os.environ, "PYTHONPATH": str(site)}
    where = [sys.executable, "-c", "import autoslim; print(autoslim.__file__)"]
    started = time.monotonic()
    for command in (where, [sys.executable, "-m", "autoslim", "--cfg", "job", "arch=wresnet40_4"]):
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
        assert str(site) in done.stdout or "widen: 4" in done.stdout
    assert time.monotonic() - started < 60
