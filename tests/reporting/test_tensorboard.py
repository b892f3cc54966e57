"""Event files, read back."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from autoslim.reporting import figures
from autoslim.reporting.tensorboard import write_report

TOP1, LOSS = "accuracy/top1_by_flops", "accuracy/loss_by_flops"


def read(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    return {
        tag: [(e.step, tensor_util.make_ndarray(e.tensor_proto)) for e in accumulator.Tensors(tag)]
        for tag in accumulator.Tags()["tensors"]
    }


def curve(events):
    return [(step, pytest.approx(float(value))) for step, value in events]


def test_curves_widths_and_images(tmp_path, results, full, trajectory):
    images = {"search": figures.search_curve(trajectory, [0.5])}
    for _ in range(2):  # a second report takes the place of the first
        write_report(tmp_path, results, full, "flops", trajectory, images)
    supernet = read(tmp_path / "supernet")
    assert curve(supernet[TOP1]) == [
        (480, 0.87),
        (650, 0.90),
        (800, 0.91),
        (1000, 0.92),
    ]
    assert curve(supernet[LOSS]) == [(480, 0.41), (650, 0.35), (800, 0.32), (1000, 0.3)]
    assert curve(read(tmp_path / "autoslim")[TOP1]) == [(480, 0.93), (650, 0.95)]
    assert curve(read(tmp_path / "uniform")[TOP1]) == [(490, 0.94)]
    assert curve(read(tmp_path / "baseline")[TOP1]) == [(1000, 0.95)]
    search = read(tmp_path / "search")
    assert curve(search["widths/block1|conv"]) == [(0, 16), (1, 16), (2, 8), (3, 8)]
    assert curve(search["search/share"]) == [(0, 1.0), (1, 0.8), (2, 0.65), (3, 0.48)]
    (shown,) = read(tmp_path)["figures/search"]
    assert shown[1][2].startswith(b"\x89PNG")


def test_results_alone(tmp_path, results, full):
    write_report(tmp_path / "new", results, full)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["autoslim", "baseline", "uniform"]
