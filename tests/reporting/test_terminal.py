"""Headings, tables and progress: in a terminal, in a log, nested, and when an exception passes through."""

import io
import logging
import os
import subprocess
import sys

import pytest
from rich.console import Console
from rich.table import Table

from autoslim.reporting import terminal
from autoslim.reporting.network import NetworkResult
from autoslim.resources import Cost


class Clock:
    """A clock that stands still until it is told."""

    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(terminal, "time", clock)
    return clock


def test_lines_of_jobs_side_by_side_begin_with_their_names(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "console", Console(width=40))
    for name in ("job 0", "job 1"):  # a worker takes one job after the other
        terminal.name_lines(name)
        assert not terminal.console.is_terminal
        terminal.heading("search", "in a folder")
        terminal.console.print("cut", end="")
        terminal.console.print(" in two")
    lines = capsys.readouterr().out.splitlines()
    assert [line.rstrip() for line in lines] == [
        line
        for name in ("job 0", "job 1")
        for line in (f"{name} | search  in a folder", f"{name} | cut in two")
    ]


@pytest.fixture
def plain(monkeypatch):
    console = Console(file=io.StringIO(), width=120, highlight=False)
    monkeypatch.setattr(terminal, "console", console)
    return console


@pytest.fixture
def tty(monkeypatch):
    console = Console(file=io.StringIO(), width=140, force_terminal=True, highlight=False)
    monkeypatch.setattr(terminal, "console", console)
    return console


def lines(caplog):
    return [record.message for record in caplog.records if record.name == "autoslim"]


@pytest.fixture(autouse=True)
def info(caplog):
    caplog.set_level(logging.INFO, logger="autoslim")


def test_a_line_every_ten_seconds_and_one_at_the_end(clock, plain, caplog):
    with terminal.progress("supernet", total=110, start=10) as advance:
        for _ in range(100):
            clock.now += 0.25
            advance(loss=0.5, arm="smallest")
    assert lines(caplog) == [
        "supernet: 50/110 steps (45%), 4 step/s, 0:15 left, loss 0.5  arm smallest",
        "supernet: 90/110 steps (82%), 4 step/s, 0:05 left, loss 0.5  arm smallest",
        "supernet: 110/110 steps in 0:25, 4 step/s, loss 0.5  arm smallest",
    ]
    assert plain.file.getvalue() == ""


def test_the_rate_is_recent(clock, plain, caplog):
    with terminal.progress("training", total=1000) as advance:
        clock.now += 600  # the first step compiles
        advance()
        for _ in range(200):
            clock.now += 1
            advance()
    assert lines(caplog)[0] == "training: 1/1,000 steps (0%)"
    assert lines(caplog)[1] == "training: 11/1,000 steps (1%), 1 step/s, 16:29 left"
    assert lines(caplog)[-2] == "training: 201/1,000 steps (20%), 1 step/s, 13:19 left"


def test_short_work_says_nothing(clock, plain, caplog):
    with terminal.progress("calibration", total=4) as advance:
        clock.now += 4.9
        advance(4)
    assert lines(caplog) == []


def test_without_a_total_and_slow(clock, plain, caplog):
    with terminal.progress("search", total=None, unit="candidate") as advance:
        clock.now += 20
        advance(2)
    assert lines(caplog) == [
        "search: 2 candidates",
        "search: 2 candidates in 0:20, 10 s/candidate",
    ]


def test_a_sign_has_no_plural(clock, plain, caplog):
    with terminal.progress("search", total=900, unit="‰") as advance:
        clock.now += 20
        advance(900)
    assert lines(caplog)[-1] == "search: 900/900 ‰ in 0:20, 45 ‰/s"


def test_an_exception_passes_and_says_where_it_stopped(clock, plain, caplog):
    with pytest.raises(KeyboardInterrupt), terminal.progress("baseline", total=10) as advance:
        clock.now += 8
        advance(3)
        raise KeyboardInterrupt
    assert lines(caplog) == ["baseline: stopped at 3/10 steps in 0:08, 2.67 s/step"]
    assert terminal._shared.depth == 0


def test_nested_lines_share_the_interval(clock, plain, caplog):
    with terminal.progress("search", total=2) as outer:
        for _ in range(2):
            with terminal.progress("candidates", total=10, unit="candidate") as inner:
                for _ in range(10):
                    clock.now += 1.5
                    inner()
            outer()
    assert [line.split(",")[0] for line in lines(caplog)] == [
        "candidates: 7/10 candidates (70%)",
        "candidates: 4/10 candidates (40%)",
        "search: 2/2 steps in 0:30",
    ]


def test_nested_bars_share_one_display(tty, caplog):
    with terminal.progress("outer [0.5]", total=2) as outer:
        display = terminal._shared.display
        with terminal.progress("inner", total=3) as inner:
            assert terminal._shared.display is display and len(display.tasks) == 2
            inner(2, loss=0.125)
            display.refresh()
            written = tty.file.getvalue()
            assert "outer [0.5]" in written and "2/3" in written and "loss 0.125" in written
        assert len(display.tasks) == 1
        outer()
    assert terminal._shared.display is None and not display.live.is_started
    assert lines(caplog) == []


def test_a_bar_is_taken_down_by_an_exception(tty):
    with pytest.raises(ZeroDivisionError), terminal.progress("outer", total=2):
        display = terminal._shared.display
        with terminal.progress("inner", total=2):
            raise ZeroDivisionError
    assert not display.live.is_started and terminal._shared.display is None and terminal._shared.depth == 0
    with terminal.progress("again", total=1) as advance:
        advance()


def test_log_records_go_above_the_bar(tty):
    handler = terminal.TerminalHandler()
    with terminal.progress("training", total=2):
        handler.emit(
            logging.LogRecord("autoslim", logging.WARNING, "", 0, "no [rule] covers %s", ("x",), None)
        )
    assert "no [rule] covers x" in tty.file.getvalue()


def result(network, target, top1, flops):
    cost = Cost({"flops": flops, "params": 270_000, "memory": 131_072})
    return NetworkResult(network, target, top1, 0.3, cost, {"conv": 8}, "/out/x")


FULL = Cost({"flops": 40_000_000, "params": 540_000, "memory": 262_144})


def test_the_final_table(plain):
    results = [result("uniform", 0.5, 0.9, 19_990_000), result("autoslim", 0.5, 0.91234, 20_000_000)]
    terminal.show(terminal.results_table([*results, result("baseline", None, 0.93, 40_000_000)], FULL))
    rows = [line.split() for line in plain.file.getvalue().splitlines() if line.strip()]
    assert rows[0] == ["network", "top-1", "%", "FLOPs", "params", "memory", "FLOPs", "/", "full"]
    assert rows[2] == ["baseline", "93.00", "40", "M", "270", "k", "128", "KiB", "1.000"]
    assert rows[3] == ["AutoSlim", "0.5", "91.23", "20", "M", "270", "k", "128", "KiB", "0.500"]
    assert rows[4] == ["uniform", "0.5", "90.00", "20", "M", "270", "k", "128", "KiB", "0.500"]


def test_long_paths_stay_whole(plain):
    terminal.heading("supernet", "already done")
    terminal.where({"report": "/" + "a" * 200, "TensorBoard": "tensorboard --logdir outputs"})
    text = plain.file.getvalue()
    assert "supernet  already done\n" in text
    assert "report       /" + "a" * 200 + "\n" in text


def test_a_row_has_what_a_sweep_gathers():
    row = result("autoslim", 0.5, 0.9, 20_000_000).row(FULL)
    keys = ("network", "target", "metric", "flops", "params", "memory", "folder")
    assert [row[key] for key in keys] == ["autoslim", 0.5, 0.9, 20_000_000, 270_000, 131_072, "/out/x"]
    assert (row["flops_share"], row["params_share"], row["memory_share"]) == (0.5, 0.5, 0.5)


def test_tensorflow_is_not_imported():
    code = (
        "import sys, autoslim.reporting.terminal; print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.split() == ["False", "False"]


def test_no_column_is_lost_in_a_narrow_terminal():
    head = ["format", "network", *(f"figure {n} of many" for n in range(6))]
    table = Table()
    for place, title in enumerate(head):
        table.add_column(title, justify="left" if place < 2 else "right", no_wrap=True)
    rows = [["onnx", f"net{row}", *(f"{row}{n}00.25" for n in range(6))] for row in (1, 2)]
    for row in rows:
        table.add_row(*row)
    held = io.StringIO()
    narrow = Console(file=held, width=80, force_terminal=True, color_system=None)
    parts = terminal.fitted(table, narrow)
    narrow.print(*parts)
    lines = held.getvalue().splitlines()
    assert len(parts) > 1 and max(map(len, lines)) <= 80
    for text in [*head, *(cell for row in rows for cell in row)]:
        assert text in held.getvalue()
    assert held.getvalue().count("net1") == len(parts)
    assert terminal.fitted(table, Console(width=200, force_terminal=True)) == [table]


def test_the_first_estimate_does_not_count_what_compiles(clock, plain, caplog):
    with terminal.progress("training", total=100) as advance:
        clock.now += 60
        advance()
        assert "1/100 steps (1%)" in caplog.text and "left" not in caplog.text
        for _ in range(2):
            clock.now += 10
            advance()
    assert "3/100 steps (3%), 10 s/step, 16:10 left" in caplog.text
