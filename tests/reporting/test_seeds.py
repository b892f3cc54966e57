"""The figure of a sweep: means at their costs, bars of one standard deviation, one series a method."""

import numpy as np

from autoslim.reporting.figures import metric_over_seeds
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


def test_files_of_a_sweep(tmp_path):
    write_summary(Summary(JOBS, group_jobs(JOBS)), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"results.csv"} | {
        f"summary.{kind}" for kind in ("md", "csv", "json", "png", "pdf", "svg")
    }
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert lines[0].startswith("job,arch,dataset,seed,network,target,metric,flops,params,folder,measure")
    assert lines[2].startswith("1,net,digits,1,autoslim,0.5,0.94,120,7,1,top1") and len(lines) == 5
    assert "summary.png" in (tmp_path / "summary.md").read_text()
