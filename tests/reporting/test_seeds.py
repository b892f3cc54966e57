"""The figure of a sweep: means at their costs, bars of one standard deviation, one series a method."""

import dataclasses
import json
import re

import numpy as np
import pytest

from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.reporting.figures import metric_over_seeds
from autoslim.stages import run_stages
from autoslim.sweep import Job, Summary, group_jobs, write_summary


def job(number, seed, method, top1, flops):
    row = {
        "network": method,
        "target": 0.5,
        "metric": top1,
        "flops": flops,
        "params": 7,
        "folder": f"{number}",
    }
    row |= {"measure": {"name": "top1", "label": "top-1", "title": "top-1 accuracy", "percent": True}}
    overrides = [f"seed={seed}", f"slimming={METHOD[method]}"]
    return Job(number, overrides, arch="net", dataset="digits", seed=seed, rows=[row])


METHOD = {"autoslim": "greedy", "uniform": "uniform"}
JOBS = [
    job(0, 0, "autoslim", 0.90, 100),
    job(1, 1, "autoslim", 0.94, 120),
    job(2, 0, "uniform", 0.88, 110),
    job(3, 1, "uniform", 0.90, 110),
]


def test_bars_are_standard_deviations():
    figure = metric_over_seeds(group_jobs(JOBS))
    (axes,) = figure.axes
    found = {}
    for bars in axes.containers:
        (x,), (y,) = bars.lines[0].get_data()
        (across,), (up,) = (lines.get_segments() for lines in bars.lines[2])
        found[float(x), round(float(y), 6)] = (np.ptp(across[:, 0]) / 2, np.ptp(up[:, 1]) / 2)
    first, second = np.std([100, 120], ddof=1), np.std([0.90, 0.94], ddof=1)
    np.testing.assert_allclose(found[110.0, 0.92], (first, second), atol=1e-12)
    np.testing.assert_allclose(found[110.0, 0.89], (0, np.std([0.88, 0.90], ddof=1)), atol=1e-12)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["AutoSlim", "uniform"]
    assert axes.get_title(loc="left").endswith("over seeds (n = 2)")
    (axes,) = metric_over_seeds(group_jobs(JOBS[:1])).axes
    assert axes.get_title(loc="left") == "net on digits: one seed"


def test_files_of_a_sweep(tmp_path):
    write_summary(Summary(JOBS, group_jobs(JOBS)), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names - {"results.parquet"} == {"results.csv"} | {
        f"summary.{kind}" for kind in ("md", "csv", "json", "png", "pdf", "svg")
    }
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert lines[0].startswith("job,arch,dataset,seed,network,target,metric,flops,params,folder,measure")
    assert lines[2].startswith("1,net,digits,1,autoslim,0.5,0.94,120,7,1,top1") and len(lines) == 5
    assert "summary.png" in (tmp_path / "summary.md").read_text()


def test_every_network_as_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_summary(Summary(JOBS, group_jobs(JOBS)), tmp_path)
    rows = parquet.read_table(tmp_path / "results.parquet").to_pylist()
    assert [(row["network"], row["seed"], row["metric"]) for row in rows][1:3] == [
        ("autoslim", 1, 0.94),
        ("uniform", 0, 0.88),
    ]


def test_a_comparison_of_everything_that_was_run(tmp_path, capsys):
    """Of single runs, all with number 0, and sweeps; a network that two runs share counts once."""
    output, again = (
        tmp_path / "outputs",
        dataclasses.replace(JOBS[1], overrides=["stages=[retrain]", "arch.name=net", "seed=1"]),
    )
    failed = dataclasses.replace(JOBS[0], status="failed", error="disk")
    for place, one in {"a": JOBS[0], "b": JOBS[1], "c": again, "d": failed, "sweep-1/3": JOBS[3]}.items():
        folder = output / "runs" / place
        folder.mkdir(parents=True)
        dataclasses.replace(one, number=0).write(folder)
    (tmp_path / "here").mkdir()
    run_stages(compose(["stages=[compare]", f"output={output}"]), tmp_path / "here")
    text = (tmp_path / "here" / "summary.md").read_text()
    assert text.startswith("# Everything that was run")
    for told in (text, capsys.readouterr().out):
        assert re.search(r"autoslim +\| 0.5 +\| 2 \| 92.00 ± 2.83", told)
        assert re.search(r"uniform +\| 0.5 +\| 1 \| 90.00", told)
    groups = json.loads((tmp_path / "here" / "summary.json").read_text())["groups"]
    assert [(group["network"], group["seeds"]) for group in groups] == [
        ("autoslim", [0, 1]),
        ("uniform", [1]),
    ]


def test_a_comparison_of_nothing_or_together_with_work(tmp_path):
    with pytest.raises(AutoslimError, match="holds no run that came to its end"):
        run_stages(compose(["stages=[compare]", f"output={tmp_path}"]))
    with pytest.raises(AutoslimError, match="compare alone: it gathers what was done before"):
        compose(["stages=[retrain,compare]"])
