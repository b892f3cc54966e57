"""What jobs leave in their folders, and the summary over all of a sweep, or of everything that was run.

Each job, in whatever process, writes ``job.json`` into its run folder. When the launcher is through, the main
process reads them and writes ``summary.md`` and its companions next to them.
"""

import contextlib
import csv
import dataclasses
import importlib.util
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from autoslim.kinds import METHODS, place_of
from autoslim.metrics import TOP1, Metric
from autoslim.reporting import units
from autoslim.resources import COUNTED, RESOURCES
from autoslim.writing import replacing, write_whole

MEASURES = ("metric", *COUNTED)
"""What is averaged over seeds: the metric (top-1, for classes), and costs."""

_SHARED = (
    *("arch", "arch.name", "dataset", "dataset.name", "seed", "slim.target"),  # have columns of their own
    *("stages", "output", "objective", "lock_wait"),  # change no network
)
"""Overrides that do not set groups apart by themselves."""

_METHODS = ("slimming", "slim.method")
"""Overrides that do not either, where they name a method: its networks are named after it."""


@dataclass
class Job:
    """One job: what was asked, what came of it."""

    number: int
    overrides: list[str]
    status: str = "done"  # done, failed or interrupted
    error: str | None = None
    arch: str = "?"
    dataset: str = "?"
    seed: int | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)  # one per network: `NetworkResult.row`
    folders: dict[str, str] = field(default_factory=dict)  # stage name -> its folder

    @property
    def name(self) -> str:
        """Its number and what was asked, as messages and lines name it."""
        return f"job {self.number} ({' '.join(self.overrides) or 'no overrides'})"

    def write(self, folder: Path) -> None:
        """Put the record into ``folder``, as ``job.json``, whole or not at all."""
        write_whole(folder / "job.json", json.dumps(dataclasses.asdict(self), indent=1, default=str) + "\n")

    def write_if_possible(self, folder: Path) -> None:
        """As :meth:`write`; a full disk is reported by the stage that met it, not once more here."""
        with contextlib.suppress(OSError):
            self.write(folder)


class Group(NamedTuple):
    """The same network and settings over several seeds."""

    arch: str
    dataset: str
    network: str  # its kind, a key of `kinds.KINDS`
    target: float | None  # share of the full network's resource that was asked for
    settings: str  # other overrides in which the jobs of the sweep differ
    seeds: tuple[int, ...]
    mean: dict[str, float]  # per measure
    std: dict[str, float | None]  # sample standard deviation (n - 1); None for a single seed
    measure: Metric = TOP1  # what the metric is


class Summary(NamedTuple):
    """Everything that is known after a sweep."""

    jobs: list[Job]
    groups: list[Group]

    @property
    def failed(self) -> list[Job]:
        """The jobs that are not done, whatever stopped them."""
        return [job for job in self.jobs if job.status != "done"]


def read_jobs(folder: Path) -> list[Job]:
    """The records under a sweep's folder, by job number. A record that cannot be read counts as failed."""
    jobs = []
    for path in sorted(folder.glob("**/job.json")):
        try:
            jobs.append(Job(**json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError) as error:
            jobs.append(
                Job(number=-1, overrides=[], status="failed", error=f"{path} cannot be read: {error}")
            )
    return sorted(jobs, key=lambda job: job.number)


def _settings(jobs: Sequence[Job]) -> dict[int, str]:
    """Job number -> the overrides in which the jobs differ, those with columns of their own left out."""
    pairs = {job.number: dict(text.partition("=")[::2] for text in job.overrides) for job in jobs}
    for values in pairs.values():
        for key in _METHODS:
            if values.get(key) in METHODS:
                del values[key]
    keys = sorted({key for values in pairs.values() for key in values if key not in _SHARED})
    varied = [key for key in keys if len({values.get(key) for values in pairs.values()}) > 1]
    return {
        number: " ".join(f"{key}={values[key]}" for key in varied if key in values)
        for number, values in pairs.items()
    }


def _spread(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float | None]]:
    """Mean and sample standard deviation of every measure that all rows have."""
    mean: dict[str, float] = {}
    std: dict[str, float | None] = {}
    for name in MEASURES:
        values = [float(row[name]) for row in rows if row.get(name) is not None]
        if len(values) == len(rows):
            mean[name] = statistics.fmean(values)
            std[name] = statistics.stdev(values) if len(values) > 1 else None
    return mean, std


def group_jobs(jobs: Sequence[Job]) -> list[Group]:
    """Rows of all jobs that are done, gathered over seeds.

    A network that several jobs share (one baseline for all targets) counts once per seed.
    """
    settings = _settings(jobs)
    found: dict[tuple[Any, ...], dict[tuple[Any, ...], Mapping[str, Any]]] = {}
    for job in jobs:
        for row in job.rows if job.status == "done" else ():
            key = (job.arch, job.dataset, row["network"], row.get("target"), settings[job.number])
            found.setdefault(key, {}).setdefault((job.seed, row.get("folder") or job.number), row)
    groups = []
    for key, rows in found.items():
        mean, std = _spread(list(rows.values()))
        measures = [Metric(**row["measure"]) for row in rows.values() if "measure" in row]
        measure = measures[0] if measures else TOP1
        groups.append(Group(*key, tuple(seed for seed, _ in rows), mean, std, measure))
    return sorted(
        groups,
        key=lambda g: (g.arch, g.dataset, g.settings, -(g.target or 2.0), place_of(g.network)),
    )


def summarise(folder: Path) -> Summary:
    """Read all jobs of a sweep and gather them over seeds."""
    jobs = read_jobs(folder)
    return Summary(jobs, group_jobs(jobs))


def _measured(group: Group, name: str) -> str:
    """Mean and deviation as people read them; ``-`` where nothing was measured."""
    if name not in group.mean:
        return "-"
    mean, std = group.mean[name], group.std[name]
    if name == "metric":
        scale, digits = (100.0, 2) if group.measure.percent else (1.0, 4)
        shown = [f"{value * scale:.{digits}f}" for value in (mean, std or 0.0)]
    else:
        shown = [units.amount(value, name) for value in (mean, std or 0.0)]
    return " ± ".join(shown if std else shown[:1])


def table_lines(summary: Summary) -> list[str]:
    """The groups as a Markdown table whose columns also line up in a terminal."""
    if not summary.groups:
        why = (
            ""
            if summary.failed
            else ": the stages that were run test no network (baseline, retrain and uniform do)"
        )
        return [f"No job has a result{why}."]
    heads = {group.measure.head for group in summary.groups}
    title = heads.pop() if len(heads) == 1 else "metric"
    costs = [RESOURCES[name].head for name in COUNTED]
    head = ["arch", "dataset", "network", "target", "n", title, *costs, "settings"]
    rows = [head]
    for g in summary.groups:
        target = "-" if g.target is None else f"{g.target:g}"
        cells = [_measured(g, name) for name in MEASURES]
        rows.append([g.arch, g.dataset, g.network, target, str(len(g.seeds)), *cells, g.settings])
    if not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    return ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]


def failure_lines(summary: Summary) -> list[str]:
    """How many jobs failed, then each with its overrides and the reason."""
    if not summary.failed:
        return []
    lines = [f"{len(summary.failed)} of {len(summary.jobs)} jobs are not done:"]
    return lines + [f"{job.name}: {job.error}" for job in summary.failed]


def _csv(summary: Summary) -> str:
    """One line per group, full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    measured = [f"{name}_{kind}" for name in MEASURES for kind in ("mean", "std")]
    writer.writerow(["arch", "dataset", "network", "target", "settings", "n", "seeds", "measure", *measured])
    for g in summary.groups:
        numbers = [part.get(name) for name in MEASURES for part in (g.mean, g.std)]
        seeds = " ".join(map(str, g.seeds))
        writer.writerow(
            [
                g.arch,
                g.dataset,
                g.network,
                g.target,
                g.settings,
                len(g.seeds),
                seeds,
                g.measure.name,
                *numbers,
            ]
        )
    return text.getvalue()


def _results(summary: Summary) -> list[dict[str, Any]]:
    """A row for each network of each job."""
    rows = [
        {"job": job.number, "arch": job.arch, "dataset": job.dataset, "seed": job.seed, **row}
        for job in summary.jobs
        for row in job.rows
    ]
    rows = [{**row, "measure": row.get("measure", {}).get("name")} for row in rows]
    settings = _settings(summary.jobs)
    return [{**row, "settings": settings[row["job"]]} for row in rows]


def _results_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line for each network of each job."""
    text = io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys(key for row in rows for key in row), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_summary(summary: Summary, folder: Path, title: str = "Summary of the sweep") -> None:
    """Write ``summary.md``, ``.csv``, ``.json``, a figure and ``results.csv`` into a folder.

    ``results.parquet`` too, where pyarrow is installed.
    """
    done = len(summary.jobs) - len(summary.failed)
    lines = [f"# {title}", "", f"{done} of {len(summary.jobs)} jobs are done.", ""]
    lines += table_lines(summary)
    lines += ["", "![The metric against FLOPs](summary.png)"] if summary.groups else []
    lines += [
        "",
        "Mean ± sample standard deviation (n - 1) over n seeds; no deviation where it is 0 or n is 1.",
    ]
    if summary.failed:
        lines += ["", "## Not done", "", *(f"- {line}" for line in failure_lines(summary)[1:])]
    lines += ["", "## Jobs", ""]
    for job in summary.jobs:
        lines.append(f"- {job.number}: `{' '.join(job.overrides)}` {job.status}")
        lines += [f"  - {stage}: {path}" for stage, path in job.folders.items()]
    write_whole(folder / "summary.md", "\n".join(lines) + "\n")
    write_whole(folder / "summary.csv", _csv(summary))
    rows = _results(summary)
    write_whole(folder / "results.csv", _results_csv(rows))
    if rows and importlib.util.find_spec("pyarrow") is not None:
        table = importlib.import_module("pyarrow").Table.from_pylist(rows)
        with replacing(folder / "results.parquet") as part:
            importlib.import_module("pyarrow.parquet").write_table(table, part)
    if summary.groups:
        from autoslim.reporting.figures import metric_over_seeds, save_figure  # here: a second to import

        save_figure(metric_over_seeds(summary.groups), folder / "summary.png")
    data = {
        "jobs": [dataclasses.asdict(job) for job in summary.jobs],
        "groups": [
            {**group._asdict(), "n": len(group.seeds), "measure": group.measure.name}
            for group in summary.groups
        ],
    }
    write_whole(folder / "summary.json", json.dumps(data, indent=1) + "\n")
