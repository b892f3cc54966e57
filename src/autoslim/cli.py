"""The command line: compose, validate, run the stages; one line for every mistake; a summary after a sweep.

TensorFlow is imported by the stages, after the configuration was found good. Exit status: 0 done, 2 bad input
or a job of a sweep failed, 130 interrupted, 1 anything else (with its traceback).
"""

import io
import logging
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from autoslim import __version__, sweep
from autoslim.config import check_folder, check_overrides, documentation, validate
from autoslim.errors import AutoslimError
from autoslim.interruption import STATUS as INTERRUPTED
from autoslim.interruption import exit_at_signals, interruptible
from autoslim.kinds import kind_of
from autoslim.messages import FAMILY, describe, one_line
from autoslim.objective import objective
from autoslim.schema import Config
from autoslim.startup import import_tensorflow
from autoslim.storage import files_needed
from autoslim.streams import keep_streams
from autoslim.writing import sweep_dead_parts, system_reason

log = logging.getLogger(__name__)

LIBRARIES = ("tensorflow", "keras", "hydra-core")

GROUPS = {
    "arch": "arch",
    "dataset": "dataset",
    "optimizer": "optimizer",
    "slimming": "slim",
    "retrain": "retrain",
}
"""The config groups and the keys at which they stand."""

KEYS = (
    "seed",
    "stages",
    "output",
    "baseline.epochs",
    "supernet.epochs",
    "supernet.arms",
    "retrain.epochs",
    "retrain.init",
    "train.batch_size",
    "train.strategy",
    "train.precision",
    "slim.target",
    "slim.resource",
    "slim.levels",
    "slim.min_width",
    "slim.divisor",
    "slim.freeze",
    "slim.channels",
    "dataset.path",
    "export.formats",
)
"""The keys that ``--help`` explains."""

_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
"""Hydra's own sweeper, which makes nothing of what jobs return."""
_BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
"""Hydra's own launcher, which runs one job after the other in this process."""


@dataclass
class _Call:
    """What one call of :func:`main` learns on the way, in this process."""

    started: bool = False  # the task function was entered: the configuration was composed
    error: BaseException | None = None  # what stopped a single run, for one line on stderr
    sweep: Path | None = None  # the folder of the sweep


_call = _Call()


class SweepFolder(Callback):
    """Notes the folder of a sweep, whose summary :func:`main` writes after the launcher is through."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra's call before the jobs."""
        _call.sweep = Path(config.hydra.sweep.dir).absolute()


def help_groups() -> str:
    """One line per config group: its name, meaning and options; recipes are added, with a plus sign."""
    docs, root = documentation(), resources.files("autoslim.conf")
    wrap = textwrap.TextWrapper(width=100, subsequent_indent=" " * 13)
    meanings = {group: docs[key] for group, key in GROUPS.items()} | {"+recipe": "values that go together"}
    lines = []
    for group, meaning in meanings.items():
        folder = root.joinpath(group.removeprefix("+"))
        files = sorted(item.name for item in folder.iterdir() if item.name.endswith(".yaml"))
        options = ", ".join(name.removesuffix(".yaml") for name in files)
        lines.append(wrap.fill(f"  {group:<11}{meaning}: {options}"))
    return "\n".join(lines)


def help_keys() -> str:
    """A line or two per key of ``KEYS`` with what it means."""
    docs, indent = documentation(), " " * 20
    wrap = textwrap.TextWrapper(width=100, subsequent_indent=indent)
    return "\n".join(wrap.fill(f"  {key:<18}{docs[key]}") for key in KEYS)


OmegaConf.register_new_resolver("autoslim_groups", help_groups, replace=True)
OmegaConf.register_new_resolver("autoslim_keys", help_keys, replace=True)


def versions() -> str:
    """This package's version, and those of the libraries that its results depend on.

    >>> versions().startswith("autoslim ")
    True
    """
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    return f"autoslim {__version__} ({libraries})"


def _see_current_folder() -> None:
    """Let ``arch._target_=my.module.net`` find a module in the folder where the command was typed."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _write_to_log_file(message: str) -> None:
    """An error into the run's log file alone; the terminal gets it from :func:`main`."""
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, message, (), None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def _run(config: Config, folder: Path, in_sweep: bool, record: sweep.Job) -> None:
    """The stages of one job; what came out goes into the record."""
    record.arch, record.dataset, record.seed = config.arch.name, config.dataset.name, config.seed
    record.write(folder)
    os.environ["MPLBACKEND"] = "agg"  # figures are files: no window, whatever is set
    sweep_dead_parts(Path(config.output))
    import_tensorflow()  # seconds
    from autoslim.reporting.terminal import name_lines
    from autoslim.stages import run_stages

    if in_sweep and HydraConfig.get().launcher._target_ != _BASIC_LAUNCHER:
        name_lines(f"job {record.number}")
    outcome = run_stages(config, run_dir=folder, sweep=in_sweep)
    record.rows, record.folders = list(outcome.rows), dict(outcome.folders)
    if in_sweep:
        from autoslim.reporting.tensorboard import write_hparams

        write_hparams(folder, record.overrides, record.rows)


def _checked(cfg: DictConfig, settings: HydraConf, overrides: Sequence[str]) -> Config:
    """A job's configuration, with what Hydra takes without a word refused."""
    for source in settings.runtime.config_sources:
        if source.schema == "file":
            check_folder(source.path)
    check_overrides(overrides)
    return validate(cfg)


def job(cfg: DictConfig) -> float | list[float] | None:
    """Hydra's task function: one job, in this process or in a launcher's worker.

    It does not raise what it can report: in a sweep nothing at all, so that every launcher goes on with the
    other jobs; in a single run nothing of ``FAMILY``, which :func:`main` prints. A sweeper that judges the
    jobs gets the error, or what ``objective`` names.
    """
    _call.started = True
    _see_current_folder()
    settings = HydraConfig.get()
    in_sweep = settings.mode == RunMode.MULTIRUN
    judged = in_sweep and settings.sweeper._target_ != _BASIC_SWEEPER
    folder = Path(settings.runtime.output_dir)
    given: Any = OmegaConf.to_container(settings.overrides.task, resolve=False)  # ${...} as typed
    record = sweep.Job(number=settings.job.num if in_sweep else 0, overrides=given)
    record.status = "failed"  # until it is known better: also what a kill leaves behind
    record.error = "the process died without reporting (killed, or out of memory)"
    logging.raiseExceptions = False  # a full disk is reported once, not by every line for the log file
    try:
        with files_needed(str(folder)):
            record.write(folder)
            config = _checked(cfg, settings, given)
            with files_needed(config.output, config), _exits_refused():
                _run(config, folder, in_sweep, record)
        value = objective(config.objectives, record.rows, kind_of(config.slim.method)) if judged else None
        record.status, record.error = "done", None
        return value
    except KeyboardInterrupt:
        record.status, record.error = "interrupted", "interrupted from the keyboard"
        raise
    except FAMILY as error:
        record.error = describe(error, documentation())
        if in_sweep:
            log.error("job %d failed: %s", record.number, record.error)
            if judged:
                raise
        else:
            _call.error = error
            _write_to_log_file(record.error)
    except Exception as error:
        record.error = f"{type(error).__name__}: {one_line(error)}"
        if judged or not in_sweep:
            raise
        log.exception("job %d failed", record.number)
    finally:
        record.write_if_possible(folder)
    return None


@contextmanager
def _exits_refused() -> Iterator[None]:
    """Within the block, sys.exit in a function of the user's own is an error like others, with its place."""
    try:
        yield
    except SystemExit as end:
        last = traceback.extract_tb(end.__traceback__)[-1]
        raise AutoslimError(
            f"the run was ended by sys.exit({end.code!r}) in {last.filename}, line {last.lineno}: "
            "take that out."
        ) from end


app = hydra.main(version_base="1.3", config_path="pkg://autoslim.conf", config_name="config")(job)


def _say(kind: str, message: str) -> None:
    print(f"autoslim: {kind}{message}", file=sys.stderr, flush=True)


def annotated(text: str, docs: Mapping[str, str]) -> str:
    """A configuration in YAML with each key's line of documentation next to it.

    >>> print(annotated("slim:\\n  target: 0.5\\n", {"slim": "budgets", "slim.target": "a share"}), end="")
    slim:  # budgets
      target: 0.5  # a share
    """
    above: list[tuple[int, str]] = []  # (indentation, key) of the sections that a line stands in
    lines = []
    for line in text.splitlines():
        if match := re.match(r"( *)(\w+):(?: |$)", line):
            above = [one for one in above if one[0] < len(match[1])] + [(len(match[1]), match[2])]
            doc = docs.get(".".join(name for _, name in above))
            line += f"  # {doc}" if doc else ""
        lines.append(line)
    return "\n".join(lines) + "\n"


def _show_configuration() -> None:
    """Hydra's ``--cfg job``, with the documentation of its keys."""
    held = io.StringIO()
    with redirect_stdout(held):
        app()
    text = held.getvalue()
    shown = annotated(text, documentation())
    same = yaml.safe_load(shown) == yaml.safe_load(text)  # not where a value goes over several lines
    print(shown if same else text, end="")


def _wants_configuration(arguments: list[str]) -> bool:
    """Whether they ask for the job's configuration, and for nothing else of Hydra's.

    >>> _wants_configuration(["--cfg", "job"]), _wants_configuration(["--cfg=job", "--resolve"])
    (True, True)
    >>> _wants_configuration(["--cfg", "hydra"]), _wants_configuration(["--cfg", "job", "--package", "slim"])
    (False, False)
    """
    flags = " ".join(text for text in arguments if "=" not in text or text.startswith("-"))
    return re.fullmatch(r"(--resolve )?(--cfg|-c)[ =]job( --resolve)?", flags) is not None


def _call_hydra(full_traceback: bool) -> int:
    """Run Hydra's application; the exit status, after one line on stderr where something was wrong."""
    try:
        if _wants_configuration(sys.argv[1:]):
            _show_configuration()
            return 0
        app()
        if _call.error is not None:
            raise _call.error
    except KeyboardInterrupt:
        _say("", "stopped. The same command goes on where it stopped.")
        return INTERRUPTED
    except FAMILY as error:
        if full_traceback:
            raise
        _say("error: ", describe(error, documentation()))
        return 2
    except OSError as error:
        if _call.started or (error.filename is None and system_reason(error) is None):
            raise
        name = error.filename or "the run's folder"
        _say("error: ", f"cannot write {name}: {error.strerror}. Choose another: output=FOLDER.")
        return 2
    except Exception as error:  # of Hydra and its plugins: while they read what was typed, or over jobs
        if _call.started or full_traceback:
            raise
        key = re.search(r"full_key: (\S+)", str(error))  # where OmegaConf stumbled over a value
        name = f"{key[1]} has a value that can't be read: " if key else ""
        _say("error: ", f"{name}{describe(error)} (HYDRA_FULL_ERROR=1 shows where in Hydra this came up.)")
        return 2
    return 0


def _summarise(folder: Path, cut_short: bool) -> int:
    """Write and print the summary of a sweep; the exit status that its jobs deserve."""
    summary = sweep.summarise(folder)
    if not summary.jobs:
        return 0
    try:
        sweep.write_summary(summary, folder)
        where = f"Summary: {folder / 'summary.md'} (also .csv, .json, .png), every network: results.csv"
    except OSError as error:
        _say("error: ", f"cannot write the summary into {folder}: {error.strerror}.")
        where = ""
    print("\n" + "\n".join(sweep.table_lines(summary)) + f"\n\n{where}", flush=True)
    for line in sweep.failure_lines(summary):
        _say("error: ", line)
    if cut_short:
        _say("error: ", "the sweep ended early: jobs that had not begun are not in the summary.")
    return 2 if summary.failed else 0


def _flags_first(arguments: list[str]) -> list[str]:
    """The same with flags before overrides: Hydra reads no override that stands after a flag after another.

    >>> _flags_first(["seed=0,1", "--multirun", "arch=resnet20"])
    ['--multirun', 'seed=0,1', 'arch=resnet20']
    """
    overrides = [text for text in arguments if not text.startswith("-") and (text[:1] in "+~" or "=" in text)]
    return [text for text in arguments if text not in overrides] + overrides


def main() -> None:
    """``python -m autoslim`` and the command ``autoslim``. Ends the process with an exit status."""
    keep_streams()
    if "--version" in sys.argv[1:]:  # Hydra's own would name itself alone
        print(versions())
        return
    try:
        with interruptible():
            status = _main()
    except KeyboardInterrupt:  # late, while the run was ending
        status = INTERRUPTED
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    exit_at_signals(status)
    sys.exit(status)


def _main() -> int:
    """The exit status of the command in `sys.argv`."""
    global _call
    _call = _Call()
    try:
        _see_current_folder()
    except OSError as error:
        _say("error: ", f"the working folder can't be used ({error.strerror}): go to one that is there.")
        return 2
    sys.argv = ["autoslim", *_flags_first(sys.argv[1:])]  # argparse's messages begin with the name
    wanted = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, in place of printing and ending the process
    status = 1
    try:
        status = _call_hydra(full_traceback=wanted not in (None, "", "0"))
    finally:
        if _call.sweep is not None:
            status = max(status, _summarise(_call.sweep, cut_short=status in (1, INTERRUPTED)))
        os.environ.pop("HYDRA_FULL_ERROR")
        if wanted is not None:
            os.environ["HYDRA_FULL_ERROR"] = wanted
    return status
