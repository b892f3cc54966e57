"""What the benchmarks share: the machine in words, figures kept in a file, tables, and bars to pass."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from autoslim.errors import AutoslimError
from autoslim.reporting.markdown_table import table
from autoslim.stages.store import write_atomically

STARTED = time.strftime("%Y-%m-%d %H:%M:%S")  # of this process; figures with the same stand in one run


def environment() -> str:
    """The machine and the versions in one line."""
    import keras
    import numpy as np
    import tensorflow as tf

    return (
        f"{_processor()}, {os.cpu_count()} CPU cores{_graphics()}, Python {platform.python_version()}, "
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}, NumPy {np.__version__}"
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _graphics() -> str:
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    names = [
        tf.config.experimental.get_device_details(device).get("device_name", "GPU") for device in devices
    ]
    return "".join(f", {name}" for name in names)


def introduce() -> None:
    """Print the machine, and the command that makes these figures."""
    command = shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]])
    print(f"{environment()}\n{command}", flush=True)


def run(main: Callable[[], None]) -> None:
    """A script's `main`, with its errors in a line each."""
    try:
        main()
    except AutoslimError as error:
        sys.exit(f"error: {error}")


class Records:
    """Figures in a JSON file, a record for each key, written one by one: what was stopped goes on.

    Args:
        path: of the file; made when the first record comes.
        settings: what all its records have in common.

    Raises:
        AutoslimError: if the file holds records of other settings, or none at all.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.settings = json.loads(json.dumps(settings))
        self.records: dict[str, dict[str, Any]] = {}
        if path.exists():
            self.records = self._read(path)

    def _read(self, path: Path) -> dict[str, dict[str, Any]]:
        try:
            content = json.loads(path.read_text())
            there, records = content["settings"], content["records"]
        except (ValueError, TypeError, KeyError) as error:
            raise AutoslimError(
                f"{path} holds no figures of a benchmark ({error!r}). Name another file, or remove it."
            ) from error
        for name in sorted(there.keys() | self.settings.keys()):
            if there.get(name) != self.settings.get(name):
                raise AutoslimError(
                    f"{path} holds figures of {name}={there.get(name)}, this run has "
                    f"{name}={self.settings.get(name)}. Name another file with --results."
                )
        return records

    def add(self, path: Path) -> None:
        """Take over what another file has and this one lacks: figures of another process, or machine.

        Raises:
            AutoslimError: if the file holds records of other settings, or none at all.
        """
        self.records = {**self._read(path), **self.records}
        self._write()

    def get(self, key: str, measure: Callable[[], dict[str, Any]], again: bool = False) -> dict[str, Any]:
        """The record under `key`, measured now where there is none, or `again` asks for it."""
        if again or key not in self.records:
            self.put(key, measure())
        return self.records[key]

    def put(self, key: str, figures: dict[str, Any]) -> None:
        """Keep figures with the machine and the start of this process."""
        self.records[key] = {**figures, "run": STARTED, "environment": environment()}
        self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"settings": self.settings, "records": self.records}, indent=1)
        write_atomically(self.path, text + "\n")


class Bar(NamedTuple):
    """A figure that must not be above a limit, or not below it."""

    name: str
    figure: float | None  # None: not measured
    limit: float
    least: bool = False  # whether the limit is the least that the figure may be

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if self.figure is None:
            return "not measured"
        passed = self.figure >= self.limit if self.least else self.figure <= self.limit
        return "pass" if passed else "FAIL"

    @property
    def row(self) -> tuple[str, str, str, str]:
        """Its cells in a table: name, figure, limit, verdict."""
        figure = "-" if self.figure is None else f"{self.figure:.3f}"
        return self.name, figure, f"at {'least' if self.least else 'most'} {self.limit:.3g}", self.verdict


BAR_TITLES = ("bar", "figure", "limit", "")


def show_bars(bars: Iterable[Bar]) -> None:
    """Print every bar with its verdict."""
    rows = [bar.row for bar in bars]
    if rows:
        show_table(BAR_TITLES, rows)


def show_table(titles: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> None:
    """Print a table in Markdown: the first column to the left, the others to the right."""
    print(f"\n{table(titles, rows)}", flush=True)
    if caption:
        print(f"\n{caption}", flush=True)
