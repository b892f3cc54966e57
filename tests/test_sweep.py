"""What a sweep says of its jobs."""

from pathlib import Path

import numpy as np

from autoslim import sweep


def row(metric: float, network: str = "uniform", folder: str = "") -> dict[str, object]:
    return {"network": network, "target": 0.5, "metric": metric, "folder": folder}


def written(folder: Path, *jobs: sweep.Job) -> sweep.Summary:
    for job in jobs:
        (folder / str(job.number)).mkdir()
        job.write(folder / str(job.number))
    return sweep.summarise(folder)


def test_means_are_over_seeds_and_a_shared_network_counts_once(tmp_path: Path) -> None:
    jobs = [
        sweep.Job(number, [f"seed={seed}"], seed=seed, rows=[row(metric, folder=f"uniform-{seed}")])
        for number, (seed, metric) in enumerate([(0, 0.5), (0, 0.5), (1, 0.9)])
    ]
    (group,) = written(tmp_path, *jobs).groups
    assert group.seeds == (0, 1)
    assert group.mean["metric"] == np.mean([0.5, 0.9])
    np.testing.assert_allclose(group.std["metric"], np.std([0.5, 0.9], ddof=1))


def test_a_sweep_without_results_says_why(tmp_path: Path) -> None:
    done = written(tmp_path, sweep.Job(0, []))
    assert sweep.table_lines(done) == [
        "No job has a result: the stages that were run test no network (baseline, retrain and uniform do)."
    ]
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "job.json").write_text("{")
    broken = sweep.summarise(tmp_path)
    assert sweep.table_lines(broken) == ["No job has a result."]
    assert [job.number for job in broken.failed] == [-1]
    assert "1 of 2 jobs are not done" in sweep.failure_lines(broken)[0]
