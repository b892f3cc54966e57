"""Stage `compare`: all networks of all runs in the output folder, in one table, gathered over seeds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from autoslim.errors import AutoslimError
from autoslim.reporting.terminal import heading, line, where
from autoslim.stages.experiment import Experiment
from autoslim.stages.record import Look
from autoslim.sweep import Job, Summary, group_jobs, read_jobs, table_lines, write_summary

TITLE = "Everything that was run"


def done_jobs(output: Path) -> list[Job]:
    """The jobs of all runs and sweeps below a folder that came to their end, numbered anew."""
    done = [job for job in read_jobs(output) if job.status == "done" and job.rows]
    return [dataclasses.replace(job, number=number) for number, job in enumerate(done)]


def run_compare(experiment: Experiment, folder: Path | None = None) -> None:
    """Print the table, and write it, a figure and every network's row.

    Args:
        experiment: of the run; only its output folder is looked at.
        folder: where the files are written; None: nowhere.

    Raises:
        AutoslimError: if no run there has come to its end.
    """
    output = Path(experiment.config.output)
    jobs = done_jobs(output)
    if not jobs:
        raise AutoslimError(
            f"output={output} holds no run that came to its end: nothing to compare. Run some first, or name "
            "their folder."
        )
    summary = Summary(jobs, group_jobs(jobs))
    heading("compare", f"{len(jobs)} runs in {output}")
    for text in table_lines(summary):
        line(text)
    if folder is not None:
        write_summary(summary, folder, TITLE)
        where({"compare": folder / "summary.md", "every network": folder / "results.csv"})


STAGE = Look("compare", run_compare)
