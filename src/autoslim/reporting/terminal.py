"""The terminal: headings, progress, the final table, and where everything lies.

In a terminal and in a notebook, progress is a bar; elsewhere (a log file, a batch system, a pipe) it is a
line of the logger ``autoslim`` now and then. Nothing here imports TensorFlow.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import html
import itertools
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TextIO, cast

from rich import box
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column, Table
from rich.text import Text

from autoslim.reporting import units
from autoslim.reporting.network import NetworkResult, in_order, measure_of
from autoslim.resources import COUNTED, RESOURCES, Cost
from autoslim.streams import NamedLines

log = logging.getLogger("autoslim")

LINE_SECONDS = 10.0  # between two lines of progress, at least
SHORT_SECONDS = 5.0  # what takes less leaves no line
CELL_SECONDS = 0.5  # between two drawings of a notebook's bar
WINDOW_SECONDS = 60.0  # the rate is measured over this many of the last seconds
PLAIN_WIDTH = 120  # columns where the output is not a terminal


def _console() -> Console:
    """A console on standard output; where that isn't a terminal, of a fixed width that cuts nothing off."""
    terminal = sys.stdout is not None and sys.stdout.isatty()  # None: the process was started without one
    plain = not terminal and "COLUMNS" not in os.environ
    return Console(highlight=False, markup=False, width=PLAIN_WIDTH if plain else None)


console = _console()


def name_lines(name: str) -> None:
    """Begin every line with a name from here on: for jobs that run side by side. Progress is in lines."""
    console.file = cast("TextIO", NamedLines(sys.stdout, name))


def heading(stage: str, detail: str = "") -> None:
    """Begin a stage: its name, and in a few words what it does or where it is found done."""
    title = Text.assemble((stage, "bold cyan"), ("  " + detail if detail else "", "default"))
    console.print()
    console.print(title, soft_wrap=True)


def show(*renderables: RenderableType) -> None:
    """Print tables; where the output is not a terminal, as wide as they need, else in parts that fit."""
    width = console.width
    for renderable in _fitting(renderables):
        if not console.is_terminal:
            needed = Measurement.get(console, console.options.update(max_width=10_000), renderable).maximum
            console.width = max(width, needed)
        console.print(renderable)
    if not console.is_terminal:
        console.width = width


def _fitting(renderables: Sequence[RenderableType]) -> Iterator[RenderableType]:
    """The same, with tables that are wider than the terminal cut between columns: none is lost."""
    for one in renderables:
        if console.is_terminal and isinstance(one, Table):
            yield from fitted(one, console)
        else:
            yield one


def fitted(table: Table, where: Console) -> list[Table]:
    """A table in as many parts, one below the other, as a console's width asks for; each begins with names.

    Args:
        table: whose first columns, those that are not right-aligned, name its rows.
        where: it is to be printed.
    """
    if _least(table, where) <= where.width:
        return [table]
    names = list(itertools.takewhile(lambda column: column.justify == "left", table.columns))[:2]
    parts: list[list[Column]] = [[]]
    for column in table.columns[len(names) :]:
        if parts[-1] and _least(_of_columns(table, [*names, *parts[-1], column]), where) > where.width:
            parts.append([])
        parts[-1].append(column)
    return [_of_columns(table, [*names, *part]) for part in parts]


def _least(table: Table, where: Console) -> int:
    """Columns of characters that a table needs: all that it may have, less what its columns may wrap."""

    def measured(one: Table) -> Measurement:
        return Measurement.get(where, where.options.update(max_width=10_000), one)

    loose = [measured(_of_columns(table, [column])) for column in table.columns if not column.no_wrap]
    return measured(table).maximum - sum(column.maximum - column.minimum for column in loose)


def _of_columns(table: Table, columns: Sequence[Column]) -> Table:
    """A table of some columns of another one."""
    part = copy.copy(table)
    part.columns = [dataclasses.replace(column, _index=place) for place, column in enumerate(columns)]
    for new, old in zip(part.columns, columns, strict=True):
        new._cells = old._cells
    return part


class TerminalHandler(logging.Handler):
    """Log records through `console`, so that they stand above a progress bar and don't break it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            style = (
                "red"
                if record.levelno >= logging.ERROR
                else "yellow"
                if record.levelno >= logging.WARNING
                else ""
            )
            console.print(Text(self.format(record), style=style), soft_wrap=True)
        except Exception:
            self.handleError(record)


def line(text: str) -> None:
    """Print a line, whole."""
    console.print(Text(text), soft_wrap=True)


def where(paths: Mapping[str, Any]) -> None:
    """Say where things lie: {what: path}, each path whole and on a line of its own."""
    wide = max((len(name) for name in paths), default=0)
    for name, path in paths.items():
        console.print(Text.assemble((f"{name:<{wide}}  ", "dim"), str(path)), soft_wrap=True)


def last_lines(warnings: Sequence[str], sentences: Sequence[str]) -> None:
    """End a run: its warnings once more, then what came out."""
    for text in warnings:
        console.print(Text(f"warning, {text}", style="yellow"), soft_wrap=True)
    for text in sentences:
        console.print(Text(text, style="bold"), soft_wrap=True)


def results_table(results: Sequence[NetworkResult], full: Cost, resource: str = "flops") -> Table:
    """The final table: every network, its accuracy, its cost, and its share of the resource; for `show`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("network", no_wrap=True)
    heads = [RESOURCES[name].head for name in COUNTED]
    for title in (measure_of(results).head, *heads, f"{RESOURCES[resource].label} / full"):
        table.add_column(title, justify="right", no_wrap=True)
    for result in in_order(list(results)):
        table.add_row(
            result.label,
            result.measure.number(result.metric),
            *(units.amount(amount, name) for name, amount in result.cost.counted.items()),
            f"{result.share(resource, full):.3f}",
            style="bold" if result.kind == "autoslim" else "",
        )
    return table


# -- progress ------------------------------------------------------------------------------------------


class Advance(Protocol):
    """What `progress` yields."""

    def __call__(self, n: int = 1, /, **info: Any) -> None:
        """`n` more units are done; `info`: what to show next to the bar, numbers or text."""


class _Meter:
    """Counts units and measures the recent rate."""

    def __init__(self, total: int | None, start: int, unit: str) -> None:
        self.total, self.done, self.unit = total, start, unit
        self.units = f"{unit}s" if unit.isalpha() else unit  # a sign such as ‰ has no plural
        self.begun = time.monotonic()
        self.start = start
        self.info: dict[str, Any] = {}
        self._marks: deque[tuple[float, int]] = deque()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.begun

    def advance(self, n: int, info: dict[str, Any]) -> None:
        self.done += n
        self.info.update(info)
        now = time.monotonic()
        if not self._marks or now - self._marks[-1][0] >= 1.0:
            self._marks.append((now, self.done))
            while len(self._marks) > 2 and now - self._marks[1][0] > WINDOW_SECONDS:
                self._marks.popleft()

    def rate(self) -> float:
        """Units a second, over the last minute; 0: not known yet. What compiles is left out."""
        then, done = self._marks[0] if self._marks else (self.begun, self.start)
        passed = time.monotonic() - then
        return (self.done - done) / passed if passed > 0 else 0.0

    def left(self) -> float | None:
        """Seconds to go, if that can be known."""
        speed = self.rate()
        return (self.total - self.done) / speed if self.total is not None and speed > 0 else None

    def count(self) -> str:
        """ "done/total"."""
        return f"{self.done:,}" if self.total is None else f"{self.done:,}/{self.total:,}"

    def line(self) -> str:
        """Where things stand."""
        left = self.left()
        share = f"({self.done / self.total:.0%})" if self.total else ""
        eta = f"{units.duration(left)} left" if left is not None else ""
        head = f"{self.count()} {self.units} {share}".rstrip()
        parts = (head, units.rate(self.rate(), self.unit), eta, _info_text(self.info))
        return ", ".join(part for part in parts if part)

    def end(self, failed: bool) -> str:
        """What there was in all."""
        speed = units.rate((self.done - self.start) / max(self.elapsed, 1e-9), self.unit)
        head = (
            f"{'stopped at ' if failed else ''}{self.count()} {self.units} in {units.duration(self.elapsed)}"
        )
        return ", ".join(part for part in (head, speed, _info_text(self.info)) if part)


def _info_text(info: Mapping[str, Any]) -> str:
    """`info` as text. Numbers are read here, when they are shown: no step waits for a tensor's value."""
    return "  ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in info.items())


def _value(value: Any) -> str:
    if isinstance(value, str | int):
        return str(value)
    try:
        return f"{float(value):.4g}"
    except (TypeError, ValueError):
        return str(value)


class _Meters(ProgressColumn):
    """A column of text out of a task's meter."""

    def __init__(self, read: Callable[[_Meter], str], style: str = "") -> None:
        super().__init__()
        self._read, self._style = read, style

    def render(self, task: Task) -> Text:
        return Text(self._read(task.fields["meter"]), style=self._style, no_wrap=True, overflow="ellipsis")


def _display() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        _Meters(_Meter.count),
        _Meters(lambda meter: units.rate(meter.rate(), meter.unit), "cyan"),
        _Meters(lambda meter: units.duration(left) if (left := meter.left()) is not None else "-:--"),
        _Meters(lambda meter: _info_text(meter.info), "dim"),
        console=console,
        transient=True,
        refresh_per_second=5,
    )


class _Shared:
    """What bars within bars share: the one live display, and the time of the last line."""

    def __init__(self) -> None:
        self.depth = 0
        self.display: Progress | None = None
        self.last_line = 0.0


_shared = _Shared()


@contextlib.contextmanager
def progress(description: str, total: int | None, start: int = 0, unit: str = "step") -> Iterator[Advance]:
    """Show how far something is: a bar with rate and time to go, or a log line at times.

    The bar is in a terminal or in a notebook. Elsewhere there is at most one line in 10 seconds. What took 5
    seconds or more leaves one line at its end, also where an exception ended it. A bar within a bar joins the
    outer one's display and leaves no line of its own.

    >>> with progress("training", total=2) as advance:
    ...     advance(loss=0.5)
    ...     advance(loss=0.25)

    Args:
        description: what is going on.
        total: units in all, `start` included; None: unknown.
        start: units that were done before, in a run that goes on.
        unit: what is counted, singular.

    Yields:
        `advance(n=1, **info)`.
    """
    meter = _Meter(total, start, unit)
    outermost = _shared.depth == 0
    if outermost:
        _shared.last_line = meter.begun
    _shared.depth += 1
    show = _bar if console.is_terminal else _cell if console.is_jupyter else _lines
    failed = True
    try:
        with show(description, meter) as advance:
            yield advance
        failed = False
    finally:
        _shared.depth -= 1
        if outermost and meter.elapsed >= SHORT_SECONDS:
            log.info("%s: %s", description, meter.end(failed))


@contextlib.contextmanager
def _bar(description: str, meter: _Meter) -> Iterator[Advance]:
    """A bar in the live display; whoever comes first owns the display."""
    owner = _shared.display is None
    display = _shared.display = _shared.display or _display()
    task = display.add_task(description, total=meter.total, completed=meter.start, meter=meter)

    def advance(n: int = 1, /, **info: Any) -> None:
        meter.advance(n, info)
        display.advance(task, n)

    try:
        if owner:
            display.start()
        yield advance
    finally:
        if owner:
            _shared.display = None
            display.stop()
        else:
            display.remove_task(task)


@contextlib.contextmanager
def _cell(description: str, meter: _Meter) -> Iterator[Advance]:
    """A bar under the cell of a notebook; it stays, with what there was in all."""
    from IPython import display  # a notebook has it

    def shown(text: str) -> display.HTML:
        share = meter.done / meter.total if meter.total else 0.0
        bar = f'<progress value="{share:.3f}" style="width:16em"></progress>'
        return display.HTML(f"{bar} {html.escape(f'{description}: {text}')}")

    handle = display.display(shown(meter.line()), display_id=True)
    last, failed = 0.0, True

    def advance(n: int = 1, /, **info: Any) -> None:
        nonlocal last
        meter.advance(n, info)
        if time.monotonic() - last >= CELL_SECONDS:
            last = time.monotonic()
            handle.update(shown(meter.line()))

    try:
        yield advance
        failed = False
    finally:
        handle.update(shown(meter.end(failed)))


@contextlib.contextmanager
def _lines(description: str, meter: _Meter) -> Iterator[Advance]:
    """A log line when the last one, of whatever bar, is long enough ago."""

    def advance(n: int = 1, /, **info: Any) -> None:
        meter.advance(n, info)
        now = time.monotonic()
        if now - _shared.last_line >= LINE_SECONDS and meter.done != meter.total:
            _shared.last_line = now
            log.info("%s: %s", description, meter.line())

    yield advance
